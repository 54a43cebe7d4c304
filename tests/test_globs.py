"""Our matcher against the one in real servers, on patterns that nobody would write on purpose."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from redis_toolkit.globs import is_glob, matches, rank
from redis_toolkit.message import ExactChannel
from tests.kit.ports import HOST
from tests.kit.servers import Server

ALPHABET = [
    b"!",
    b"A",
    b"a",
    b"b",
    b"c",
    b"-",
    b"]",
    b"[",
    b"^",
    b"\\",
    b"*",
    b"?",
    b"\n",
    b"\x00",
    b"\x7f",
    b"\x80",
    b"\xff",
]
TOKENS = [
    *ALPHABET,
    b"**",
    b"[a-c]",
    b"[c-a]",
    b"[^a]",
    b"[!a]",
    b"[^]",
    b"[]",
    b"[\\]]",
    b"[a-",
    b"[\\",
    b"\\*",
    b"\x80-\xff",
]

pieces = st.lists(st.sampled_from(TOKENS), min_size=1, max_size=10).map(b"".join)
sets = st.lists(st.sampled_from(ALPHABET), max_size=6).map(lambda signs: b"[" + b"".join(signs))
globs = st.one_of(
    pieces,
    st.tuples(pieces, sets).map(b"".join),
    st.tuples(sets, st.just(b"]"), pieces).map(b"".join),
    st.binary(min_size=1, max_size=8),
)
names = st.one_of(
    st.lists(st.sampled_from(ALPHABET), min_size=1, max_size=8).map(b"".join),
    st.binary(min_size=1, max_size=8),
)
on_real_server = settings(
    max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
def raw(server: Server) -> Iterator[redis.Redis]:
    """A client that speaks bytes."""
    with redis.Redis(host=HOST, port=server.port, protocol=2) as client:
        yield client


class Subscribed:
    """Many channels with a subscriber each, so that ``PUBSUB CHANNELS glob`` says which ones match."""

    def __init__(self, client: redis.Redis, channels: set[bytes]) -> None:
        self.client = client
        self.channels = channels
        self.pubsub = client.pubsub()  # type: ignore[no-untyped-call]
        self.pubsub.subscribe(*channels)
        for _ in channels:
            assert self.pubsub.get_message(timeout=30) is not None

    def matching(self, glob: bytes) -> set[bytes]:
        return set(self.client.pubsub_channels(glob))  # type: ignore[arg-type]


@pytest.fixture
def subscribed(raw: redis.Redis) -> Iterator[Subscribed]:
    chance = random.Random(7)
    short = {bytes([x, y]) for x in b"ab-]^\\\x80" for y in b"ac[*\xff"} | {b"", *ALPHABET}
    long = {b"".join(chance.choices(ALPHABET, k=chance.randint(3, 9))) for _ in range(300)}
    found = Subscribed(raw, short | long)
    yield found
    found.pubsub.close()


@on_real_server
@given(glob=globs)
def test_the_server_and_we_choose_the_same_of_many_channels(subscribed: Subscribed, glob: bytes) -> None:
    ours = {name for name in subscribed.channels if matches(glob, name)}

    assert subscribed.matching(glob) == ours


@on_real_server
@given(glob=globs, wanted=st.lists(names, min_size=1, max_size=12), chance=st.randoms(use_true_random=False))
def test_the_server_and_we_agree_on_keys_made_from_the_pattern(
    raw: redis.Redis, glob: bytes, wanted: list[bytes], chance: random.Random
) -> None:
    assume(glob != b"*")  # KEYS * does not ask the matcher
    keys = {*wanted, glob, glob.replace(b"*", b""), glob.replace(b"\\", b""), glob[:-1]}
    keys |= {bytes(chance.choice((byte, 0x61)) for byte in glob), glob + b"a", b"a" + glob}
    keys.discard(b"")
    with raw.pipeline(transaction=False) as pipe:
        pipe.flushall()
        pipe.mset(dict.fromkeys(keys, b""))
        pipe.keys(glob)
        theirs = set(pipe.execute()[-1])

    assert theirs == {key for key in keys if matches(glob, key)}


@pytest.mark.parametrize(
    "glob",
    [
        b"",
        b"*",
        b"**",
        b"?",
        b"a",
        b"[",
        b"[]",
        b"[^]",
        b"\\",
        b"[a-",
        b"[\\",
        b"[^",
        b"*[",
        b"a*",
        b"[\xff-\x00]",
    ],
)
def test_the_server_and_we_agree_at_the_edges(subscribed: Subscribed, glob: bytes) -> None:
    assert subscribed.matching(glob) == {name for name in subscribed.channels if matches(glob, name)}


def test_many_stars_agree_with_the_server(subscribed: Subscribed) -> None:
    for count in range(1, 12):
        glob = b"*a" * count + b"*"
        assert subscribed.matching(glob) == {name for name in subscribed.channels if matches(glob, name)}


@pytest.mark.parametrize(
    "glob", [b"*a" * 40 + b"*b", b"*" * 200 + b"b", b"*?" * 100 + b"b", b"*[a-z]" * 50 + b"*B"]
)
def test_a_pattern_of_many_stars_does_not_take_for_ever(glob: bytes) -> None:
    started = time.process_time()

    assert not matches(glob, b"a" * 5000)

    assert time.process_time() - started < 20  # exponential would be years; this takes a fraction of a second


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        ("orders", False),
        ("orders:*", True),
        ("what?", True),
        ("[ab]", True),
        ("back\\slash", False),
        ("a]b", False),
        ("a^b-c", False),
        (ExactChannel("what?"), False),
        (ExactChannel("orders:*"), False),
    ],
)
def test_what_counts_as_a_glob(channel: str, expected: bool) -> None:
    assert is_glob(channel) is expected


class TestRank:
    def test_only_what_matches(self) -> None:
        assert rank("orders:1", ["users:*", "orders:?", "orders"]) == ["orders:?"]

    def test_the_longest_literal_prefix_comes_first(self) -> None:
        assert rank("a:b:c", ["*", "a:*", "a:b:*", "a*"]) == ["a:b:*", "a:*", "a*", "*"]

    def test_equals_are_ordered_by_name_whatever_order_they_came_in(self) -> None:
        expected = ["a*", "a?", "a[a-z]"]
        assert rank("ab", ["a[a-z]", "a?", "a*"]) == expected
        assert rank("ab", ["a*", "a[a-z]", "a?"]) == expected

    def test_an_escape_ends_the_literal_prefix(self) -> None:
        assert rank("a*b", [r"a\**", "a*b*"]) == ["a*b*", r"a\**"]

    def test_names_that_are_not_ascii(self) -> None:
        assert rank("zürich:1", ["z?rich:*", "zürich:*", "z??rich:*"]) == ["zürich:*", "z??rich:*"]

    def test_no_globs(self) -> None:
        assert rank("orders", []) == []

    @given(st.text(min_size=1), st.lists(st.text(min_size=1, max_size=5), max_size=5))
    def test_any_text_can_be_ranked(self, channel: str, found: list[str]) -> None:
        assert set(rank(channel, found)) <= set(found)
