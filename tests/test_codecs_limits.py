"""What no codec writes or reads, and that each says so: where in the payload, in little time and memory."""

from __future__ import annotations

import importlib
import json
import math
import tracemalloc
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redis_toolkit import Codec, ConfigurationError, DecodeError, EncodeError
from redis_toolkit.codecs import JSONCodec, MsgpackCodec, OrjsonCodec, resolve_codec
from redis_toolkit.codecs.json_text import structure
from tests.payloads import payloads, text

JSON, ORJSON, MSGPACK = JSONCodec(), OrjsonCodec(), MsgpackCodec()
EVERY = pytest.mark.parametrize("codec", [JSON, ORJSON, MSGPACK], ids=["json", "orjson", "msgpack"])
BOTH_JSON = pytest.mark.parametrize("codec", [JSON, ORJSON], ids=["json", "orjson"])
DEEPEST = 100


@dataclass
class Holder:
    inner: Any


class Stranger:
    pass


def nested(depth: int) -> Any:
    value: Any = []
    for number in range(depth - 1):
        value = [value] if number % 2 else {"a": value}
    return value


def circle() -> list[Any]:
    found: list[Any] = []
    found += [found, found]
    return found


UNFIT: list[tuple[Any, str]] = [
    (Stranger(), r"^data: a value of type Stranger has no form"),
    ({"items": [1, 2, 3, Stranger()]}, r"^data\['items'\]\[3\]: a value of type Stranger"),
    ({"a": {1: 2}}, r"^data\['a'\]: the key 1 is no text"),
    ({"a": [{"b": 1, True: 2}]}, r"^data\['a'\]\[0\]: the key True is no text"),
    ({None: 1}, r"^data: the key None is no text"),
    ({False: 1}, r"^data: the key False is no text"),
    ({-1.5: 1}, r"^data: the key -1.5 is no text"),
    ({1e300: 1}, r"^data: the key 1e\+300 is no text"),
    ({b"a": 1}, r"^data: the key b'a' is no text"),
    ({(1, 2): 3}, r"^data: the key \(1, 2\) is no text"),
    (OrderedDict({7: 1}), r"^data: the key 7 is no text"),
    (Holder({7: 1}), r"^data\['inner'\]: the key 7 is no text"),
    ([1, {"a": math.nan}], r"^data\[1\]\['a'\]: nan has no form"),
    ({"a": None, "b": math.inf}, r"^data\['b'\]: inf has no form"),
    (Holder(-math.inf), r"^data\['inner'\]: -inf has no form"),
    ((2**64,), r"^data\[0\]: a whole number of 65 bits"),
    ({"a": -(2**63) - 1}, r"^data\['a'\]: a whole number of 64 bits"),
    ({"a": 10**100_000}, r"^data\['a'\]: a whole number of .* bits"),
    ({"a": "\ud800"}, r"^data\['a'\]: .*surrogates"),
    ({"\udfff": 1}, r"^data: .*surrogates"),
    (nested(DEEPEST + 1), r"nested more than 100 deep"),
    (nested(100_000), r"nested more than 100 deep"),
    ([[]] * 100_000, r"^data: more than 100,000 lists and maps"),
    ([{"a": ()}] * 50_000, r"^data: more than 100,000 lists and maps"),
    ([Holder([])] * 50_000, r"^data: more than 100,000 lists and maps"),
    (circle(), r"nested more than 100 deep, or holds itself"),
    ([msgpack.Timestamp(1)], r"^data\[0\]: a value of type Timestamp"),
]


@EVERY
@pytest.mark.parametrize(("value", "said"), UNFIT, ids=[said[:40] for _, said in UNFIT])
def test_what_may_not_travel_is_refused_with_its_place(codec: Codec, value: Any, said: str) -> None:
    with pytest.raises(EncodeError, match=said) as caught:
        codec.encode(value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


FIT: list[Any] = [
    {"1": 1, "-1.5": 2, "true": 3, "false": 4, "null": 5, "1e+300": 6},
    [2**64 - 1, -(2**63), "12345678901234567890123", 1234567890123456789],
    [1e-7, 1.7976931348623157e308, 5e-324, -0.0, 1e16, 0.00012345678901234567],
    {"a": 'he said ":" and "1": "[[[{"', "b": "\\", "c": '\\"', "d\\": "}}]"},
    ["[" * 200, '"' * 200, "{" * 5],
    [None] * 200 + [[]] * 200 + [{"a": [1]}] * 200,
    "ä" * 500,
    "\ud83d".encode("utf-16", "surrogatepass").decode("utf-16", "replace"),
    nested(DEEPEST),
    {str(number): number for number in range(300)},
    [[]] * 99_999,
    [{"a": []}] * 49_999,
    ["[" * 150_000, '\\"{[' * 60_000, "{}[]" * 30_000, b"\x90\x80\xcb\x7f".decode("latin-1") * 60_000],
    [[0.5]] * 99_998 + [0xCB7F],  # in msgpack it looks like a float that is not finite
    [{"at": "12:30:00", "url": "http://x:1/", "uuid": "a3e123b4e000"}] * 60,
]


@EVERY
@pytest.mark.parametrize("value", FIT, ids=lambda value: ascii(value)[:30])
def test_what_only_looks_unfit_travels(codec: Codec, value: Any) -> None:
    assert codec.decode(codec.encode(value)) == value


words = text | st.text('"\\:[]{}e1 -', max_size=8)
values = payloads(words, leaves=40)


def depth_of(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inside is None else 1 + max(map(depth_of, inside), default=0)


def keys_of(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(keys_of, value.values()))
    return sum(map(keys_of, value)) if isinstance(value, list) else 0


@given(value=values, indent=st.none() | st.integers(0, 3), spaced=st.booleans(), ascii_only=st.booleans())
def test_the_structure_of_any_text_is_known_exactly(
    value: Any, indent: int | None, spaced: bool, ascii_only: bool
) -> None:
    separators = (" , ", " : ") if spaced else (",", ":")
    body = json.dumps(value, indent=indent, separators=separators, ensure_ascii=ascii_only).encode()
    assert structure(body) == (keys_of(value), depth_of(value))
    assert JSON.decode(body) == ORJSON.decode(body) == value


@EVERY
@given(value=values)
def test_values_come_back_and_keep_their_types(codec: Codec, value: Any) -> None:
    found = codec.decode(codec.encode(value))
    assert repr(found) == repr(value)


wild = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=2) | st.integers() | st.none() | st.floats(), inner, max_size=3)
        | st.builds(Holder, inner)
    ),
    max_leaves=8,
)


def outcome(codec: Codec, value: Any) -> Any:
    """Return what a reader gets of a value, or the complaint."""
    try:
        body = codec.encode(value)
    except EncodeError as error:
        return str(error)
    return repr(JSON.decode(body)), repr(ORJSON.decode(body))


@given(value=wild)
def test_orjson_writes_and_refuses_just_what_json_does(value: Any) -> None:
    assert outcome(ORJSON, value) == outcome(JSON, value)


def read(codec: Codec, body: bytes) -> Any:
    try:
        return repr(codec.decode(body))
    except DecodeError as error:
        return str(error)


@given(body=st.text('{}[]":,0123456789eE.+- ntrul\\dDa', max_size=30).map(str.encode))
def test_orjson_reads_and_refuses_just_what_json_does(body: bytes) -> None:
    assert read(ORJSON, body) == read(JSON, body)


NOT_JSON: list[tuple[bytes, str]] = [
    (b'{"a":1,"a":1}', "the key 'a' is there twice"),
    (b'{"a" : 1,"a"\n:2, "b":"\\":"}', "twice"),
    (b'[{"x":{"b":1,"a":{},"a":[]}}]', "twice"),
    (b'{"a":"\\":","b" :1,"b" :1}', "twice"),
    (b"[" + b'{"k":1},' * 50 + b'{"k":1,"k":1}]', "twice"),
    (b"1e400", "beyond what a float holds"),
    (b"-1E+400", "beyond what a float holds"),
    (b"[1" + b"0" * 400 + b".5]", "beyond what a float holds"),
    (b"18446744073709551616", "beyond 64 bits"),
    (b"-9223372036854775809", "beyond 64 bits"),
    (b"[" + b"9" * 100_000 + b"]", "beyond 64 bits"),
    (b'{"a":NaN}', "NaN"),
    (b"[-Infinity]", "Infinity"),
    (b'"\\ud800"', "surrogates"),
    (b'{"\\uDfff":1}', "surrogates"),
    (b"[" * 101 + b"]" * 101, "100 deep"),
    (b"[" * 900 + b"]" * 900, "100 deep"),
    (b'{"a":' * 101 + b"1" + b"}" * 101, "100 deep"),
    (b'["]",' * 101 + b"1" + b"]" * 101, "100 deep"),
    (b"[" * 100_000 + b"]" * 100_000, "nested"),
    (b"[" * 1_000_000, "100,000 lists and maps"),
    (b"[" + b"[],{}," * 50_000 + b"1]", "100,000 lists and maps"),
    (b'{"a":' * 100_000, "nested"),
]


@BOTH_JSON
@pytest.mark.parametrize(("body", "said"), NOT_JSON, ids=[ascii(body)[:30] for body, _ in NOT_JSON])
def test_json_that_is_refused(codec: Codec, body: bytes, said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        codec.decode(body)


NOT_MSGPACK: list[bytes] = [
    b"\x82\xa1a\x01\xa1a\x02",  # a key twice
    b"\x81\x01\x01",  # a key that is a number
    b"\x81\xc4\x01a\x01",  # a binary one
    b"\x81\x91\x01\x01",  # one that cannot be hashed
    b"\x81\x80\x01",
    b"\xcb\x7f\xf8" + bytes(6),  # NaN
    b"\xcb\x7f\xf0" + bytes(6),  # infinity
    b"\x91\xcb\xff\xf0" + bytes(6),
    b"\xca\x7f\xc0\x00\x00",
    b"\xca\xff\x80\x00\x00",
    b"\xd6\xff\x00\x00\x00\x01",  # times
    b"\xd7\xff" + bytes(8),
    b"\xc7\x0c\xff" + bytes(12),
    b"\xd4\x05x",  # an extension
    b"\xc7\x01\x05x",
    b"\x91" * 101 + b"\x90",
    b"\x81\xa1a" * 101 + b"\x90",
    b"\x91" * 100_000 + b"\x90",
    b"\x91" * 1_000_000,
    b"\xdd\x00\x01\x86\xa0" + b"\x90" * 100_000,  # too many lists, though none is long
    b"\xdd\x00\x01\x86\xa0" + b"\x80" * 100_000,
    b"\xdd\x00\x00\xc3\x50" + b"\x81\xa1a\x90" * 50_000,
    b"\xdd\xff\xff\xff\xff",  # lengths that lie
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xffabc",
    b"\xc6\xff\xff\xff\xffabc",
    b"\xdd\x00\x0f\x00\x00" * 1000 + bytes(1_000_000),
    b"\xdd\x00\x00\x70\x00" * 1000 + bytes(25_000),
    b"\xdf\x00\x0f\x00\x00\xa1a" * 1000 + bytes(1_000_000),
]


@pytest.mark.parametrize("body", NOT_MSGPACK, ids=lambda body: ascii(body)[:40])
def test_msgpack_that_is_refused_in_little_memory(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="not msgpack"):
            MSGPACK.decode(body)
        assert tracemalloc.get_traced_memory()[1] < 300_000_000  # claimed, not touched
    finally:
        tracemalloc.stop()


def test_without_orjson_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str, *more: Any) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", gone)
    with pytest.raises(ConfigurationError, match="pip install orjson"):
        resolve_codec("orjson")
