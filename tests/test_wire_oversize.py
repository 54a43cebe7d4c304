"""Messages over the reader's limit: whose they are is known from their start, nothing else is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from redis_toolkit.codecs import JSONCodec, MsgpackCodec, TextCodec
from redis_toolkit.errors import DecodeError
from redis_toolkit.wire import UnreadableEnvelope, Wire
from tests.wires import JSON, KEY, LIMIT, MSGPACK

WRITERS = [Wire(codec, 10 * LIMIT) for codec in (JSONCodec(), MsgpackCodec(), TextCodec())]


@pytest.mark.parametrize("reader", [JSON, MSGPACK])
@pytest.mark.parametrize("writer", WRITERS, ids=["json", "msgpack", "text"])
@pytest.mark.parametrize("fields", [{}, {"channel": "c", "spread": True, "attempt": 2}])
def test_a_request_can_be_answered(reader: Wire, writer: Wire, fields: dict[str, Any]) -> None:
    body = writer.request('7"\\ü', KEY, "x" * LIMIT, **fields)
    with pytest.raises(UnreadableEnvelope, match=r"bytes, the limit is 10,000") as caught:
        reader.read_request(body)
    assert (caught.value.id, caught.value.reply_to) == ('7"\\ü', KEY)


@pytest.mark.parametrize("writer", WRITERS, ids=["json", "msgpack", "text"])
def test_a_reply_is_known(writer: Wire) -> None:
    with pytest.raises(UnreadableEnvelope, match="limit") as caught:
        JSON.read_reply(writer.reply("7", "x" * LIMIT))
    assert caught.value.id == "7"


def test_white_space_is_no_hindrance() -> None:
    body = json.dumps({"id": "7", "reply_to": KEY, "data": "x" * LIMIT}, indent=2).encode()
    with pytest.raises(UnreadableEnvelope):
        JSON.read_request(body)


@pytest.mark.parametrize(
    "start",
    [b"", b'{"data":"', b'{"id":7,', b'{"id":"7', b'{"id":"\\ud800",', b"\x82", b"\x82\xa2id\xa1",
     b"\xdf" + b"\xff" * 4],
)  # fmt: skip
def test_what_has_no_id_in_front_is_one_error(start: bytes) -> None:
    for read in (JSON.read_request, JSON.read_reply, JSON.read_live):
        with pytest.raises(DecodeError, match="limit") as caught:
            read(start + b"\xa0" * LIMIT + b'"')
        assert not isinstance(caught.value, UnreadableEnvelope)


def test_an_answer_goes_only_to_a_reply_key() -> None:
    with pytest.raises(DecodeError, match="limit"):
        JSON.read_request(b'{"id":"7","reply_to":"session:9","data":"' + b"x" * LIMIT + b'"}')
