from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import json
import uuid
from collections import namedtuple
from typing import Any

import msgpack
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redis_toolkit import Codec, JSONCodec, MsgpackCodec, OrjsonCodec, TextCodec
from redis_toolkit.codecs import codec_name, resolve_codec, start_of
from redis_toolkit.errors import ConfigurationError, DecodeError, EncodeError
from tests.payloads import payloads, text

JSON, ORJSON, MSGPACK, TEXT = JSONCodec(), OrjsonCodec(), MsgpackCodec(), TextCodec()
BOTH = pytest.mark.parametrize("codec", [JSON, ORJSON, MSGPACK], ids=["json", "orjson", "msgpack"])
ALL = pytest.mark.parametrize(
    "codec", [JSON, ORJSON, MSGPACK, TEXT], ids=["json", "orjson", "msgpack", "text"]
)


class Colour(enum.Enum):
    RED = "red"
    NESTED = ("a", 1)


class Level(enum.IntEnum):
    HIGH = 3


class Mode(enum.StrEnum):
    FAST = "fast"


@dataclasses.dataclass
class Inner:
    when: datetime.date


@dataclasses.dataclass
class Outer:
    name: str
    inner: Inner


class Model(pydantic.BaseModel):
    name: str
    when: datetime.date


Point = namedtuple("Point", "x y")

MOMENT = datetime.datetime(2024, 2, 29, 12, 30, 1, 250, tzinfo=datetime.UTC)
NUMBER = uuid.UUID("12345678-1234-5678-1234-567812345678")

SHAPES: list[tuple[Any, Any]] = [
    (None, None),
    (True, True),
    (0, 0),
    (-1.5, -1.5),
    ("zürich 🎈", "zürich 🎈"),
    ([1, [2]], [1, [2]]),
    ((1, (2,)), [1, [2]]),
    (Point(1, 2), [1, 2]),
    ({"a": {"b": None}}, {"a": {"b": None}}),
    ({"only"}, ["only"]),
    (frozenset({1}), [1]),
    (MOMENT, "2024-02-29T12:30:01.000250+00:00"),
    (MOMENT.date(), "2024-02-29"),
    (datetime.time(1, 2, 3), "01:02:03"),
    (NUMBER, str(NUMBER)),
    (decimal.Decimal("1.10"), "1.10"),
    (Colour.RED, "red"),
    (Colour.NESTED, ["a", 1]),
    (Level.HIGH, 3),
    (Mode.FAST, "fast"),
    (Outer("x", Inner(MOMENT.date())), {"name": "x", "inner": {"when": "2024-02-29"}}),
    (Model(name="x", when=MOMENT.date()), {"name": "x", "when": "2024-02-29"}),
    ([{"deep": ({NUMBER},)}], [{"deep": [[str(NUMBER)]]}]),
]


@BOTH
@pytest.mark.parametrize(("value", "on_the_wire"), SHAPES, ids=lambda value: ascii(value)[:40])
def test_the_documented_shapes(codec: Codec, value: object, on_the_wire: object) -> None:
    found = codec.decode(codec.encode(value))

    assert found == on_the_wire
    assert type(found) is type(on_the_wire)


@pytest.mark.parametrize("value", [b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")])
def test_binary_is_base64_in_json_and_binary_in_msgpack(value: object) -> None:
    assert JSON.decode(JSON.encode({"it": value})) == {"it": base64.b64encode(b"\x00\xff").decode()}
    assert MSGPACK.decode(MSGPACK.encode({"it": value})) == {"it": b"\x00\xff"}


@BOTH
@given(value=payloads())
def test_plain_values_come_back_as_they_were(codec: Codec, value: object) -> None:
    assert codec.decode(codec.encode(value)) == value


@given(value=payloads())
def test_json_is_what_every_other_reader_of_json_reads(value: object) -> None:
    body = JSON.encode(value)
    assert json.loads(body) == value
    assert b"\n" not in body


@given(value=text)
def test_text_comes_back_as_it_was(value: str) -> None:
    assert TEXT.decode(TEXT.encode(value)) == value


class Stranger:
    pass


@BOTH
@pytest.mark.parametrize(
    "value", [Stranger(), Stranger, Inner, Model, 1j, {"a": [Stranger()]}, object(), len]
)
def test_a_type_outside_the_table_is_named(codec: Codec, value: object) -> None:
    with pytest.raises(EncodeError) as caught:
        codec.encode(value)
    assert "has no" in str(caught.value)
    assert "{}" not in str(caught.value)
    assert "\n" not in str(caught.value)


@BOTH
def test_text_without_a_utf8_form(codec: Codec) -> None:
    with pytest.raises(EncodeError):
        codec.encode({"a": "\ud800"})


@BOTH
def test_endless_depth_is_an_error_and_not_a_crash(codec: Codec) -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(EncodeError):
        codec.encode(deep)


@pytest.mark.parametrize("value", [1, None, b"bytes", ["a"], {"a": 1}])
def test_text_takes_only_str(value: object) -> None:
    with pytest.raises(EncodeError, match=type(value).__name__):
        TEXT.encode(value)
    with pytest.raises(EncodeError, match="UTF-8"):
        TEXT.encode("\ud800")


NOT_JSON = [
    b"",
    b"hello",
    b"{",
    b'{"a":1} x',
    b"NaN",
    b"[Infinity]",
    b"-Infinity",
    b"\xff\xfe",
    b"'a'",
    b"\x00",
]
NOT_MSGPACK = [
    b"",
    b"\xc1",
    b"\x81",
    b"\x01\x02",
    b"\x92\x01",
    b"\xd9\x05ab",
    b"\xa1\xff",
    b"\xdd\xff\xff\xff\xff",
]


@pytest.mark.parametrize("body", NOT_JSON)
def test_what_is_no_json(body: bytes) -> None:
    with pytest.raises(DecodeError, match="not JSON") as caught:
        JSON.decode(body)
    assert 'codec="text"' in str(caught.value)
    assert ascii(body) in str(caught.value)


@pytest.mark.parametrize("body", NOT_MSGPACK)
def test_what_is_no_msgpack(body: bytes) -> None:
    with pytest.raises(DecodeError, match="not msgpack") as caught:
        MSGPACK.decode(body)
    assert ascii(body) in str(caught.value)


def test_msgpack_extensions_and_keys_that_are_no_text_are_refused() -> None:
    for body in (
        msgpack.packb(msgpack.ExtType(5, b"x")),
        msgpack.packb({1: 2}),
        msgpack.packb({None: 2}),
    ):
        with pytest.raises(DecodeError):
            MSGPACK.decode(body)


@BOTH
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b"\x91", b"\x81\xa1a"])
def test_bodies_of_endless_depth(codec: Codec, opening: bytes) -> None:
    with pytest.raises(DecodeError):
        codec.decode(opening * 200_000)


def test_a_number_of_very_many_digits_is_refused_not_computed() -> None:
    with pytest.raises(DecodeError):
        JSON.decode(b"9" * 100_000)


@ALL
@given(body=st.binary())
def test_garbage_is_one_error_of_one_line_or_a_value(codec: Codec, body: bytes) -> None:
    said = ""
    try:
        codec.decode(body)
    except DecodeError as error:
        said = str(error)
    assert said.isprintable()
    assert len(said) < 600


def test_the_start_of_a_body_is_shown_on_one_line() -> None:
    assert start_of(b"short") == "b'short'"
    assert start_of(b"a\nb\xff") == r"b'a\nb\xff'"
    assert start_of(b"x" * 1000) == ascii(b"x" * 60) + "..."


class Upper:
    """A codec of one's own."""

    def encode(self, value: Any) -> bytes:
        return str(value).upper().encode()

    def decode(self, body: bytes) -> Any:
        return body.decode().lower()


class Named(Upper):
    name = "shout"


class TestResolving:
    @pytest.mark.parametrize(
        ("name", "kind"),
        [("json", JSONCodec), ("msgpack", MsgpackCodec), ("text", TextCodec), ("orjson", OrjsonCodec)],
    )
    def test_by_name(self, name: str, kind: type) -> None:
        codec = resolve_codec(name)
        assert type(codec) is kind
        assert codec_name(codec) == name

    def test_a_codec_of_ones_own(self) -> None:
        own = Upper()
        assert isinstance(own, Codec)
        assert resolve_codec(own) is own
        assert codec_name(own) == "Upper"
        assert codec_name(Named()) == "shout"

    def test_an_unknown_name_lists_the_known_ones(self) -> None:
        with pytest.raises(
            ConfigurationError, match=r"'pickle' is unknown: use 'json', 'msgpack', 'text', 'orjson'"
        ):
            resolve_codec("pickle")

    @pytest.mark.parametrize("codec", [JSONCodec, Upper, None, 5, json, object()])
    def test_what_is_no_codec(self, codec: Any) -> None:
        with pytest.raises(ConfigurationError, match="encode"):
            resolve_codec(codec)
