"""Which payloads may travel, in whatever codec, and what stands for each on the wire.

Rules, the same for every codec that writes shapes (JSON, orjson, msgpack):

- Keys of a dict are text. Whole numbers fit into 64 bits: -2**63 to 2**64 - 1. Floats are finite.
  Text has a UTF-8 form. Nothing is nested more than `MAX_DEPTH` deep, and there are at most `MAX_PARTS`
  lists and maps in all, an envelope included: empty ones cost a reader most time and memory for each byte.
- `plain` gives what an encoder does not know a form that it does.
- `refuse_unfit` finds what breaks a rule and says where it is. It is slow, and asked only when an
  encoder failed or something cheap says that a rule may be broken; it is the judge then.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import math
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

from redis_toolkit.errors import EncodeError

__all__ = [
    "MAX_DEPTH",
    "MAX_INT",
    "MAX_PARTS",
    "MIN_INT",
    "TOO_MANY",
    "UNKNOWN_TYPE",
    "plain",
    "reason",
    "refuse_unfit",
]

MAX_DEPTH = 100
MAX_PARTS = 100_000
MIN_INT, MAX_INT = -(2**63), 2**64 - 1
TOO_MANY = f"more than {MAX_PARTS:,} lists and maps: send it in several messages, or some of it as text"
UNKNOWN_TYPE = "a value of type {} has no form on the wire: turn it into a dict or text"
_SHOWN_STEPS = 12
_Place = tuple[Any, str]
"""Where a value is: the place of what holds it (None at the top), and the step from there."""


def _is_decimal(value: Any) -> bool:
    """Whether it is a `Decimal`; whose module takes a millisecond to import, and who has one has done so."""
    module = sys.modules.get("decimal")
    return module is not None and isinstance(value, module.Decimal)


def plain(value: Any) -> Any:
    """Return a value that an encoder knows for one that it does not, or raise TypeError."""
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, uuid.UUID) or _is_decimal(value):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dump(mode="json")
    raise TypeError(_way_out(value).format(type(value).__name__))


def _way_out(value: Any) -> str:
    if isinstance(value, Awaitable):
        return "a value of type {} was not awaited: write `await` in front of it, as in `return await ...`"
    if isinstance(value, Iterator | AsyncIterator):
        return "a value of type {} has no form on the wire: make a list of it"
    return UNKNOWN_TYPE


def reason(error: BaseException) -> str:
    """Return what an error says, on one line; its type when it says nothing."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply, or holds itself"
    return " ".join(str(error).split()) or type(error).__name__


def refuse_unfit(value: Any) -> None:
    """Raise an `EncodeError` that names the first thing in a payload that may not travel, if there is one."""
    waiting: list[tuple[Any, Any, int]] = [(value, None, 1)]
    parts = 0
    while waiting:
        item, place, depth = waiting.pop()
        try:
            inside = list(_inside(item))
        except Exception as error:  # a payload's own code runs here: properties, model_dump()
            raise EncodeError(f"{_shown(place)}: {reason(error)}") from error
        is_part = isinstance(item, dict | list | tuple | set | frozenset)
        parts += is_part
        if depth > MAX_DEPTH and (inside or is_part):
            raise EncodeError(f"{_shown(place)}: it is nested more than {MAX_DEPTH} deep, or holds itself")
        if parts > MAX_PARTS:
            raise EncodeError(f"data: {TOO_MANY}")
        waiting += [
            (child, place if step is None else (place, step), depth + (step is not None))
            for step, child in reversed(inside)
        ]


def _inside(item: Any) -> Iterator[tuple[str | None, Any]]:
    """Yield what a value holds, each with the step to it; None when it stands in for the value itself."""
    if item is None or isinstance(item, bool | bytes | bytearray | memoryview):
        return
    if isinstance(item, str):
        item.encode("utf-8")
    elif isinstance(item, int):
        if not MIN_INT <= item <= MAX_INT:
            raise ValueError(f"a whole number of {item.bit_length()} bits, the limit is 64: send it as text")
    elif isinstance(item, float):
        if not math.isfinite(item):
            raise ValueError(f"{item!r} has no form on the wire: send None or text")
    elif type(item).__module__.partition(".")[0] == "msgpack":  # its extension types
        raise TypeError(UNKNOWN_TYPE.format(type(item).__name__))
    elif isinstance(item, dict):
        for key, child in item.items():
            yield f"[{_checked_key(key)}]", child
    elif isinstance(item, list | tuple):
        yield from ((f"[{number}]", child) for number, child in enumerate(item))
    elif isinstance(item, set | frozenset):
        yield from (("{...}", child) for child in item)
    else:
        yield None, plain(item)


def _checked_key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"the key {ascii(key)[:60]} is no text: use str() on the keys of a dict")
    key.encode("utf-8")
    return ascii(key) if len(key) <= 60 else ascii(key[:60]) + "..."


def _shown(place: _Place | None) -> str:
    steps = []
    while place is not None:
        place, step = place
        steps.append(step)
    steps.reverse()
    return "data" + "".join(steps[:_SHOWN_STEPS]) + ("..." if len(steps) > _SHOWN_STEPS else "")
