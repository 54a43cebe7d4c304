from __future__ import annotations

from typing import Any

import pytest
import redis

from redis_toolkit import StreamFull, keys
from redis_toolkit._core.flows import durable, events
from redis_toolkit._core.flows.durable import GroupInfo
from redis_toolkit._core.flows.events import Event, Published
from redis_toolkit._core.flows.work import Claimed, Ended, Settlement
from tests.kit.servers import Server
from tests.lua import trips
from tests.lua.driving import ask, drive, entries, fields
from tests.lua.run import all_keys, expires_within, server_ms

STREAM, LIMITS = keys.stream("orders"), keys.limits("orders")


def publish(server: Server, *bodies: str) -> list[str]:
    done = drive(server, events.publish_many("orders", [Event(body.encode()) for body in bodies]))
    for one in done:
        if isinstance(one, StreamFull):
            raise one
    return [one.entry for one in done if isinstance(one, Published)]


def make(server: Server, group: str = "g", **more: Any) -> tuple[bool, str]:
    return drive(server, durable.make_group(durable.group_call("orders", group, **more)))


def take(server: Server, group: str = "g", free: int = 100) -> list[Claimed]:
    return drive(server, trips.claim(durable.group_source("orders", group), "me", free)).items


def finish(server: Server, group: str = "g", free: int = 100) -> list[bytes | None]:
    items = take(server, group, free)
    settlements = [Settlement(item, item.entry, Ended("done")) for item in items]
    drive(server, trips.settle(durable.group_source("orders", group), "me", settlements))
    return [item.body for item in items]


def info(server: Server) -> dict[str, GroupInfo]:
    return {one.name: one for one in drive(server, durable.groups("orders"))}


class TestPublishing:
    def test_without_a_group_it_is_live_only(self, server: Server) -> None:
        with server.client().pubsub() as heard:  # type: ignore[no-untyped-call]
            heard.subscribe("orders")
            assert heard.get_message(timeout=30)
            assert drive(server, events.publish("orders", Event(b"x"))) == Published(1, "")
            assert heard.get_message(timeout=30)["data"] == "x"
        assert all_keys(server) == set()

    def test_with_a_group_it_is_kept_as_well(self, server: Server) -> None:
        make(server)
        with server.client().pubsub() as heard:  # type: ignore[no-untyped-call]
            heard.subscribe("orders")
            assert heard.get_message(timeout=30)
            found = drive(server, events.publish("orders", Event(b"x")))
            assert heard.get_message(timeout=30)["data"] == "x"
        assert found.receivers == 1
        assert entries(server, STREAM) == [(found.entry, {"b": "x"})]
        assert all_keys(server) == {STREAM, keys.group_again("orders", "g")}

    def test_one_id_is_one_event(self, server: Server) -> None:
        make(server)
        first = drive(server, events.publish("orders", Event(b"x", "7", 60_000)))
        again = drive(server, events.publish("orders", Event(b"x", "7", 60_000)))
        assert again == Published(0, first.entry, same=True)
        assert len(entries(server, STREAM)) == 1
        assert ask(server, "GET", keys.published("orders", "7")) == first.entry
        assert expires_within(server, keys.published("orders", "7"), 60_000)

    @pytest.mark.fault(25, "durable")
    @pytest.mark.parametrize("limit", [None, 5])
    def test_full_memory_refuses_it_whole(self, server: Server, limit: int | None) -> None:
        make(server, max_backlog=limit)
        publish(server, "1")
        before = fields(server, LIMITS)
        server.execute("CONFIG", "SET", "maxmemory", "1")
        try:
            with pytest.raises(redis.ResponseError, match="maxmemory"):
                publish(server, "2")
        finally:
            server.execute("CONFIG", "SET", "maxmemory", "0")
        assert len(entries(server, STREAM)) == 1
        assert fields(server, LIMITS) == before

    @pytest.mark.fault(35, "durable")
    @pytest.mark.parametrize("right", ["-publish", "-set", "resetchannels"])
    def test_a_missing_right_leaves_no_half_effect(self, server: Server, right: str) -> None:
        make(server)
        before = all_keys(server)
        server.execute("ACL", "SETUSER", "default", right)
        try:
            with pytest.raises(redis.ResponseError):
                drive(server, events.publish("orders", Event(b"x", "7")))
        finally:
            server.execute("ACL", "SETUSER", "default", "+@all", "allchannels")
        assert entries(server, STREAM) == []
        assert all_keys(server) == before


class TestMakingAGroup:
    def test_where_it_begins(self, server: Server) -> None:
        assert make(server, "first") == (True, "0-0")
        ids = publish(server, "1", "2", "3")
        assert make(server, "all", after="0") == (True, "0-0")
        assert make(server, "new", after="$") == (True, ids[2])
        assert make(server, "second", after=ids[0]) == (True, ids[0])
        publish(server, "4")
        got = {name: [item.body for item in take(server, name)] for name in info(server)}
        assert got == {
            "first": [b"1", b"2", b"3", b"4"], "all": [b"1", b"2", b"3", b"4"],
            "new": [b"4"], "second": [b"2", b"3", b"4"],
        }  # fmt: skip

    def test_from_a_point_in_time(self, server: Server) -> None:
        make(server, "first")
        for stamp in ("1000-0", "2000-0", "2000-7", "3000-0"):
            server.execute("XADD", STREAM, stamp, "b", stamp)
        make(server, "g", after=durable.since_ms(2000))
        assert [item.entry for item in take(server)] == [b"2000-0", b"2000-7", b"3000-0"]
        assert durable.since_ms(0) == "0"

    def test_again_it_stays_where_it_is(self, server: Server) -> None:
        make(server)
        ids = publish(server, "1")
        take(server)
        assert make(server, after="$") == make(server, after="0") == (False, ids[0])

    @pytest.mark.fault(13, "durable")
    def test_one_that_was_destroyed_goes_on_where_it_was(self, server: Server) -> None:
        make(server)
        ids = publish(server, "1", "2", "3")
        server.execute("XGROUP", "DESTROY", STREAM, "g")
        assert make(server, after=ids[1], seen=True) == (True, ids[1])
        assert [item.body for item in take(server)] == [b"3"]

    @pytest.mark.fault(11, "durable")
    def test_in_a_younger_stream_it_begins_at_the_beginning(self, server: Server) -> None:
        make(server, "other")
        server.execute("XADD", STREAM, "5-5", "b", "x")
        assert make(server, after="5-6", seen=True) == (True, "0-0")
        server.execute("DEL", STREAM)
        assert make(server, after="5-6", seen=True) == (True, "0-0")

    def test_its_limits(self, server: Server) -> None:
        make(server, max_backlog=5, drop=True)
        assert fields(server, LIMITS) == {"limit:g": "5 drop", "check": "0"}
        make(server, max_backlog=7)
        assert fields(server, LIMITS) == {"limit:g": "7 refuse", "check": "0"}
        make(server)
        drive(server, durable.trim("orders"))
        assert fields(server, LIMITS) == {}


class TestTrimming:
    def test_what_every_group_has_finished_goes(self, server: Server) -> None:
        make(server, "a")
        make(server, "b")
        ids = publish(server, "1", "2", "3", "4")
        finish(server, "a")
        assert drive(server, durable.trim("orders")).removed == 0
        finish(server, "b", 3)
        assert drive(server, durable.trim("orders")).removed == 3
        assert [entry for entry, _ in entries(server, STREAM)] == ids[3:]
        finish(server, "b")
        assert drive(server, durable.trim("orders")).removed == 1
        publish(server, "5")
        assert finish(server, "a") == finish(server, "b") == [b"5"]

    def test_what_is_claimed_stays(self, server: Server) -> None:
        make(server)
        publish(server, "1", "2", "3")
        held = take(server, free=1)
        finish(server)
        assert drive(server, durable.trim("orders")).removed == 0
        settlement = Settlement(held[0], held[0].entry, Ended("done"))
        drive(server, trips.settle(durable.group_source("orders", "g"), "me", [settlement]))
        assert drive(server, durable.trim("orders")).removed == 3

    def test_without_a_group_nothing_goes(self, server: Server) -> None:
        server.execute("XADD", STREAM, "*", "b", "x")
        assert drive(server, durable.trim("orders")).removed == 0
        server.execute("DEL", STREAM)
        assert drive(server, durable.trim("orders")).removed == 0


class TestLimits:
    def test_a_full_group_is_named(self, server: Server) -> None:
        make(server, "fast")
        make(server, "slow", max_backlog=3)
        publish(server, "1", "2", "3")
        finish(server, "fast")
        with pytest.raises(StreamFull, match=r"group 'slow' of channel 'orders' is 3 .* max_backlog is 3"):
            publish(server, "4")
        assert len(entries(server, STREAM)) == 3

        finish(server, "slow", 1)
        publish(server, "4")
        with pytest.raises(StreamFull):
            publish(server, "5")
        assert info(server)["slow"].lag == 3

    def test_what_is_claimed_counts(self, server: Server) -> None:
        make(server, max_backlog=2)
        publish(server, "1", "2")
        take(server)
        with pytest.raises(StreamFull, match="2 events behind"):
            publish(server, "3")

    def test_a_slow_group_without_a_limit_stops_nobody(self, server: Server) -> None:
        make(server, "slow")
        make(server, "fast", max_backlog=2)
        for number in range(10):
            publish(server, str(number))
            finish(server, "fast")
        assert len(entries(server, STREAM)) == 10
        assert len(take(server, "slow")) == 10

    def test_many_at_once_go_as_far_as_they_may(self, server: Server) -> None:
        make(server, max_backlog=700)
        done = drive(server, events.publish_many("orders", [Event(b"%d" % n) for n in range(1200)]))
        assert [isinstance(one, Published) for one in done] == [True] * 700 + [False] * 500
        assert [found["b"] for _, found in entries(server, STREAM)] == [str(n) for n in range(700)]

    def test_dropping_the_oldest_is_counted(self, server: Server) -> None:
        make(server, "slow", max_backlog=10, drop=True)
        make(server, "other")
        publish(server, *map(str, range(25)))
        finish(server, "other")
        found = info(server)["slow"]
        assert found.lag <= 10
        assert found.dropped == 25 - found.lag
        assert found.limit == "10 drop"
        got = finish(server, "slow")
        assert got == [b"%d" % number for number in range(25 - found.lag, 25)]

    def test_a_right_moment_later_all_is_as_before(self, server: Server) -> None:
        make(server, max_backlog=2)
        for number in range(50):
            publish(server, str(number))
            assert finish(server) == [b"%d" % number]
        drive(server, durable.trim("orders"))
        assert entries(server, STREAM) == []


class TestKeeping:
    def test_what_all_have_finished_is_kept_for_later_groups(self, server: Server) -> None:
        make(server, "short")
        make(server, "long", keep_ms=60_000)
        publish(server, "1", "2")
        finish(server, "short")
        finish(server, "long")
        drive(server, durable.trim("orders"))
        assert len(entries(server, STREAM)) == 2
        make(server, "late", after="0")
        assert [item.body for item in take(server, "late")] == [b"1", b"2"]

    def test_until_it_is_old(self, server: Server) -> None:
        make(server, keep_ms=60_000)
        server.execute("XADD", STREAM, "1000-0", "b", "old")
        [young] = publish(server, "young")
        finish(server)
        assert drive(server, durable.trim("orders")).removed == 1
        assert [entry for entry, _ in entries(server, STREAM)] == [young]

    def test_nobody_has_it_kept_who_says_so_no_more(self, server: Server) -> None:
        make(server, keep_ms=60_000)
        publish(server, "1")
        finish(server)
        make(server)
        drive(server, durable.trim("orders"))
        assert entries(server, STREAM) == []


class TestGroups:
    def test_none(self, server: Server) -> None:
        assert drive(server, durable.groups("orders")) == []

    def test_how_each_does(self, server: Server) -> None:
        make(server, "a", after="0")
        ids = publish(server, "1", "2", "3")
        make(server, "b", after=ids[1])
        take(server, "a", 1)
        server.execute("ZADD", keys.group_delayed("orders", "a"), 1, "x")
        server.execute("XADD", keys.group_dead("orders", "a"), "*", "b", "x")
        found = info(server)
        assert found["a"] == GroupInfo("a", 2, 1, 1, 1, 0, 1, ids[0], ids[0], None)
        assert found["b"] == GroupInfo("b", 1, 0, 0, 0, 0, 0, ids[1], ids[2], None)
        finish(server, "b")
        assert info(server)["b"].oldest is None

    def test_forgetting_the_last_leaves_nothing(self, server: Server) -> None:
        make(server, "a", max_backlog=1)
        make(server, "b")
        publish(server, "1")
        for key in (keys.group_delayed, keys.group_dead):
            server.execute("ZADD", key("orders", "a"), 1, "x")
        assert drive(server, durable.forget_group("orders", "a"))
        assert all_keys(server) == {STREAM, LIMITS, keys.group_again("orders", "b")}
        publish(server, "2", "3")
        assert all_keys(server) == {STREAM, keys.group_again("orders", "b")}
        assert drive(server, durable.forget_group("orders", "b"))
        assert all_keys(server) == set()
        assert not drive(server, durable.forget_group("orders", "b"))


def test_the_server_says_when_it_was_published(server: Server) -> None:
    make(server)
    before = server_ms(server)
    [entry] = publish(server, "1")
    assert before <= int(entry.split("-")[0]) <= server_ms(server)
