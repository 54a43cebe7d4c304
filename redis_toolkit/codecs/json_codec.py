"""JSON by the standard library, with the rules of `payload` in both directions.

Rules:

- The C encoder and scanner of `json` do the work. What they let through (keys that are no text, long
  numbers, duplicate keys, depth) is looked for in the text (`json_text`), and closely only in doubt.
- Most messages are small and leave no doubt. They are read and written by one function each, without a
  call of another of ours; whatever they do not answer is answered by the general way, errors included.
- A duplicate key makes the text have more keys than the value: no hook is needed to notice it.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NoReturn

from redis_toolkit.codecs.json_text import (
    CONSTANT_KEY,
    DEEP,
    EXPONENT,
    KEY_MARKS,
    LONG,
    MANY,
    MARKS,
    NUMBER_KEY,
    SPACE,
    exponent_in_doubt,
    half_a_pair,
    has_too_many_parts,
    key_in_doubt,
    long_number_in_doubt,
    marks_of,
    structure,
)
from redis_toolkit.codecs.payload import MAX_DEPTH, MAX_INT, MIN_INT, TOO_MANY, plain, reason, refuse_unfit
from redis_toolkit.codecs.protocol import start_of
from redis_toolkit.codecs.sparse import SPARSE, may_be_sparse, may_have_few_values, strings_in
from redis_toolkit.errors import DecodeError, EncodeError

__all__ = ["TOO_DEEP", "JSONCodec", "plain_json", "quoted"]

quoted: Callable[[str], str] = json.encoder.encode_basestring
"""Writes a text as JSON."""
TOO_DEEP = f"nested more than {MAX_DEPTH} deep"
_FEW_KEYS = 16
_SPACE = " \t\r\n"
_UNREAD = object()


def plain_json(value: Any) -> Any:
    """Return what `plain` does; of bytes, which JSON does not have, base64 text."""
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    return plain(value)


class JSONCodec:
    """UTF-8 JSON, the default: readable in ``redis-cli`` and by every other language.

    Raises:
        EncodeError: a type outside the table, a key that is no text, NaN or infinity, a whole number
            beyond 64 bits, more than 100 levels, more than 100,000 lists and maps.
        DecodeError: anything that is not one JSON value in UTF-8 within the same limits, or has a key
            twice in one object.

    Example:
        ```python
        JSONCodec().encode({"id": 7})  # b'{"id":7}'
        ```
    """

    name = "json"

    def __init__(self) -> None:
        encoder = json.JSONEncoder(
            default=plain_json, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        self._write = _c_encoder(encoder) or encoder.encode
        self._plain = json.JSONDecoder(parse_constant=_refuse_constant)
        self._scan: Callable[[str, int], tuple[Any, int]] = self._plain.scan_once  # type: ignore[attr-defined]
        self._keys = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_checked_object)
        self._floats = json.JSONDecoder(
            parse_constant=_refuse_constant, parse_float=_checked_float, object_pairs_hook=_checked_object
        )
        self._numbers = json.JSONDecoder(
            parse_constant=_refuse_constant,
            parse_int=_checked_int,
            parse_float=_checked_float,
            object_pairs_hook=_checked_object,
        )
        self._counting: list[_CountingDecoder] = []

    def encode(self, value: Any) -> bytes:
        """Return the JSON text of a payload as UTF-8."""
        try:
            body = self._write(value).encode("utf-8")
        except Exception as error:  # a payload's own code runs here too: properties, model_dump()
            refuse_unfit(value)
            raise EncodeError(reason(error)) from error
        if not _is_clear(body):
            self._check(value, body)
        return body

    def encode_envelope(self, head: str, data: Any) -> bytes:
        """Return an object whose last field is the payload.

        Args:
            head: its text up to the payload, as in ``{"id":"7","data":``.
            data: the payload.

        Raises:
            EncodeError: as `encode`. What is wrong with the payload by itself is named by encoding that.
        """
        try:
            body = f"{head}{self._write(data)}}}".encode()
        except Exception as error:  # as in `encode`
            raise EncodeError(reason(error)) from error
        if not _is_clear(body):
            self._check({"data": data}, body)
        return body

    def _check(self, value: Any, body: bytes) -> None:
        """Refuse a value whose text breaks a rule."""
        if len(body) > SPARSE and may_be_sparse(body) and strings_in(value, len(body)) is not None:
            return
        marks = marks_of(body)
        if (
            key_in_doubt(marks)
            or (LONG in marks and long_number_in_doubt(marks))
            or (len(body) > DEEP and marks.count("[") > MAX_DEPTH and structure(body)[1] > MAX_DEPTH)
            or (len(body) > MANY and has_too_many_parts(body))
        ):
            refuse_unfit(value)

    def decode(self, body: bytes) -> Any:
        """Return the value of a JSON text."""
        if len(body) <= SPARSE:
            try:
                text = body.decode("utf-8")
                marks = body.translate(MARKS, SPACE).decode("latin-1")
                if (
                    (LONG not in marks or not long_number_in_doubt(marks))
                    and (EXPONENT not in marks or not exponent_in_doubt(marks))
                    and ("\\" not in text or not half_a_pair(text))
                ):
                    value, end = self._scan(text, 0)
                    missing = keys = marks.count('":')
                    if type(value) is dict:  # mostly an object, or an envelope around one
                        missing -= len(value)
                        if missing and type(data := value.get("data")) is dict:
                            missing -= len(data)
                    if (
                        end == len(text)
                        and (not missing or _has_keys(value, keys))
                        and (end <= DEEP or marks.count("[") <= MAX_DEPTH)
                    ):
                        return value
            except (ValueError, StopIteration, RecursionError):
                pass  # it is read again, for the reason
        try:
            return self._decode(body)
        except (ValueError, RecursionError, MemoryError) as error:
            raise self._refused(body, error) from error

    def _refused(self, body: bytes, error: BaseException) -> DecodeError:
        return DecodeError(
            f'not JSON ({reason(error)}), it starts with {start_of(body)}; for plain text use codec="text"'
        )

    def _decode(self, body: bytes) -> Any:
        if len(body) > MANY and has_too_many_parts(body):
            raise ValueError(TOO_MANY)
        text, value = body.decode("utf-8"), _UNREAD
        if _is_worth_a_look(body):
            with suppress(ValueError):  # looking closely gives the reason
                value = _read(self._plain, text)
                strings = strings_in(value, len(body))
                if strings is not None and body.count(b'"') == 2 * strings:  # all that are there came out
                    return _with_whole_text(value, text)
        marks = marks_of(body)
        keys = marks.count('":')
        long = LONG in marks and long_number_in_doubt(marks)
        if long or (EXPONENT in marks and exponent_in_doubt(marks)):
            value = None  # its memory goes first
            value = _read(self._numbers if long else self._floats, text)
        elif keys <= _FEW_KEYS:
            if value is _UNREAD:
                value = _read(self._plain, text)
            if keys and not _has_keys(value, keys):
                value = _read(self._keys, text)
        else:
            value = None
            value, found = self._count(text)
            if found != structure(body)[0]:
                value = _read(self._keys, text)
        if len(body) > DEEP and marks.count("[") > MAX_DEPTH and structure(body)[1] > MAX_DEPTH:
            raise ValueError(TOO_DEEP)
        return _with_whole_text(value, text)

    def _count(self, text: str) -> tuple[Any, int]:
        """Decode a text; also return how many keys the objects have that came out of it."""
        try:
            decoder = self._counting.pop()  # nobody else has it meanwhile
        except IndexError:
            decoder = _CountingDecoder()
        try:
            return _read(decoder, text.strip(_SPACE)), sum(decoder.counts)
        finally:
            decoder.counts.clear()
            self._counting.append(decoder)


class _CountingDecoder(json.JSONDecoder):
    """A decoder that notes how many keys each object has."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        note = self.counts.append

        def count(found: dict[str, Any]) -> dict[str, Any]:
            note(len(found))
            return found

        super().__init__(parse_constant=_refuse_constant, object_hook=count)


def _is_worth_a_look(body: bytes) -> bool:
    """Return whether a text may be settled by the values that come out of it."""
    return (
        len(body) > SPARSE
        and may_be_sparse(body)
        and may_have_few_values(body)
        and (b"\\" not in body or b'\\"' not in body)
    )


def _is_clear(body: bytes) -> bool:
    """Return whether a text that was written is small and breaks no rule, seen at a glance."""
    if len(body) > SPARSE:
        return False
    marks = body.translate(KEY_MARKS).decode("latin-1")
    return (
        LONG not in marks
        and NUMBER_KEY not in marks
        and CONSTANT_KEY not in marks
        and (len(body) <= DEEP or marks.count("[") <= MAX_DEPTH)
    )


def _read(decoder: json.JSONDecoder, text: str) -> Any:
    """Decode text without white space around it, as most is; the decoder does the rest."""
    try:
        value, end = decoder.scan_once(text, 0)  # type: ignore[attr-defined]
    except StopIteration:
        return decoder.decode(text)
    return value if end == len(text) else decoder.decode(text)


def _with_whole_text(value: Any, text: str) -> Any:
    """Return a value whose text has a UTF-8 form: escapes may be halves of surrogate pairs."""
    if half := half_a_pair(text):
        raise ValueError(f"{half} is half of a character: surrogates come in pairs")
    return value


def _has_keys(value: Any, wanted: int) -> bool:
    """Return whether a value has as many keys in all; it stops as soon as they are found."""
    waiting = [value]
    for item in waiting:
        if type(item) is dict:
            wanted -= len(item)
            if wanted <= 0:
                return wanted == 0
        waiting += _children(item)
    return False


def _children(value: Any) -> Iterable[Any]:
    if type(value) is dict:
        return value.values()
    return value if type(value) is list else ()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _checked_int(digits: str) -> int:
    if len(digits) < len(LONG):
        return int(digits)
    if len(digits) > 20 or not MIN_INT <= (number := int(digits)) <= MAX_INT:
        raise ValueError("a whole number beyond 64 bits")
    return number


def _checked_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number beyond what a float holds")
    return number


def _checked_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {ascii(twice)[:60]} is there twice in one object")
    return found


def _c_encoder(encoder: json.JSONEncoder) -> Callable[[Any], str] | None:
    """Return the C encoder that `json` makes anew for each call, made once; None where there is none.

    It does without the list of containers that are being written: a circular structure ends in a
    RecursionError instead of a ValueError.
    """
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return None
    text = json.encoder.encode_basestring
    write = make(None, encoder.default, text, None, ":", ",", False, False, False)
    return lambda value: "".join(write(value, 0))
