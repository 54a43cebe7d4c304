"""Requests, replies and error replies as they travel."""

from __future__ import annotations

import json
from typing import Any

import pytest

from redis_toolkit.errors import DecodeError, RemoteError
from redis_toolkit.message import Headers
from redis_toolkit.wire import IncomingRequest, Reply, UnreadableEnvelope, Wire
from tests.wires import EVERY, JSON, KEY, LIMIT, MSGPACK, NATIVE, OWN, READERS, TEXT, as_map


def incoming(**fields: Any) -> IncomingRequest:
    known: dict[str, Any] = {
        "id": "7", "reply_to": KEY, "data": None, "headers": Headers(),
        "channel": None, "spread": False, "attempt": 1,
    }  # fmt: skip
    return IncomingRequest(**{**known, **fields})


class TestRequests:
    def test_the_plain_envelope(self) -> None:
        assert JSON.request("7", KEY, {"a": 1}) == b'{"id":"7","reply_to":"%s","data":{"a":1}}' % KEY.encode()

    def test_every_field(self) -> None:
        body = JSON.request("7", KEY, {"a": 1}, headers={"h": "x"}, channel="c", spread=True, attempt=3)

        assert as_map(body) == {
            "id": "7", "reply_to": KEY, "channel": "c", "spread": True, "attempt": 3, "headers": {"h": "x"},
            "data": {"a": 1},
        }  # fmt: skip
        assert JSON.read_request(body) == incoming(
            data={"a": 1}, headers=Headers(h="x"), channel="c", spread=True, attempt=3
        )

    @NATIVE
    @READERS
    @pytest.mark.parametrize("payload", [None, 5, "x", [1], {"rt": 1, "data": 2}])
    def test_every_reader_reads_the_native_ones(self, ours: Wire, reader: Wire, payload: Any) -> None:
        assert reader.read_request(ours.request("7", KEY, payload)) == incoming(data=payload)

    @pytest.mark.parametrize(("ours", "payload"), [(TEXT, "hi"), (OWN, {"a": [1]})])
    def test_an_opaque_payload(self, ours: Wire, payload: Any) -> None:
        body = ours.request("7", KEY, payload)

        assert as_map(body)["codec"] in {"text", "Reversed"}
        assert ours.read_request(body) == incoming(data=payload)

    def test_an_opaque_payload_for_another_reader_can_be_answered(self) -> None:
        body = OWN.request("7", KEY, 1)
        for reader in (JSON, MSGPACK, TEXT):
            with pytest.raises(UnreadableEnvelope, match="'Reversed'") as caught:
                reader.read_request(body)
            assert (caught.value.id, caught.value.reply_to) == ("7", KEY)

    def test_unknown_fields_are_ignored(self) -> None:
        assert JSON.read_request(b'{"id":"7","data":1,"since":"2.0"}') == incoming(data=1, reply_to=None)

    @pytest.mark.parametrize(
        "body",
        [b"", b"5", b"[1]", b'"id"', b"{}", b'{"id":7,"data":1}', b'{"id":null,"data":1}', b"\x93\x01"],
    )
    def test_what_has_no_id_cannot_be_answered(self, body: bytes) -> None:
        with pytest.raises(DecodeError) as caught:
            JSON.read_request(body)
        assert not isinstance(caught.value, UnreadableEnvelope)

    @pytest.mark.parametrize(
        "reply_to", [5, ["rt:i:{x"], "session:9", "rt:q:{x}:dead", "", "rt:c:{x}:requests"]
    )
    def test_a_reply_goes_only_to_a_reply_key(self, reply_to: Any) -> None:
        with pytest.raises(DecodeError, match="not a reply key") as caught:
            JSON.read_request(json.dumps({"id": "7", "data": 1, "reply_to": reply_to}).encode())
        assert not isinstance(caught.value, UnreadableEnvelope)

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({}, "no field 'data'"),
            ({"data": 1, "channel": 5}, "'channel'"),
            ({"data": 1, "attempt": "2"}, "'attempt'"),
            ({"data": 1, "attempt": True}, "'attempt'"),
            ({"data": 1, "attempt": 1.5}, "'attempt'"),
            ({"data": 1, "codec": "json"}, "not binary"),
            ({"data": 1, "codec": [1]}, "codec"),
        ],
    )
    def test_bad_fields_one_by_one(self, fields: dict[str, Any], said: str) -> None:
        with pytest.raises(UnreadableEnvelope, match=said) as caught:
            JSON.read_request(json.dumps({"id": "7", "reply_to": KEY, **fields}).encode())
        assert (caught.value.id, caught.value.reply_to) == ("7", KEY)

    @pytest.mark.parametrize("spread", [1, "true", None, {}])
    def test_only_true_means_spread(self, spread: Any) -> None:
        assert not JSON.read_request(json.dumps({"id": "7", "data": 1, "spread": spread}).encode()).spread

    @pytest.mark.parametrize("field", ["id", "reply_to"])
    def test_an_address_without_a_utf8_form_is_refused(self, field: str) -> None:
        # JSON can write half a surrogate pair, and then no reply could be written.
        fields = {"id": "7", "reply_to": KEY, "data": 1}
        fields[field] = KEY + "\ud800"
        with pytest.raises(DecodeError) as caught:
            JSON.read_request(json.dumps(fields).encode())
        assert not isinstance(caught.value, UnreadableEnvelope)

    @pytest.mark.parametrize("field", ["id", "reply_to", "codec", "headers", "channel", "attempt"])
    def test_deep_garbage_in_a_field_is_an_error_and_not_a_crash(self, field: str) -> None:
        fields = {"id": '"7"', "reply_to": f'"{KEY}"', "data": "1"}
        for depth in range(100, 1000, 50):
            fields[field] = "[" * depth + "]" * depth
            body = ("{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}").encode()
            with pytest.raises(DecodeError):
                JSON.read_request(body)


class TestReplies:
    @NATIVE
    @READERS
    @pytest.mark.parametrize("result", [None, 5, {"id": "other", "error": "x"}, [1]])
    def test_every_reader_reads_the_native_ones(self, ours: Wire, reader: Wire, result: Any) -> None:
        body = ours.reply("7", result)
        assert as_map(body) == {"id": "7", "data": result}
        assert reader.read_reply(body) == Reply("7", result)

    @pytest.mark.parametrize(("ours", "result"), [(TEXT, "hi"), (OWN, {"a": [1]})])
    def test_an_opaque_result(self, ours: Wire, result: Any) -> None:
        assert ours.read_reply(ours.reply("7", result)) == Reply("7", result)

    def test_an_opaque_result_for_another_reader(self) -> None:
        with pytest.raises(UnreadableEnvelope, match="'Reversed'") as caught:
            JSON.read_reply(OWN.reply("7", 1))
        assert caught.value.id == "7"

    @pytest.mark.parametrize(
        "body",
        [b"", b"5", b"[]", b"{}", b'{"id":7}', b'{"id":"7","error":5}', b'{"id":"7","error":"x"}', b"!7"],
    )
    def test_what_is_no_reply(self, body: bytes) -> None:
        with pytest.raises(DecodeError):
            JSON.read_reply(body)

    @pytest.mark.parametrize("field", ["id", "error", "codec"])
    def test_deep_garbage_in_a_field_is_an_error_and_not_a_crash(self, field: str) -> None:
        fields = {"id": '"7"', "data": "1"}
        for depth in range(100, 1000, 50):
            fields[field] = "[" * depth + "]" * depth
            body = ("{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}").encode()
            with pytest.raises(DecodeError):
                JSON.read_reply(body)

    @pytest.mark.parametrize("field", ["type", "message", "traceback"])
    def test_deep_garbage_in_an_error_is_no_crash(self, field: str) -> None:
        for depth in range(100, 1000, 50):
            body = b'{"id":"7","error":{"%s":%s}}' % (field.encode(), b"[" * depth + b"]" * depth)
            try:
                JSON.read_reply(body)
            except DecodeError:
                continue


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


def remote(ours: Wire, error: BaseException, traceback: str | None = None) -> RemoteError:
    body = ours.error_reply("7", error, traceback)
    assert len(body) <= ours.max_payload
    reply = JSON.read_reply(body)
    assert reply.id == "7"
    assert reply.error is not None
    return reply.error


@EVERY
class TestErrorReplies:
    def test_type_and_message(self, ours: Wire) -> None:
        found = remote(ours, KeyError("a"))
        assert (found.type, found.message, found.traceback) == ("KeyError", "'a'", None)

    def test_a_traceback(self, ours: Wire) -> None:
        assert remote(ours, ValueError("x"), "Traceback ...\n  line").traceback == "Traceback ...\n  line"

    def test_of_an_error_that_came_from_further_away(self, ours: Wire) -> None:
        found = remote(ours, RemoteError("KeyError", "'a'"))
        assert (found.type, found.message) == ("RemoteError", "KeyError: 'a'")

    def test_an_error_whose_text_cannot_be_shown(self, ours: Wire) -> None:
        found = remote(ours, Unprintable())
        assert found.type == "Unprintable"
        assert "ZeroDivisionError" in found.message

    def test_text_without_a_utf8_form(self, ours: Wire) -> None:
        assert remote(ours, ValueError("a\ud800b"), "t\udfff").message == r"a\ud800b"

    @pytest.mark.parametrize("sign", ["x", "é", "🎈", "\x00", '"', "\\", "\ud800"], ids=ascii)
    def test_huge_ones_are_shortened(self, ours: Wire, sign: str) -> None:
        found = remote(ours, ValueError(sign * 1_000_000), sign * 1_000_000)
        assert len(found.message) >= LIMIT // 16
        assert found.traceback
