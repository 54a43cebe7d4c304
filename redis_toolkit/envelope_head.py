"""Finds whose a message is when it is too large to be read: its id and address, from its first bytes.

Rules: only the first `LOOKED_AT` bytes are looked at; what cannot be read from them is not known. A
writer that puts ``id`` and ``reply_to`` first, as `wire` does, is always understood.
"""

from __future__ import annotations

import json
import re

import msgpack

__all__ = ["head_of"]

LOOKED_AT = 4096
_MOST_FIELDS = 8
_FIELD = re.compile(rb'\s*[{,]\s*("(?:[^"\\]|\\.)*")\s*:\s*("(?:[^"\\]|\\.)*"|true|[0-9]{1,9})')


def head_of(body: bytes) -> dict[str, object]:
    """Return the fields at the start of an envelope, as far as they are text or other plain values."""
    start = body[:LOOKED_AT]
    try:
        return _msgpack_head(start) if start[:1] >= b"\x80" else _json_head(start)
    except (ValueError, TypeError, MemoryError, RecursionError):
        return {}


def _json_head(start: bytes) -> dict[str, object]:
    fields: dict[str, object] = {}
    at = 0
    while len(fields) < _MOST_FIELDS and (found := _FIELD.match(start, at)):
        fields[json.loads(found[1])] = json.loads(found[2])
        at = found.end()
    return fields


def _msgpack_head(start: bytes) -> dict[str, object]:
    fields: dict[str, object] = {}
    reader = msgpack.Unpacker(None, max_buffer_size=LOOKED_AT)  # room is made for what a list claims to have
    reader.feed(start)
    try:
        for _ in range(min(reader.read_map_header(), _MOST_FIELDS)):
            name = reader.unpack()
            if name == "data":
                break
            fields[str(name)] = reader.unpack()
    except (ValueError, TypeError, MemoryError, RecursionError, msgpack.UnpackException):
        pass  # the rest of the message is further on, or no msgpack
    return fields
