"""msgpack, with the rules of `payload` in both directions.

Rules:

- Bodies above 32 KiB are walked through before anything is made of them: nested arrays may claim many
  more elements than there are, and room would be made for all.
- What is written is read again: the C reader finds keys that are no text sooner than a walk could.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from math import isfinite
from typing import Any, NoReturn

import msgpack

from redis_toolkit.codecs.payload import MAX_DEPTH, MAX_PARTS, TOO_MANY, plain, reason, refuse_unfit
from redis_toolkit.codecs.protocol import start_of
from redis_toolkit.errors import DecodeError, EncodeError

__all__ = ["MsgpackCodec"]

_LARGE = 32 * 1024
_NOT_OPENING = bytes(set(range(256)) - {*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF})

_LONG_TIME = re.compile("(?:\xc7|\xc8\x00|\xc9\x00\x00\x00)[\x04\x08\x0c]\xff", re.DOTALL)
"""A time in one of the forms that name their length, which the reader takes too."""


class MsgpackCodec:
    """msgpack: smaller and faster than JSON, with binary values.

    Raises:
        EncodeError: a type outside the table, a key that is no text, NaN or infinity, a whole number
            beyond 64 bits, more than 100 levels, more than 100,000 lists and maps.
        DecodeError: anything that is not exactly one msgpack value within the same limits, an
            extension type, or a key twice in one map.

    Example:
        ```python
        MsgpackCodec().encode({"id": 7})  # b"\\x81\\xa2id\\x07"
        ```
    """

    name = "msgpack"

    def encode(self, value: Any) -> bytes:
        """Return the msgpack bytes of a payload."""
        try:
            packed: bytes = msgpack.packb(value, default=plain)
            if not _is_fit(packed):
                refuse_unfit(value)
        except EncodeError:
            raise
        except Exception as error:  # a payload's own code runs here too: properties, model_dump()
            refuse_unfit(value)
            raise EncodeError(reason(error)) from error
        return packed

    def decode(self, body: bytes) -> Any:
        """Return the value of one msgpack body."""
        try:
            return _decode(body)
        except (ValueError, TypeError, RecursionError, MemoryError, msgpack.UnpackException) as error:
            raise DecodeError(f"not msgpack ({reason(error)}), it starts with {start_of(body)}") from error


def _decode(body: bytes) -> Any:
    if len(body) > _LARGE:
        walker = msgpack.Unpacker(None, max_buffer_size=len(body))
        walker.feed(body)
        walker.skip()
    marks = body.decode("latin-1")
    openings = _openings(body)
    if openings > MAX_PARTS or _odd(marks):
        value = _Watch().read(body)
    else:
        value = msgpack.unpackb(body, ext_hook=_refuse_extension, object_pairs_hook=_checked_map)
    if openings > MAX_DEPTH:
        _refuse_depth(value)
    return value


def _is_fit(packed: bytes) -> bool:
    """Return whether a body of ours is sure to keep the rules."""
    marks = packed.decode("latin-1")
    openings = _openings(packed)
    if openings > MAX_PARTS or _odd(marks):
        try:
            value = _Watch().read(packed)
        except ValueError:
            return False
    else:
        binary = "\xc4" in marks or "\xc5" in marks or "\xc6" in marks
        hook = _checked_map if binary else None  # the C reader takes binary keys too
        value = msgpack.unpackb(packed, ext_hook=_refuse_extension, object_pairs_hook=hook)
    if openings > MAX_DEPTH:
        _refuse_depth(value)
    return True


def _odd(marks: str) -> bool:
    """Return whether there may be a float that is not finite, or a time, the one built-in extension."""
    return (  # one sign is looked for much faster than two
        ("\xcb" in marks and ("\xcb\x7f" in marks or "\xcb\xff" in marks))
        or ("\xca" in marks and ("\xca\x7f" in marks or "\xca\xff" in marks))
        or ("\xd6" in marks and "\xd6\xff" in marks)
        or ("\xd7" in marks and "\xd7\xff" in marks)
        or ("\xc7" in marks and _LONG_TIME.search(marks) is not None)
        or ("\xc8" in marks and "\xc8\x00" in marks and _LONG_TIME.search(marks) is not None)
        or ("\xc9" in marks and "\xc9\x00\x00\x00" in marks and _LONG_TIME.search(marks) is not None)
    )


def _openings(body: bytes) -> int:
    """Return how many lists and maps there are at most; 0 when there are too few bytes for many."""
    return len(body.translate(None, _NOT_OPENING)) if len(body) > MAX_DEPTH else 0


class _Watch:
    """Reads a body that may have what is refused: times, floats that are not finite, too many lists."""

    def __init__(self) -> None:
        self._parts = 0

    def read(self, body: bytes) -> Any:
        value = msgpack.unpackb(
            body, ext_hook=_refuse_extension, object_pairs_hook=self._map, list_hook=self._list
        )
        if type(value) is float or type(value) is msgpack.Timestamp:
            self._look((value,))
        return value

    def _map(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = _checked_map(pairs)
        self._look(found.values())
        return found

    def _list(self, items: list[Any]) -> list[Any]:
        self._look(items)
        return items

    def _look(self, items: Collection[Any]) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise ValueError(TOO_MANY)
        if not items:
            return
        kinds = set(map(type, items))
        if msgpack.Timestamp in kinds:
            _refuse_extension(-1, b"")
        if float in kinds and not all(isfinite(item) for item in items if type(item) is float):
            raise ValueError("a float that is not finite")


def _refuse_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if type(item) is dict:
                below += [child for child in item.values() if type(child) is dict or type(child) is list]
            elif type(item) is list:
                below += [child for child in item if type(child) is dict or type(child) is list]
        if not below:
            return
        level = below
    raise ValueError(f"nested more than {MAX_DEPTH} deep")


def _checked_map(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice in one map")
    "".join(found)  # a TypeError for a key that is no text
    return found


def _refuse_extension(code: int, _data: bytes) -> NoReturn:
    raise ValueError(f"msgpack extension type {code} is not supported")
