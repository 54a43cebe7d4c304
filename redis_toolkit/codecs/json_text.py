"""What the text of JSON tells about itself without being parsed.

Rules:

- Everything here runs on each message, so it is translate, count and ``in``: a few hundred
  nanoseconds for a small body, where a hook for each value would double the time of decoding.
- A doubt may be wrong, the absence of one may not: a body without a doubt keeps the rules of
  `payload`. Who doubts looks closely; nothing is refused for a doubt.
"""

from __future__ import annotations

import re
from array import array
from itertools import accumulate

from redis_toolkit.codecs.payload import MAX_DEPTH, MAX_PARTS

__all__ = [
    "CONSTANT_KEY",
    "DEEP",
    "EXPONENT",
    "KEY_MARKS",
    "LONG",
    "MANY",
    "MARKS",
    "NUMBER_KEY",
    "SPACE",
    "exponent_in_doubt",
    "half_a_pair",
    "has_too_many_parts",
    "key_in_doubt",
    "long_number_in_doubt",
    "marks_of",
    "structure",
]

LONG = "0" * 19
"""In the marks of a text without it, all whole numbers fit into 64 bits."""
EXPONENT = "0e000"
"""In the marks of a text without it, all floats are finite."""
DEEP = 2 * MAX_DEPTH
"""Bytes up to which a text cannot be nested more than `MAX_DEPTH` deep."""
MANY = 2 * MAX_PARTS
"""Bytes up to which a text cannot have more than `MAX_PARTS` lists and maps."""

MARKS, SPACE = bytes.maketrans(b"123456789E{", b"000000000e["), b"+ \t\r\n"
"""What `marks_of` translates and removes, for who saves the call: a byte is written for its kind."""
KEY_MARKS = bytes.maketrans(b"123456789ruse{", b"000000000llll[")
"""Other marks, for a text that was written without spaces."""
NUMBER_KEY, CONSTANT_KEY = '0":', 'lll":'
"""In those marks, how keys end of which `json` made text: a number; true, false and null."""
_LONGER, _LONG_NEGATIVE = "0" * 20, "-" + "0" * 19
_NUMBER_KEY = re.compile(r'"-?0[0e.-]*":')
_LARGE_FLOAT = re.compile(r"[\[,:]-?0[0.]*e000")
_HALF_A_PAIR = re.compile(
    r"\\u[dD](?:[89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..\\u[dD])[c-fC-F]..)", re.DOTALL
)
_SQUARE = bytes.maketrans(b"{}", b"[]")
_STEPS = bytes.maketrans(b"[]", b"\x01\xff")
_STRUCTURE = bytes(set(range(256)) - set(b'{}[]":'))


def marks_of(body: bytes) -> str:
    """Return the text with 0 for each digit, e for E and [ for {, without white space and +."""
    return body.translate(MARKS, SPACE).decode("latin-1")


def long_number_in_doubt(marks: str) -> bool:
    """Return whether there may be a whole number beyond 64 bits; asked only of marks with `LONG` in them."""
    return _LONGER in marks or _LONG_NEGATIVE in marks


def exponent_in_doubt(marks: str) -> bool:
    """Return whether there may be an infinite float; asked only of marks with `EXPONENT` in them.

    Those have many texts in hex. A number stands at the start, or after a sign that says so.
    """
    return marks[:1] in ("0", "-") or _LARGE_FLOAT.search(marks) is not None


def key_in_doubt(marks: str) -> bool:
    """Return whether there may be a key that was no text before `json` made text of it."""
    return (
        ('0":' in marks and _NUMBER_KEY.search(marks) is not None)
        or '"true":' in marks
        or '"false":' in marks
        or '"null":' in marks
    )


def half_a_pair(text: str) -> str:
    """Return the first escape in a text of JSON that is half of a surrogate pair without the other half.

    This is no doubt: a text that is valid JSON has escapes in its strings only. Empty when there is none.
    """
    if "\\" not in text or ("\\ud" not in text and "\\uD" not in text):
        return ""
    found = _HALF_A_PAIR.search(text.replace("\\\\", "__"))
    return found[0] if found is not None else ""


def has_too_many_parts(body: bytes) -> bool:
    """Return whether a text has more than `MAX_PARTS` lists and maps, if it is valid JSON."""
    if body.count(b"[") + body.count(b"{") <= MAX_PARTS:
        return False
    bare = _bare(body)
    return bare.count(b"[") + bare.count(b"{") > MAX_PARTS


def structure(body: bytes) -> tuple[int, int]:
    """Return the number of keys and the depth (at most ``MAX_DEPTH + 1``) of a text that is valid JSON."""
    bare = _bare(body)
    return bare.count(b":"), _depth(bare.translate(_SQUARE, b":"))


def _bare(body: bytes) -> bytes:
    """Return the brackets and colons of a text that are not inside its strings."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    quoted = body.translate(None, _STRUCTURE)
    # A string without any of these signs in it has become two quotes. When all quotes go with them, each
    # run of quotes was an even one, so that no sign that is left was inside a string.
    bare = quoted.replace(b'""', b"")
    if b'"' in bare:
        bare = b"".join(quoted.split(b'"')[::2])
    return bare


def _depth(brackets: bytes) -> int:
    """Peel the innermost brackets off, again and again; what is still there after some is counted."""
    for peeled in range(8):
        if not brackets:
            return peeled
        brackets = brackets.replace(b"[]", b"")
    steps = array("b", brackets.translate(_STEPS))
    return min(max(accumulate(steps), default=0) + 8, MAX_DEPTH + 1)
