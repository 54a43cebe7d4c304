"""The messages of rooms: what stands in field ``b`` of an entry, and what is published. This is wire format.

Rules:

- Always JSON, whatever codec the app has: a map with ``type``, ``user`` and ``text``, and what its sender
  added. In the log it has no id, as that is the entry's.
- Published, and handed out, it begins with ``id`` and ``timestamp`` (seconds), made of the entry: whoever
  reads the log gets what a listener got.
- What was published by hand is handed out too if it is a map. It has an id only if it begins as ours do.
- Whatever cannot be read is one `DecodeError`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from redis_toolkit.codecs import JSONCodec
from redis_toolkit.errors import ConfigurationError, DecodeError, PayloadTooLarge

__all__ = [
    "FIRST",
    "RESERVED",
    "Id",
    "before",
    "id_of",
    "own_copy",
    "read_entry",
    "read_map",
    "read_published",
    "text_of_id",
    "whose_presence",
    "write_map",
    "write_message",
]

Id = tuple[int, int]
"""An id as it is compared: ms and number."""
FIRST: Id = (0, 0)
RESERVED = frozenset({"id", "timestamp", "type", "user", "text", "client_id", "to", "reason"})
"""Fields that are ours."""
HEAD = 80
"""Bytes that the id and the timestamp take in what is published."""
_OURS = re.compile(rb'\{"id":"(\d{1,20})-(\d{1,20})","timestamp":')
_ID = re.compile(r"(\d{1,20})-(\d{1,20})")
_JSON = JSONCodec()


def write_message(fields: dict[str, Any], extra: Mapping[str, Any], limit: int) -> bytes:
    """Return the body of a message, without its id.

    Raises:
        ConfigurationError: something extra has the name of a field of ours, or nearly so.
        EncodeError: it cannot be written as JSON.
        PayloadTooLarge: it is over the limit.
    """
    taken = RESERVED.intersection(extra)
    if taken:
        raise ConfigurationError(f"{', '.join(sorted(taken))}: that is a field which every message has")
    near = [name for name in extra if name.strip("_").casefold() in RESERVED]
    if near:
        raise ConfigurationError(
            f"{', '.join(sorted(near))}: a message has {near[0].strip('_').casefold()!r} already: did you "
            "mean that? What you add needs another name"
        )
    return _within(_JSON.encode({**fields, **extra}), limit, "this message")


def write_map(fields: Mapping[str, Any], limit: int, what: str) -> bytes:
    """Return a map as JSON.

    Raises:
        EncodeError: it cannot be written as JSON.
        PayloadTooLarge: it is over the limit.
    """
    return _within(_JSON.encode(dict(fields)), limit, what)


def _within(body: bytes, limit: int, what: str) -> bytes:
    if len(body) + HEAD > limit:
        raise PayloadTooLarge(
            f"{what} has {len(body):,} bytes and the limit is {limit - HEAD:,}: "
            "send a reference to the data instead, or raise max_payload= on both sides"
        )
    return body


def read_map(body: bytes) -> Any:
    """Return what JSON says; raises `DecodeError`."""
    return _JSON.decode(body)


def read_published(body: bytes, limit: int) -> tuple[Id | None, dict[str, Any]]:
    """Return the id of what was published, if it has one of ours, and the message.

    Raises:
        DecodeError: no map, or too large.
    """
    message = _read_message(body, limit)
    ours = _OURS.match(body)
    return (None if ours is None else (int(ours[1]), int(ours[2]))), message


def read_entry(entry: bytes, body: bytes, limit: int) -> dict[str, Any]:
    """Return the message of an entry.

    Raises:
        DecodeError: no map, or too large.
    """
    message = _read_message(body, limit)
    text = entry.decode("ascii")
    for name in ("id", "timestamp"):
        message.pop(name, None)
    return {"id": text, "timestamp": id_of(text)[0] / 1000, **message}


def _read_message(body: bytes, limit: int) -> dict[str, Any]:
    if len(body) > limit:
        raise DecodeError(f"a message of {len(body):,} bytes, the limit is {limit:,} (max_payload=)")
    message = _JSON.decode(body)
    if type(message) is not dict:
        raise DecodeError(f"a message of a room is a map, not {type(message).__name__}")
    return message


def id_of(text: object, name: str = "id") -> Id:
    """Return the id that a text is.

    Raises:
        ConfigurationError: it is none.
    """
    found = _ID.fullmatch(text) if isinstance(text, str) else None
    if found is None or max(int(found[1]), int(found[2])) >= 2**64:
        raise ConfigurationError(
            f"{name}={ascii(text)[:80]} is no id of a message, such as '1700000000000-0'"
        )
    return int(found[1]), int(found[2])


def whose_presence(message: Mapping[str, Any]) -> object:
    """Return who comes, goes or types, if that is what a message tells: that user does not hear it."""
    return message.get("user") if message.get("type") in ("join", "leave", "typing") else None


def before(id: Id) -> Id:
    """Return the id that is just before another one."""
    ms, number = id
    return (ms, number - 1) if number else (ms - 1, 2**64 - 1)


def own_copy(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a message that whoever gets it may change."""
    copied = dict(message)
    for name, value in message.items():
        if type(value) is dict or type(value) is list:
            copied[name] = copy.deepcopy(value)
    return copied


def text_of_id(id: Id) -> str:
    """Return an id as its text."""
    return f"{id[0]}-{id[1]}"
