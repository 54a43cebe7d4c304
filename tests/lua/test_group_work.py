"""What a durable group does with its events: the same scripts as a queue's, on other keys."""

from __future__ import annotations

import pytest
import redis

from redis_toolkit import keys
from redis_toolkit._core.flows import durable, events, leases
from redis_toolkit._core.flows.events import Event
from redis_toolkit._core.flows.work import Claimed, DeadLetter, Ended, Later, Ok, Settled, Settlement
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.lua import trips
from tests.lua.driving import ask, drive, entries, fields, pending, scores
from tests.lua.run import LEASE, all_keys

STREAM = keys.stream("orders")
SOURCE, OTHER = durable.group_source("orders", "g"), durable.group_source("orders", "other")
AGAIN = SOURCE.streams[0]


@pytest.fixture
def ids(server: Server) -> list[bytes]:
    for group in ("g", "other"):
        drive(server, durable.make_group(durable.group_call("orders", group)))
    done = drive(server, events.publish_many("orders", [Event(b"1"), Event(b"2"), Event(b"3")]))
    return [one.entry.encode() for one in done if isinstance(one, events.Published)]


def take(server: Server, free: int = 100) -> list[Claimed]:
    return drive(server, trips.claim(SOURCE, "me", free)).items


def put_off(server: Server, item: Claimed, delay_ms: int = 0) -> Settled:
    settlement = Settlement(item, item.id or item.entry, Later(delay_ms), attempt=item.attempt + 1)
    return drive(server, trips.settle(SOURCE, "me", [settlement]))


def test_what_is_done_is_acknowledged_and_stays_for_others(server: Server, ids: list[bytes]) -> None:
    items = take(server)
    assert items[0] == Claimed(1, ids[0], 1, b"1", 1, None)
    before = all_keys(server)
    settlements = [Settlement(item, item.entry, Ok()) for item in items]
    assert drive(server, trips.settle(SOURCE, "me", settlements)) == Settled()
    assert pending(server, STREAM, "g") == {}
    assert len(entries(server, STREAM)) == 3
    assert all_keys(server) == before | {SOURCE.counters}
    assert fields(server, SOURCE.counters) == {"done": "3"}
    assert [why for _, why in drive(server, trips.settle(SOURCE, "me", settlements)).failed] == ["lost"] * 3
    assert len(drive(server, trips.claim(OTHER, "me", 100)).items) == 3


def test_a_retry_is_the_groups_own(server: Server, ids: list[bytes]) -> None:
    first = take(server, 1)[0]
    put_off(server, first, 60_000)
    assert pending(server, STREAM, "g") == {}
    assert len(entries(server, STREAM)) == 3
    assert fields(server, SOURCE.bodies) == {ids[0].decode(): "again 2 1"}
    assert list(scores(server, SOURCE.delayed)) == [ids[0].decode()]
    assert [item.body for item in drive(server, trips.claim(OTHER, "me", 100)).items] == [b"1", b"2", b"3"]


def test_it_comes_before_the_log_with_its_id_and_leaves_nothing(server: Server, ids: list[bytes]) -> None:
    put_off(server, take(server, 1)[0])
    eventually(lambda: drive(server, leases.promote(SOURCE)).due is None)
    assert [found for _, found in entries(server, AGAIN)] == [{"b": "1", "a": "2", "i": ids[0].decode()}]

    again, fresh = take(server, 2)
    assert (again.stream, again.id, again.attempt, again.body) == (0, ids[0], 2, b"1")
    assert (fresh.stream, fresh.entry) == (1, ids[1])

    put_off(server, again)
    eventually(lambda: drive(server, leases.promote(SOURCE)).due is None)
    [third] = take(server, 1)
    assert (third.id, third.attempt) == (ids[0], 3)
    settlements = [Settlement(third, ids[0], Ended("done")), Settlement(fresh, ids[1], Ended("done"))]
    assert drive(server, trips.settle(SOURCE, "me", settlements)) == Settled()
    assert entries(server, AGAIN) == []
    assert pending(server, AGAIN, "g") == pending(server, STREAM, "g") == {}


@pytest.mark.parametrize("retried", [False, True])
def test_a_dead_letter_is_requeued_for_its_group_alone(
    server: Server, ids: list[bytes], retried: bool
) -> None:
    item = take(server, 1)[0]
    if retried:
        put_off(server, item)
        eventually(lambda: drive(server, leases.promote(SOURCE)).due is None)
        item = take(server, 1)[0]
    dead = Settlement(item, item.id or item.entry, DeadLetter("failed", "E"), attempt=item.attempt)
    drive(server, trips.settle(SOURCE, "me", [dead]))
    [letter] = drive(server, leases.dead(SOURCE, 10))
    assert (letter.fields["id"], letter.fields["b"], letter.fields["from"]) == (ids[0], b"1", b"again")
    assert not server.execute("EXISTS", SOURCE.records + ids[0].decode())

    assert drive(server, leases.revive(SOURCE, [letter.entry])) == (1, "")
    [back] = take(server, 1)
    assert (back.stream, back.id, back.attempt, back.body) == (0, ids[0], 1, b"1")
    assert entries(server, SOURCE.dead) == []


def test_recovering_and_releasing_in_both_streams(server: Server, ids: list[bytes]) -> None:
    put_off(server, take(server, 1)[0])
    eventually(lambda: drive(server, leases.promote(SOURCE)).due is None)
    items = take(server, 2)
    assert drive(server, trips.release(SOURCE, "me", items, LEASE)) == 2
    recovered = drive(server, trips.recover(SOURCE, "you", LEASE, 100))
    assert [(item.stream, item.deliveries, item.id) for item in recovered] == [(0, 1, ids[0]), (1, 1, None)]
    pulse = drive(server, leases.heartbeat(SOURCE, "you", [(item, "") for item in recovered]))
    assert pulse is not None
    assert pulse.lost == []
    assert {who for who, _ in pending(server, STREAM, "g").values()} == {"you"}


def test_the_log_is_no_place_for_orphans(server: Server, ids: list[bytes]) -> None:
    settlements = [Settlement(item, item.entry, Ended("done")) for item in take(server, 2)]
    drive(server, trips.settle(SOURCE, "me", settlements))
    assert drive(server, leases.clean(SOURCE, 900_000)) == (0, 0)
    assert len(entries(server, STREAM)) == 3


@pytest.mark.fault(13, "durable")
def test_a_group_that_is_gone_is_said_and_not_made(server: Server, ids: list[bytes]) -> None:
    ask(server, "XGROUP", "DESTROY", STREAM, "g")
    with pytest.raises(redis.ResponseError, match="NOGROUP"):
        take(server)
    ask(server, "XADD", AGAIN, "*", "b", "x", "i", "1-1")
    found = drive(server, trips.claim(SOURCE, "me", 100))
    assert ([item.body for item in found.items], found.error[:7]) == ([b"x"], "NOGROUP")


def test_a_paused_group_gives_nothing(server: Server, ids: list[bytes]) -> None:
    drive(server, leases.pause(SOURCE))
    assert drive(server, trips.claim(SOURCE, "me", 100)).paused
    assert len(drive(server, trips.claim(OTHER, "me", 100)).items) == 3
    drive(server, leases.resume(SOURCE))
    assert len(take(server)) == 3
