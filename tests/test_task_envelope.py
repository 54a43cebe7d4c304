"""Envelopes of tasks: what is written can be read, what others write too, and nothing else gets through."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redis_toolkit.codecs import JSONCodec
from redis_toolkit.envelope_head import head_of
from redis_toolkit.errors import DecodeError, EncodeError, PayloadTooLarge
from redis_toolkit.message import Headers
from redis_toolkit.task_envelope import Task, read_task, write_plain_task, write_task
from redis_toolkit.wire import UnreadableEnvelope, Wire
from tests.payloads import text
from tests.wires import EVERY, JSON, LIMIT, MSGPACK, OWN, READERS, TEXT, as_map, plain

names = text.filter(bool)
times = st.none() | st.integers(0, 2**53)
NATIVES = {"json": JSON, "msgpack": MSGPACK}


@given(
    st.sampled_from(sorted(NATIVES)),
    st.sampled_from(sorted(NATIVES)),
    st.fixed_dictionaries(
        {"id": names, "type": text, "data": plain},
        optional={
            "headers": st.dictionaries(text, text, max_size=3),
            "spread": st.booleans(),
            "unique": names,
            "priority": names,
            "reply_to": names.map("rt:q:{{q}}:reply:{}".format),
            "submitted_ms": times,
            "expires_ms": times,
        },
    ),
)
def test_what_one_writes_any_reads(writer: str, reader: str, task: dict[str, Any]) -> None:
    wanted = Task(**{"headers": Headers(), **task})
    found = read_task(NATIVES[reader], write_task(NATIVES[writer], **task))
    assert found == wanted
    assert type(found.headers) is Headers


def test_the_plain_envelope() -> None:
    assert write_task(JSON, "1", "add", {"a": 1}) == b'{"id":"1","task":"add","data":{"a":1}}'
    assert as_map(write_task(MSGPACK, "1", "add", None)) == {"id": "1", "task": "add", "data": None}


@pytest.mark.parametrize("wire", NATIVES.values())
@pytest.mark.parametrize("spread", [True, False])
def test_one_with_few_fields_is_written_the_same_in_one_go(wire: Wire, spread: bool) -> None:
    for kind, data in (('say "hi"', {"a": "ü"}), ("add", [1, None])):
        quick = write_plain_task(wire, "ab-1", kind, data, "lôw", 77, spread=spread)
        assert quick == write_task(wire, "ab-1", kind, data, priority="lôw", submitted_ms=77, spread=spread)
    with pytest.raises(EncodeError, match="object"):
        write_plain_task(wire, "ab-1", "add", object(), "low", 77, spread=spread)


def test_every_field() -> None:
    body = write_task(
        JSON,
        "1",
        "add",
        {"a": 1},
        headers={"trace": "x"},
        spread=True,
        unique="k",
        priority="high",
        reply_to="rt:q:{q}:reply:7",
        submitted_ms=5,
        expires_ms=6,
    )
    assert json.loads(body) == {
        "id": "1",
        "task": "add",
        "unique": "k",
        "reply_to": "rt:q:{q}:reply:7",
        "spread": True,
        "priority": "high",
        "submitted": 5,
        "expires": 6,
        "headers": {"trace": "x"},
        "data": {"a": 1},
    }
    assert head_of(body) == {
        name: json.loads(body)[name] for name in ("id", "task", "unique", "reply_to", "spread", "priority")
    } | {"submitted": 5, "expires": 6}


@READERS
@pytest.mark.parametrize(
    "body",
    [
        b'{"id":"1","task":"add","data":{"a":1,"b":2}}',
        b' {"data": {"b": 2, "a": 1}, "task": "add", "newer": [1], "id": "1"}\n',
        b'{"id":"1","task":"add","data":{"a":1,"b":2},"headers":null,"spread":null,"unique":null,"expires":null}',
        msgpack.packb({"id": "1", "task": "add", "data": {"a": 1, "b": 2}}),
    ],
)
def test_what_was_written_by_hand(reader: Wire, body: bytes) -> None:
    assert read_task(reader, body) == Task("1", "add", {"a": 1, "b": 2}, Headers())


@EVERY
def test_an_opaque_payload_is_read_by_its_own_codec_only(ours: Wire) -> None:
    body = write_task(ours, "1", "add", "text")
    assert read_task(ours, body).data == "text"
    if ours in (TEXT, OWN):
        with pytest.raises(UnreadableEnvelope, match="codec") as caught:
            read_task(JSON, body)
        assert caught.value.id == "1"


@READERS
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"1",
        b"{",
        b"[]",
        b"null",
        b"\xff\xff",
        b"garbage",
        b'{"task":"add","data":1}',
        b'{"id":7,"task":"add","data":1}',
        b'{"id":"\\ud800","task":"add","data":1}',
        b'{"data":"' + b"x" * LIMIT + b'","id":"1"}',
        b"\xdd\xff\xff\xff\xff",
    ],
)
def test_what_is_no_task_at_all(reader: Wire, body: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        read_task(reader, body)
    assert not isinstance(caught.value, UnreadableEnvelope)
    assert "\n" not in str(caught.value)


@READERS
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"task": None}, "no text field 'task'"),
        ({"task": 7}, "no text field 'task'"),
        ({"data": ...}, "no field 'data'"),
        ({"headers": [1]}, "headers"),
        ({"headers": {"a": 1}}, "headers"),
        ({"unique": 1}, "'unique' of the task is not text"),
        ({"priority": ["high"]}, "'priority' of the task is not text"),
        ({"reply_to": "session:9"}, "'reply_to' of the task is not a reply key"),
        ({"reply_to": 9}, "'reply_to' of the task is not text"),
        ({"expires": "soon"}, "'expires' of the task is not a whole number"),
        ({"expires": 1.5}, "'expires' of the task is not a whole number"),
        ({"submitted": True}, "'submitted' of the task is not a whole number"),
        ({"codec": 1}, "codec"),
        ({"codec": "elsewhere", "data": "x"}, "codec"),
    ],
)
def test_of_a_bad_field_the_id_is_known(reader: Wire, fields: dict[str, Any], said: str) -> None:
    whole = {"id": "1", "task": "add", "data": 1, **fields}
    body = json.dumps({name: value for name, value in whole.items() if value is not ...}).encode()
    with pytest.raises(UnreadableEnvelope, match=said) as caught:
        read_task(reader, body)
    assert caught.value.id == "1"


@pytest.mark.parametrize("writer", [JSON, MSGPACK], ids=["json", "msgpack"])
def test_of_one_that_is_too_large_the_id_is_known(writer: Wire) -> None:
    body = write_task(Wire(writer.codec, 10 * LIMIT), "1", "add", "x" * LIMIT, unique="k")
    with pytest.raises(UnreadableEnvelope, match="limit") as caught:
        read_task(JSON, body)
    assert caught.value.id == "1"
    assert head_of(body)["unique"] == "k"


@pytest.mark.parametrize("spread", ["false", "1", '"true"', "null"])
def test_only_true_means_spread(spread: str) -> None:
    assert read_task(JSON, b'{"id":"1","task":"a","data":{},"spread":%s}' % spread.encode()).spread is False
    assert read_task(JSON, b'{"id":"1","task":"a","data":{},"spread":true}').spread is True


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(EncodeError):
        write_task(JSON, "1", "add", object())
    with pytest.raises(EncodeError, match="headers"):
        write_task(JSON, "1", "add", 1, headers={"a": 1})  # type: ignore[dict-item]
    with pytest.raises(PayloadTooLarge, match="max_payload"):
        write_task(Wire(JSONCodec(), 100), "1", "add", "x" * 100)
