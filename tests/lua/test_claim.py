from __future__ import annotations

import pytest
import redis

from redis_toolkit._core.flow import by_text
from redis_toolkit._core.flows import leases
from redis_toolkit._core.flows.work import Claim, Claimed
from tests.kit.servers import Server
from tests.lua import trips
from tests.lua.driving import ask, drive, entries, pending, send
from tests.lua.queues import DELAYED, GROUP, HIGH, LOW, SOURCE, claim, submit
from tests.lua.run import all_keys, server_ms


def take(server: Server, free: int = 100, consumer: str = "me") -> Claim:
    return drive(server, trips.claim(SOURCE, consumer, free))


def test_the_streams_go_in_their_order_up_to_what_is_free(server: Server) -> None:
    submit(server, "l1", "l2")
    submit(server, "h1", "h2", priority="high")

    items = take(server, 3).items

    ids = [entry for key in (HIGH, LOW) for entry, _ in entries(server, key)]
    assert [item.entry.decode() for item in items] == ids[:3]
    assert items[0] == Claimed(0, ids[0].encode(), 1, b'{"id":"h1"}', 1, None)
    assert [item.stream for item in items] == [0, 0, 1]
    assert pending(server, HIGH, GROUP) == {ids[0]: ("me", 1), ids[1]: ("me", 1)}
    assert pending(server, LOW, GROUP) == {ids[2]: ("me", 1)}


def test_with_nothing_free_nothing_is_taken(server: Server) -> None:
    submit(server, "1")
    assert take(server, 0).items == []
    assert [len(take(server, 1).items) for _ in range(2)] == [1, 0]


def test_two_consumers_never_get_the_same(server: Server) -> None:
    submit(server, *map(str, range(10)))
    got = [item.entry for consumer in "abc" for item in claim(server, 4, consumer)]
    assert len(set(got)) == len(got) == 10


def test_groups_that_are_missing_are_made_from_the_beginning(server: Server) -> None:
    submit(server, "1")
    found = take(server)
    assert (found.made, len(found.items)) == (2, 1)
    assert all_keys(server) == {HIGH, LOW}
    assert take(server).made == 0


def test_what_is_due_and_the_servers_clock(server: Server) -> None:
    before = server_ms(server)
    found = take(server)
    assert before <= found.now <= server_ms(server)
    assert found.due is None
    server.execute("ZADD", DELAYED, 1795379098102, "later", 1795379098101, "first")
    assert take(server).due == 1795379098101


def test_a_paused_source_gives_nothing(server: Server) -> None:
    submit(server, "1")
    drive(server, leases.pause(SOURCE))
    found = take(server)
    assert (found.paused, found.items) == (True, [])
    drive(server, leases.resume(SOURCE))
    found = take(server)
    assert (found.paused, len(found.items)) == (False, 1)


def test_it_says_that_something_was_cancelled(server: Server) -> None:
    assert take(server).cancelled == []
    server.execute("ZADD", SOURCE.cancelled, 1, "7", 2, "8")
    assert take(server).cancelled == ["8", "7"]
    for number in range(leases.CANCELLED):
        server.execute("ZADD", SOURCE.cancelled, 10 + number, str(number))
    assert len(take(server).cancelled) == leases.CANCELLED
    submit(server, "1")
    server.execute("DEL", SOURCE.cancelled)
    server.execute("SET", SOURCE.cancelled, "a foreign value")
    found = take(server)
    assert (found.cancelled, len(found.items)) == ([], 1)


def test_what_was_delivered_is_not_lost_by_a_later_failure(server: Server) -> None:
    submit(server, "h1", priority="high")
    take(server, 1)
    submit(server, "h2", priority="high")
    server.execute("SET", LOW, "mine")

    found = take(server)

    assert [item.body for item in found.items] == [b'{"id":"h2"}']
    assert found.error.startswith("WRONGTYPE")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        take(server)


def test_a_foreign_entry_has_no_body(server: Server) -> None:
    server.execute("XADD", LOW, "1-1", "what", "ever", "b2", "x")
    server.execute("XADD", LOW, "1-2", "b", "x", "a", "many")
    assert take(server).items == [Claimed(1, b"1-1", 1, None), Claimed(1, b"1-2", 1, b"x")]


def test_the_waiting_command_takes_one_of_each_and_says_whether_it_is_paused(server: Server) -> None:
    take(server)
    submit(server, "1", "2")
    submit(server, "3", priority="high")
    reply, paused = send(server, *leases.block(SOURCE, "me", 10))
    assert [(item.stream, item.body) for item in leases.read_block(SOURCE, reply)] == [
        (0, b'{"id":"3"}'), (1, b'{"id":"1"}'),
    ]  # fmt: skip
    assert paused == 0
    ask(server, "DEL", HIGH)
    take(server)
    ask(server, "XREADGROUP", "GROUP", GROUP, "me", "STREAMS", LOW, ">")
    assert leases.read_block(SOURCE, send(server, *leases.block(SOURCE, "me", 1))[0]) == []


def packet(server: Server, free: int, main: int) -> Claim:
    script, read = leases.claim_packet(SOURCE, "me", free, main)
    first, second = send(server, by_text(script), read)
    taken = leases.read_claim(first)
    taken.items += leases.read_block(SOURCE, second)
    return taken


def test_one_packet_takes_what_goes_before_and_the_rest_natively(server: Server) -> None:
    take(server)
    submit(server, "l1", "l2", "l3")
    submit(server, "h", priority="high")
    before = server_ms(server)

    found = packet(server, 2, 1)
    assert [(item.stream, item.body) for item in found.items] == [
        (0, b'{"id":"h"}'), (1, b'{"id":"l1"}'), (1, b'{"id":"l2"}'),
    ]  # fmt: skip
    assert found.now >= before
    assert packet(server, 2, 0).items == []
    assert [item.body for item in packet(server, 2, 1).items] == [b'{"id":"l3"}']

    drive(server, leases.pause(SOURCE))
    assert packet(server, 2, 1).paused


@pytest.mark.fault(25, "tasks")
def test_it_goes_on_when_memory_is_full(server: Server) -> None:
    submit(server, "1", "2")
    take(server, 1)
    server.execute("CONFIG", "SET", "maxmemory", "1")
    try:
        assert len(take(server).items) == 1
    finally:
        server.execute("CONFIG", "SET", "maxmemory", "0")
