"""Redis's glob patterns, matched here exactly as the server matches them.

Rules: a port of the behaviour of the server's ``stringmatchlen``, over bytes, including what it does
with patterns that are not well formed. `fnmatch` differs (``[!a]``, escapes, case), so it is not
used. A test compares this module with real servers on random patterns.

Syntax: ``*`` any bytes, ``?`` one byte, ``[abc]`` ``[a-z]`` ``[^a]`` one byte of a set, ``\\`` the next
byte as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from redis_toolkit.message import ExactChannel

__all__ = ["is_glob", "matches", "rank"]


def is_glob(channel: str) -> bool:
    """Return whether a registered name is a glob: it has ``*``, ``?`` or ``[`` and is no `ExactChannel`."""
    return not isinstance(channel, ExactChannel) and any(sign in channel for sign in "*?[")


def matches(glob: bytes, name: bytes) -> bool:
    """Return whether the server would deliver a message on channel ``name`` to ``PSUBSCRIBE glob``."""
    if not name:
        return not glob
    return _compiled(glob).fullmatch(name) is not None


def rank(channel: str, globs: Sequence[str]) -> list[str]:
    """Return those globs that match a channel, best first: the longest literal prefix, then by name."""
    name = channel.encode("utf-8", "surrogatepass")
    fitting = [glob for glob in globs if matches(glob.encode("utf-8", "surrogatepass"), name)]
    return sorted(fitting, key=lambda glob: (-_literal_prefix(glob), glob))


def _literal_prefix(glob: str) -> int:
    found = re.search(r"[*?\[\\]", glob)
    return found.start() if found else len(glob)


@lru_cache(maxsize=4096)
def _compiled(glob: bytes) -> re.Pattern[bytes]:
    """Return the regular expression of a glob.

    Each ``*`` takes the earliest place where the fixed piece behind it fits, in an atomic group: that
    is right for globs, and keeps the matching linear for every star instead of exponential.
    """
    pieces: list[bytes] = [b""]
    for token in _tokens(glob):
        if token == b"*":
            pieces.append(b"")
        else:
            pieces[-1] += token
    first, *middle = pieces
    if not middle:
        return re.compile(first, re.DOTALL)
    last = middle.pop()
    body = b"".join(b"(?>.*?" + piece + b")" for piece in middle)
    return re.compile(first + body + b".*" + last, re.DOTALL)


def _tokens(glob: bytes) -> Iterator[bytes]:
    """Yield ``b"*"`` for a star and a regular expression of one byte for everything else."""
    place = 0
    while place < len(glob):
        sign = glob[place : place + 1]
        if sign == b"*":
            yield b"*"
        elif sign == b"?":
            yield b"."
        elif sign == b"[":
            place, expression = _set(glob, place + 1)
            yield expression
        else:
            if sign == b"\\" and place + 1 < len(glob):
                place += 1
            yield re.escape(glob[place : place + 1])
        place += 1


def _set(glob: bytes, place: int) -> tuple[int, bytes]:
    """Return where a ``[...]`` ends, and its regular expression; one that never ends runs to the end."""
    inverted = glob[place : place + 1] == b"^"
    place += inverted
    allowed: set[int] = set()
    while place < len(glob):
        left = len(glob) - place
        if left >= 2 and glob[place] == 0x5C:
            place += 1
            allowed.add(glob[place])
        elif glob[place] == 0x5D:
            break
        elif left >= 3 and glob[place + 1] == 0x2D:
            allowed |= _range(glob[place], glob[place + 2])
            place += 2
        else:
            allowed.add(glob[place])
        place += 1
    members = set(range(256)) - allowed if inverted else allowed
    if not members:
        return place, b"(?!)"
    return place, b"[" + b"".join(b"\\x%02x" % byte for byte in sorted(members)) + b"]"


def _range(start: int, end: int) -> set[int]:
    """Return the bytes between two others, in the order of signed chars, as the server has it."""

    def signed(byte: int) -> int:
        return byte - 256 if byte > 127 else byte

    low, high = sorted((signed(start), signed(end)))
    return {value % 256 for value in range(low, high + 1)}
