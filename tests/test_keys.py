"""The exact keys: clients in other languages rely on them."""

from __future__ import annotations

import inspect
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redis_toolkit import keys

OF_CHANNEL = [keys.requests, keys.servers, keys.serve]
text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
awkward = st.text(st.sampled_from("a{}%:257BbD"), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (keys.requests("orders"), "rt:c:{orders}:requests"),
        (keys.servers("orders"), "rt:c:{orders}:servers"),
        (keys.serve("orders"), "rt:c:{orders}:serve"),
        (keys.reply("orders", "7f"), "rt:c:{orders}:reply:7f"),
        (keys.patterns(), "rt:patterns"),
        (keys.once("orders", "billing", "charge-1"), "rt:o:{orders}:billing:charge-1"),
        (keys.once("a{b}", "A.<locals>:{x}%", "a:{b}"), "rt:o:{a%7Bb%7D}:A.<locals>%3A%7Bx%7D%25:a:{b}"),
        (keys.requests("a{b}c%d"), "rt:c:{a%7Bb%7Dc%25d}:requests"),
        (keys.requests("%7B"), "rt:c:{%257B}:requests"),
        (keys.requests("a b:ü*"), "rt:c:{a b:ü*}:requests"),
    ],
)
def test_the_wire_format(key: str, expected: str) -> None:
    assert key == expected


@given(text | awkward)
def test_each_key_has_one_hash_tag_and_all_of_a_channel_share_it(channel: str) -> None:
    tags = set()
    for key in (*(make(channel) for make in OF_CHANNEL), keys.reply(channel, "7")):
        assert key.count("{") == key.count("}") == 1
        tags.add(key[key.index("{") + 1 : key.index("}")])
    [tag] = tags
    assert tag


@given(text | awkward, text | awkward)
def test_two_channels_never_share_a_key(one: str, other: str) -> None:
    for make in OF_CHANNEL:
        assert (make(one) == make(other)) == (one == other)
    assert (keys.reply(one, "7") == keys.reply(other, "7")) == (one == other)


@given(text | awkward, text | awkward)
def test_no_key_of_one_kind_is_a_key_of_another(one: str, other: str) -> None:
    mine = {keys.requests(one), keys.servers(one), keys.serve(one), keys.reply(one, "7"), keys.patterns()}
    assert len(mine) == 5
    assert keys.requests(one) not in {keys.servers(other), keys.serve(other), keys.reply(other, "7")}


@given(text | awkward, st.text("0123456789abcdef.", min_size=1))
def test_replies_go_to_reply_keys_only(channel: str, request_id: str) -> None:
    assert keys.is_reply_key(keys.reply(channel, request_id))
    assert keys.is_reply_key(f"rt:i:{{{request_id}}}")
    for key in (*(make(channel) for make in OF_CHANNEL), keys.patterns(), channel):
        assert key.startswith("rt:") or not keys.is_reply_key(key)


@pytest.mark.parametrize(
    "key",
    ["", "session:1", "rt:patterns", "rt:c:{x}:requests", "rt:c:{x}:stream", "rt:w:{p}", "rt:c:x:reply:1"],
)
def test_what_is_no_reply_key(key: str) -> None:
    assert not keys.is_reply_key(key)


def test_every_function_says_its_type_and_its_life() -> None:
    for name in set(keys.__all__) - {"WITHOUT_TTL", "is_reply_key", "serve", "task_place"}:
        said = inspect.getdoc(getattr(keys, name)) or ""
        if said.startswith(("Prefix of ", "Pub/Sub channel: ")):
            continue
        assert re.split("[ ,:]", said, maxsplit=1)[0] in {"LIST", "ZSET", "HASH", "STREAM", "STRING"}
        assert "TTL" in said or name in keys.WITHOUT_TTL


@given(*[text | awkward] * 6)
def test_what_is_done_once_by_two_handlers_is_two_things(
    channel: str, scope: str, name: str, other_channel: str, other_scope: str, other_name: str
) -> None:
    one, other = (channel, scope, name), (other_channel, other_scope, other_name)
    assert (keys.once(*one) == keys.once(*other)) == (one == other)
