"""`JSONCodec` against a judge that is slow and simple: small and large texts, written and read."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redis_toolkit import DecodeError, EncodeError
from redis_toolkit.codecs import JSONCodec, OrjsonCodec
from redis_toolkit.codecs.json_text import exponent_in_doubt, half_a_pair, marks_of
from redis_toolkit.codecs.payload import refuse_unfit
from redis_toolkit.codecs.sparse import SPARSE
from redis_toolkit.wire import Wire
from tests.wires import KEY

JSON, ORJSON = JSONCodec(), OrjsonCodec()
WIRE = Wire(JSON, 1_000_000)
FILLING = [" " * SPARSE, '"' + "a" * SPARSE + '"', ",".join(["1"] * SPARSE), ",".join(['""'] * SPARSE)]
"""What makes a text large: by white space, one long text, many numbers, many texts."""

PARTS = (
    r"a \": \" \\ { [ é \u00e9 \ud83d\ude00 \uD83D \ude00 1e400 99999999999999999999 a1e400 :1e400 true \n :"
)
NUMBERS = "0 -0 7 -1.5 1e5 1E+308 1e400 -1e999 0e400 1.0e-400 NaN -Infinity"
LONG = [*map(str, (2**64 - 1, 2**64, -(2**63), -(2**63) - 1)), "1" * 400, "1" * 400 + ".5", "1" * 250 + "e99"]

strings = st.lists(st.sampled_from(PARTS.split()), max_size=4).map(lambda parts: '"' + "".join(parts) + '"')
numbers = st.sampled_from([*NUMBERS.split(), *LONG])
keys = st.sampled_from(['"a"', '"b"', '"data"', '"\\u0061"', '"a\\":"', '"a:"', '""', '"1"', '"true"'])
space = st.sampled_from(["", "", "", " ", "\n"])


def inside(child: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    fields = st.builds("{}{}:{}{}".format, keys, space, space, child)
    return st.lists(child, max_size=4).map(lambda items: "[" + ",".join(items) + "]") | st.lists(
        fields, max_size=4
    ).map(lambda items: "{" + ",".join(items) + "}")


texts = st.recursive(strings | numbers | st.sampled_from(["null", "true"]), inside, max_leaves=8)


def judged(body: bytes) -> str:
    """Return what a text stands for, as `repr` shows it; empty when it breaks a rule."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(found)) != len(found):
            raise ValueError("twice")
        return dict(found)

    try:
        value = json.loads(body, object_pairs_hook=pairs)
        refuse_unfit(value)
    except (ValueError, EncodeError):
        return ""
    return repr(value)


def read(codec: JSONCodec, body: bytes) -> str:
    try:
        return repr(codec.decode(body))
    except DecodeError:
        return ""


@given(text=texts, around=space)
@example(text='{"a":1,"data":{"a":1,"a":2}}', around="")
@example(text='{"id":"12e345","data":[1e400]}', around="")
@example(text='"\\ud83d\\\\ude00"', around="")
@example(text='{"a":"1:2","a":1}', around=" ")
def test_a_small_text_is_read_as_the_judge_says(text: str, around: str) -> None:
    body = (around + text + around).encode()
    assert read(JSON, body) == read(ORJSON, body) == judged(body)


@given(text=texts, filling=st.sampled_from(FILLING), first=st.booleans())
def test_a_large_text_is_read_as_the_judge_says(text: str, filling: str, first: bool) -> None:
    body = (f"[{filling},{text}]" if first else f"[{text},{filling}]").encode()
    if filling.isspace():
        body = (text + filling).encode()
    assert read(JSON, body) == read(ORJSON, body) == judged(body)


names = st.sampled_from(["a", "value", "true", "xtrue", "7", "a1", 'q"', "é", 7, -1.5, True, None])
written = st.recursive(
    st.sampled_from(
        [0, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 1e300, math.nan, None, "a", "9" * 20, '":', "\ud800"]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)


def complaint(write: Any, *args: Any, **more: Any) -> Any:
    try:
        return write(*args, **more)
    except EncodeError as error:
        return str(error)


def by_the_judge(fields: dict[str, Any], data: Any) -> Any:
    """Return an envelope in JSON, or what is said of its payload."""
    said = complaint(refuse_unfit, data) or complaint(refuse_unfit, {"data": data})
    whole = {**fields, "data": data}
    return said or json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode()


@given(data=written, large=st.booleans())
def test_what_is_written_is_what_the_judge_lets_pass(data: Any, large: bool) -> None:
    data = [data, "a" * SPARSE] if large else data
    bare = (
        complaint(refuse_unfit, data) or json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()
    )
    assert complaint(JSON.encode, data) == bare
    assert complaint(WIRE.reply, 'é"7', data) == by_the_judge({"id": 'é"7'}, data)
    request = {"id": "7", "reply_to": KEY}
    for more in ({}, {"spread": True}, {"channel": "c"}, {"attempt": 2}, {"headers": {"h": "1"}}):
        assert complaint(WIRE.request, "7", KEY, data, **more) == by_the_judge({**request, **more}, data)


def test_an_envelope_counts_as_one_level_and_one_map() -> None:
    deep: Any = []
    for _ in range(99):
        deep = [deep]
    assert JSON.decode(JSON.encode(deep)) == deep
    with pytest.raises(EncodeError, match=r"^data\['data'\]\[0\].*nested more than 100 deep"):
        WIRE.reply("7", deep)
    with pytest.raises(EncodeError, match="100,000 lists and maps"):
        WIRE.reply("7", [[]] * 99_999)


@pytest.mark.parametrize("text", ['{"id":"ab12e345-1f"}', '["x1e999"]', '{"a":"- 9e000"}', "[1e99]"])
def test_a_text_in_hex_is_no_doubt(text: str) -> None:
    assert not exponent_in_doubt(marks_of(text.encode()))


@given(
    parts=st.lists(
        st.sampled_from(["\\ud83d", "\\uDBFF", "\\ude00", "\\uDc00", "\\\\", "\\u00e9", "d", "\\n"])
    )
)
def test_half_a_pair_is_found_wherever_it_is(parts: list[str]) -> None:
    text = '"' + "".join(parts) + '"'
    halves = [char for char in json.loads(text) if "\ud800" <= char <= "\udfff"]
    assert bool(half_a_pair(text)) == bool(halves)
