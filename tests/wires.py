"""Wires with each codec, and what tests of the wire format share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import strategies as st

from redis_toolkit.codecs import Codec, JSONCodec, MsgpackCodec, TextCodec
from redis_toolkit.errors import DecodeError
from redis_toolkit.wire import Wire
from tests.payloads import text

LIMIT = 10_000
KEY = "rt:c:{orders}:reply:7"


class Reversed:
    """A codec of one's own: opaque to the wire."""

    def encode(self, value: Any) -> bytes:
        return json.dumps(value).encode()[::-1]

    def decode(self, body: bytes) -> Any:
        return json.loads(body[::-1])


class Broken:
    name = "broken"

    def encode(self, value: Any) -> bytes:
        if value == "text":
            return "no bytes"  # type: ignore[return-value]
        raise KeyError("encode")

    def decode(self, body: bytes) -> Any:
        raise ZeroDivisionError("decode\nin two lines")


def wire(codec: Codec, limit: int = LIMIT) -> Wire:
    return Wire(codec, limit)


JSON, MSGPACK, TEXT, OWN = (wire(codec) for codec in (JSONCodec(), MsgpackCodec(), TextCodec(), Reversed()))
NATIVE = pytest.mark.parametrize("ours", [JSON, MSGPACK], ids=["json", "msgpack"])
READERS = pytest.mark.parametrize("reader", [JSON, MSGPACK, OWN], ids=["json", "msgpack", "own"])
EVERY = pytest.mark.parametrize("ours", [JSON, MSGPACK, TEXT, OWN], ids=["json", "msgpack", "text", "own"])

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text | st.just("rt"), inner, max_size=4),
    max_leaves=10,
)


def as_map(body: bytes) -> dict[str, Any]:
    """Read an envelope as a client in another language would."""
    found = msgpack.unpackb(body) if body[0] >= 0x80 else json.loads(body)
    assert isinstance(found, dict)
    return found


def writers(ours: Wire) -> list[Callable[[Any], bytes]]:
    """Return each way to write a payload."""

    def request(data: Any) -> bytes:
        return ours.request("7", KEY, data)

    def reply(data: Any) -> bytes:
        return ours.reply("7", data)

    return [ours.live, request, reply]


def complaint(read: Callable[[bytes], Any], body: bytes) -> str:
    """Return what a `DecodeError` says when a body is read; empty when it can be read. Others are raised."""
    try:
        read(body)
    except DecodeError as error:
        return str(error)
    return ""
