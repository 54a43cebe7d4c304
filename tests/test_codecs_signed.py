"""Signed payloads: only what one of the keys has signed is read, in each direction."""

from __future__ import annotations

from typing import Any

import pytest

from redis_toolkit import ConfigurationError, DecodeError, SignedCodec
from redis_toolkit.codecs import codec_name
from redis_toolkit.wire import Reply, UnreadableEnvelope
from tests.wires import JSON, KEY, MSGPACK, wire

NEW, OLD, OTHER = "new" * 8, b"old" * 8, "other" * 8


@pytest.mark.parametrize("inner", ["json", "orjson", "msgpack", "text"])
def test_what_was_signed_is_read(inner: str) -> None:
    codec = SignedCodec(inner, NEW)
    assert codec.decode(codec.encode("hello")) == "hello"


def test_every_key_is_accepted_and_the_first_signs() -> None:
    changing, behind = SignedCodec("json", NEW, OLD), SignedCodec("json", OLD)
    assert changing.decode(behind.encode([1])) == [1]
    with pytest.raises(DecodeError, match="no valid signature"):
        behind.decode(changing.encode([1]))


def test_a_change_of_any_bit_is_noticed() -> None:
    codec = SignedCodec("json", NEW)
    body = codec.encode({"a": 1})
    for place in range(len(body) * 8):
        forged = bytearray(body)
        forged[place // 8] ^= 1 << place % 8
        with pytest.raises(DecodeError, match="no valid signature"):
            codec.decode(bytes(forged))
    for end in range(len(body)):
        with pytest.raises(DecodeError):
            codec.decode(body[:end])


def test_json_and_orjson_have_one_name() -> None:
    names = {codec_name(SignedCodec(inner, NEW)) for inner in ("json", "orjson")}
    assert names == {"signed-json"}


def test_keys_are_long_and_not_shown() -> None:
    for key in ("short", b"short", 7):
        with pytest.raises(ConfigurationError, match="16 bytes"):
            SignedCodec("json", key)  # type: ignore[arg-type]
    assert NEW not in repr(SignedCodec("json", NEW))


@pytest.mark.parametrize("payload", [{"a": [1]}, None, 7])
def test_only_signed_messages_are_taken(payload: Any) -> None:
    ours, theirs = wire(SignedCodec("json", NEW)), wire(SignedCodec("json", OTHER))
    assert ours.read_live(ours.live(payload)) == (payload, {})
    assert ours.read_live(ours.live(payload, {"a": "b"})) == (payload, {"a": "b"})
    assert ours.read_request(ours.request("7", KEY, payload)).data == payload
    assert ours.read_reply(ours.reply("7", payload)) == Reply("7", payload)
    for writer in (JSON, MSGPACK, theirs):
        for body in (writer.live(payload), writer.live(payload, {"a": "b"})):
            with pytest.raises(DecodeError):
                ours.read_live(body)
        with pytest.raises(UnreadableEnvelope):
            ours.read_request(writer.request("7", KEY, payload))
        with pytest.raises(UnreadableEnvelope):
            ours.read_reply(writer.reply("7", payload))
