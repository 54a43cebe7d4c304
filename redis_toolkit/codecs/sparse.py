"""Payloads of few values in many bytes, such as a long text: their values are looked at instead of the bytes.

Rules:

- A value may be said to keep the rules of `payload` only if it does; a doubt may be wrong.
- Looking stops at one value for each `BYTES_EACH` bytes: from there on the bytes are looked at faster.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

from redis_toolkit.codecs.payload import MAX_DEPTH, MAX_INT, MIN_INT

__all__ = ["SPARSE", "may_be_sparse", "may_have_few_values", "strings_in"]

SPARSE = 512
"""Bytes from which it is worth to try."""
BYTES_EACH, BYTES_A_COMMA = 64, 16
_FEW, _MOST = 8, 50_000


def may_be_sparse(body: bytes) -> bool:
    """Return whether a text of JSON, of more than `SPARSE` bytes, has few strings for its length."""
    return body.count(b'"') < _FEW + len(body) // BYTES_EACH


def may_have_few_values(body: bytes) -> bool:
    """Return whether a text that `may_be_sparse` has few commas too, as far as its first quarter shows.

    Else it would be decoded only to find that there are too many values to look at.
    """
    quarter = len(body) // 4
    return body.count(b",", 0, quarter) < _FEW + quarter // BYTES_A_COMMA


def strings_in(value: Any, size: int) -> int | None:
    """Return how many texts a plain value has, keys included; None when there is a doubt about it.

    Args:
        value: what was decoded, or will be encoded.
        size: how many bytes it has, which says how many values are looked at.
    """
    room = min(_FEW + size // BYTES_EACH, _MOST)
    strings, level = 0, [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str:
                strings += 1
            elif kind is dict:
                below += item.values()
                strings += len(item)
                if any(type(key) is not str for key in item):
                    return None
            elif kind is list:
                below += item
            elif kind is int:
                if not MIN_INT <= item <= MAX_INT:
                    return None
            elif kind is float:
                if not isfinite(item):
                    return None
            elif item is not None and kind is not bool:
                return None
            if len(below) > room:
                return None
        if not below:
            return strings
        room -= len(below)
        level = below
    return None
