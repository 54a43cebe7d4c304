"""Bodies as they travel: what is bare, what is an envelope, and that nothing unreadable gets further."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redis_toolkit.errors import DecodeError, EncodeError, PayloadTooLarge
from redis_toolkit.message import Headers
from redis_toolkit.wire import UnreadableEnvelope, Wire
from tests.payloads import text
from tests.wires import (
    EVERY,
    JSON,
    KEY,
    LIMIT,
    MSGPACK,
    NATIVE,
    OWN,
    TEXT,
    Broken,
    as_map,
    complaint,
    plain,
    wire,
    writers,
)


class TestLiveEvents:
    def test_without_headers_the_body_is_the_payload(self) -> None:
        assert JSON.live({"id": 1}) == b'{"id":1}'
        assert MSGPACK.live({"id": 1}) == msgpack.packb({"id": 1})
        assert TEXT.live("hello") == b"hello"
        assert OWN.live([1]) == b"]1["

    @pytest.mark.parametrize("headers", [None, {}])
    def test_no_headers_are_no_headers(self, headers: dict[str, str] | None) -> None:
        assert JSON.live([], headers) == b"[]"

    @NATIVE
    def test_with_headers_it_is_an_envelope(self, ours: Wire) -> None:
        body = ours.live({"id": 1}, {"trace": "abc"})

        assert as_map(body) == {"rt": 1, "headers": {"trace": "abc"}, "data": {"id": 1}}
        assert ours.read_live(body) == ({"id": 1}, Headers(trace="abc"))

    @pytest.mark.parametrize(("ours", "name", "payload"), [(TEXT, "text", "hi"), (OWN, "Reversed", [1, 2])])
    def test_an_opaque_payload_with_headers(self, ours: Wire, name: str, payload: object) -> None:
        body = ours.live(payload, {"trace": "abc"})

        assert as_map(body) == {
            "rt": 1, "headers": {"trace": "abc"}, "codec": name, "data": ours.codec.encode(payload),
        }  # fmt: skip
        assert ours.read_live(body) == (payload, {"trace": "abc"})

    @NATIVE
    @pytest.mark.parametrize(
        "payload",
        [{"rt": 1}, {"rt": 1, "data": 5}, {"rt": 2, "data": 5}, {"rt": None}, {"rt": {"rt": 1, "data": 2}}],
    )
    def test_a_payload_with_a_field_rt_is_not_mistaken(self, ours: Wire, payload: dict[str, Any]) -> None:
        body = ours.live(payload)

        assert as_map(body) == {"rt": 1, "data": payload}
        assert ours.read_live(body) == (payload, {})

    @NATIVE
    def test_neither_is_a_model_with_such_a_field(self, ours: Wire) -> None:
        @dataclasses.dataclass
        class Tweet:
            rt: int
            data: str

        assert ours.read_live(ours.live(Tweet(1, "x"))) == ({"rt": 1, "data": "x"}, {})

    @pytest.mark.parametrize("version", [2, 99])
    @pytest.mark.parametrize("pack", [lambda fields: json.dumps(fields).encode(), msgpack.packb])
    def test_a_newer_version_is_refused_by_name(self, version: int, pack: Any) -> None:
        with pytest.raises(DecodeError, match=f"version {version}"):
            JSON.read_live(pack({"rt": version, "data": 1}))

    @pytest.mark.parametrize(
        "payload", [{"rt": True, "data": 1}, {"rt": "1", "data": 1}, {"rt": 1.0, "data": 1}, {"rt": 1}]
    )
    def test_what_only_looks_like_an_envelope_is_a_payload(self, payload: dict[str, Any]) -> None:
        assert JSON.read_live(json.dumps(payload).encode()) == (payload, {})

    @NATIVE
    @pytest.mark.parametrize("reader", [JSON, MSGPACK])  # an opaque one reads bare payloads of its own only
    def test_a_fleet_can_change_its_codec(self, ours: Wire, reader: Wire) -> None:
        for payload in ({"a": [1, None]}, [1, 2], {"rt": 1, "data": 2}):
            assert reader.read_live(ours.live(payload)) == (payload, {})
        assert reader.read_live(ours.live("x", {"a": "b"})) == ("x", {"a": "b"})

    @pytest.mark.parametrize("value", [0, 5, 9])
    def test_a_body_of_one_byte_is_in_the_readers_own_codec(self, value: int) -> None:
        assert JSON.read_live(b"%d" % value) == (value, {})
        assert MSGPACK.read_live(bytes([value])) == (value, {})
        assert TEXT.read_live(b"%d" % value) == (str(value), {})

    def test_one_byte_that_starts_msgpack_elsewhere(self) -> None:
        assert MSGPACK.read_live(b"\x80") == ({}, {})
        with pytest.raises(DecodeError):
            JSON.read_live(b"\x80")

    @pytest.mark.parametrize("ours", [JSON, MSGPACK, TEXT, OWN])
    def test_an_empty_body(self, ours: Wire) -> None:
        if ours is TEXT:
            assert ours.read_live(b"") == ("", {})
        else:
            with pytest.raises(DecodeError):
                ours.read_live(b"")

    def test_an_opaque_body_that_looks_like_an_envelope_is_not_mistaken(self) -> None:
        class Raw:
            def encode(self, value: Any) -> bytes:
                return bytes(value)

            def decode(self, body: bytes) -> Any:
                return body

        raw = wire(Raw())
        tricky = msgpack.packb({"rt": 1, "data": 5})
        assert raw.read_live(raw.live(tricky)) == (tricky, {})

    @NATIVE
    @given(payload=plain, headers=st.dictionaries(text, text, max_size=3))
    def test_whatever_is_written_is_read(self, ours: Wire, payload: Any, headers: dict[str, str]) -> None:
        assert ours.read_live(ours.live(payload, headers)) == (payload, headers)


class TestHeaders:
    @EVERY
    @pytest.mark.parametrize("headers", [{"a": 1}, {1: "a"}, {"a": None}, {"a": b"b"}, {"a": ["b"]}])
    def test_only_text_by_name(self, ours: Wire, headers: Any) -> None:
        with pytest.raises(EncodeError, match="headers are text by name"):
            ours.live("x", headers)
        with pytest.raises(EncodeError, match="headers are text by name"):
            ours.request("1", KEY, "x", headers=headers)

    @NATIVE
    def test_text_without_a_utf8_form(self, ours: Wire) -> None:
        with pytest.raises(EncodeError):
            ours.live("x", {"a": "\ud800"})

    @pytest.mark.parametrize("headers", [5, "a", ["a"], {"a": 1}, {"a": None}])
    def test_bad_ones_are_not_passed_on(self, headers: Any) -> None:
        with pytest.raises(DecodeError, match="headers"):
            JSON.read_live(json.dumps({"rt": 1, "data": 1, "headers": headers}).encode())
        with pytest.raises(UnreadableEnvelope, match="headers"):
            JSON.read_request(json.dumps({"id": "7", "data": 1, "headers": headers}).encode())

    def test_null_is_none(self) -> None:
        assert JSON.read_live(b'{"rt":1,"data":1,"headers":null}') == (1, {})


class TestLimits:
    @EVERY
    @pytest.mark.fault(31, "events", "requests")
    def test_at_the_limit_and_over_it(self, ours: Wire) -> None:
        for write in writers(ours):
            overhead = len(write("")) + 10
            assert len(write("x" * (LIMIT - overhead))) <= LIMIT
            with pytest.raises(PayloadTooLarge, match=r"limit is 10,000.*max_payload="):
                write("x" * (LIMIT + 1))

    @EVERY
    @pytest.mark.fault(31, "events", "requests")
    def test_what_arrives_over_the_limit_is_not_looked_at(self, ours: Wire) -> None:
        body = b'"' + b"x" * LIMIT + b'"'
        for read in (ours.read_live, ours.read_request, ours.read_reply):
            with pytest.raises(DecodeError, match=r"10,002 bytes, the limit is 10,000"):
                read(body)


class TestOwnCodecs:
    def test_what_it_raises_is_one_error(self) -> None:
        ours = wire(Broken())
        for write in writers(ours):
            with pytest.raises(EncodeError, match=r"codec 'broken' failed: KeyError"):
                write(1)
            with pytest.raises(EncodeError, match="returned str, not bytes"):
                write("text")

    def test_what_it_raises_when_reading_is_one_error_on_one_line(self) -> None:
        ours = wire(Broken())
        with pytest.raises(
            DecodeError, match=r"codec 'broken' failed on b'x\\n'.*ZeroDivisionError: decode"
        ) as caught:
            ours.read_live(b"x\n")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", [JSON, MSGPACK, TEXT, OWN, wire(Broken())])
class TestRandomBytes:
    @given(body=st.binary() | st.binary(max_size=30).map(lambda tail: b"\x83\xa2rt\x01" + tail))
    def test_are_a_value_or_a_decode_error(self, reader: Wire, body: bytes) -> None:
        for read in (reader.read_live, reader.read_request, reader.read_reply):
            assert "\n" not in complaint(read, body)

    @given(
        fields=st.dictionaries(
            st.sampled_from(
                ["id", "reply_to", "data", "headers", "channel", "spread", "attempt", "codec", "error", "rt"]
            ),
            plain | st.just(KEY) | st.just("Reversed"),
        ),
        pack=st.sampled_from([lambda value: json.dumps(value).encode(), lambda value: msgpack.packb(value)]),
    )
    def test_so_are_maps_with_the_right_names_and_anything_in_them(
        self, reader: Wire, fields: dict[str, Any], pack: Any
    ) -> None:
        for read in (reader.read_live, reader.read_request, reader.read_reply):
            assert "\n" not in complaint(read, pack(fields))
