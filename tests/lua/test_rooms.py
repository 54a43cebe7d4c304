"""Rooms: exactly what is stored and what is published."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from redis_toolkit import keys
from redis_toolkit._core.flows import rooms
from redis_toolkit._core.flows.rooms import Connected, Kept
from tests.kit.servers import Server
from tests.lua.driving import ask, drive, entries, fields, scores
from tests.lua.run import LEASE, all_keys, expires_within, server_ms

ROOM, KEPT, AGED = "lobby", Kept(10, 0), Kept(10, 60_000)
LOG, MEMBERS = keys.room_log(ROOM), keys.room_members(ROOM)
HOUR = 3600_000


@pytest.fixture
def heard(server: Server) -> Iterator[Any]:
    """Returns what was published since, by channel."""
    with server.client().pubsub() as pubsub:  # type: ignore[no-untyped-call]
        pubsub.psubscribe("*")
        assert pubsub.get_message(timeout=30) is not None

        def heard() -> list[tuple[str, str]]:
            found: list[tuple[str, str]] = []
            server.execute("PUBLISH", "end", "")
            while True:
                message = pubsub.get_message(timeout=30)
                if message["channel"] == "end":
                    return found
                found.append((message["channel"], message["data"]))

        yield heard


def one(user: str, connection: str = "c1", since: int | None = None, metadata: bytes = b"{}") -> Connected:
    return Connected(user, connection, metadata, since)


def here(server: Server, *some: Connected, lease_ms: int = LEASE) -> rooms.Here:
    return drive(server, rooms.beat([(ROOM, KEPT, some)], lease_ms))[0]


def bodies(server: Server, key: str = LOG) -> list[dict[str, Any]]:
    return [json.loads(found["b"]) for _, found in entries(server, key)]


class TestSending:
    def test_the_entry_is_the_body_and_what_is_published_has_its_id_in_front(
        self, server: Server, heard: Any
    ) -> None:
        entry = drive(server, rooms.send(ROOM, "ann", b'{"type":"message","text":"a/b"}', KEPT, None))
        assert entries(server, LOG) == [(entry, {"b": '{"type":"message","text":"a/b"}'})]
        ms = entry.partition("-")[0]
        expected = f'{{"id":"{entry}","timestamp":{ms[:-3]}.{ms[-3:]},"type":"message","text":"a/b"}}'
        assert heard() == [("chat:room:lobby", expected)]
        assert all_keys(server) == {LOG}
        assert ask(server, "PTTL", LOG) == -1

    def test_an_id_of_the_sender_is_kept_for_a_day(self, server: Server, heard: Any) -> None:
        first = drive(server, rooms.send(ROOM, "a:b", b'{"a":1}', KEPT, "x"))
        assert drive(server, rooms.send(ROOM, "a:b", b'{"a":2}', KEPT, "x")) == first
        key = "rt:r:{lobby}:sent:a%3Ab:x"
        assert all_keys(server) == {LOG, key}
        assert ask(server, "GET", key) == first
        assert expires_within(server, key, 24 * HOUR)
        assert bodies(server) == [{"a": 1}]
        assert len(heard()) == 1

    def test_it_is_kept_by_count_and_by_age(self, server: Server) -> None:
        for number in range(15):
            drive(server, rooms.send(ROOM, "ann", b'{"n":%d}' % number, KEPT, None))
        assert [found["n"] for found in bodies(server)] == list(range(5, 15))
        ask(server, "DEL", LOG)
        ask(server, "XADD", LOG, "5-0", "b", "{}")
        drive(server, rooms.send(ROOM, "ann", b'{"n":1}', AGED, None))
        assert bodies(server) == [{"n": 1}]
        assert expires_within(server, LOG, 60_000)
        drive(server, rooms.send(ROOM, "ann", b'{"n":2}', KEPT, None))
        assert ask(server, "PTTL", LOG) == -1

    def test_what_is_direct_is_in_two_logs_under_one_id_of_the_room(self, server: Server, heard: Any) -> None:
        before = drive(server, rooms.send(ROOM, "ann", b"{}", KEPT, None))
        entry = drive(server, rooms.send_direct(ROOM, "ann", "b{}", b'{"n":1}', KEPT, "x"))
        after = drive(server, rooms.send(ROOM, "ann", b"{}", KEPT, None))
        ids = [tuple(map(int, found.split("-"))) for found in (before, entry, after)]
        assert ids == sorted(set(ids))
        assert [found for found, _ in entries(server, LOG)] == [before, after]
        for user in ("ann", "b{}"):
            assert entries(server, f"rt:r:{{lobby}}:d:{user}") == [(entry, {"b": '{"n":1}'})]
        channels = [channel for channel, body in heard() if entry in body]
        assert channels == ["rt:r:{lobby}:user:b{}", "rt:r:{lobby}:user:ann"]
        assert drive(server, rooms.send_direct(ROOM, "ann", "b{}", b"{}", KEPT, "x")) == entry

    def test_typing_leaves_nothing(self, server: Server, heard: Any) -> None:
        drive(server, rooms.announce(ROOM, b'{"type":"typing"}'))
        [(channel, body)] = heard()
        assert channel == "chat:room:lobby"
        message = json.loads(body)
        assert abs(message.pop("timestamp") * 1000 - server_ms(server)) < 30_000
        assert message == {"id": None, "type": "typing"}
        assert all_keys(server) == set()

    def test_a_foreign_value_in_the_way_is_an_error_and_nothing_is_written(self, server: Server) -> None:
        ask(server, "SET", keys.room_direct(ROOM, "ben"), "mine")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            drive(server, rooms.send_direct(ROOM, "ann", "ben", b"{}", KEPT, "x"))
        assert all_keys(server) == {keys.room_direct(ROOM, "ben")}


class TestPresence:
    def test_a_join_is_stored_and_announced_once(self, server: Server, heard: Any) -> None:
        before = server_ms(server)
        first = here(server, one("ann", metadata=b'{"a":1}'))
        after = server_ms(server)
        assert before <= first.now <= after
        assert (first.lapsed, first.last) == (0, first.announced[0])
        assert bodies(server) == [{"type": "join", "user": "ann", "text": ""}]
        assert scores(server, MEMBERS) == {"ann": first.now + LEASE}
        expiry = first.now + LEASE
        assert fields(server, "rt:r:{lobby}:u:ann") == {"c1": f'{expiry} {first.now} {{"a":1}}'}
        assert expires_within(server, "rt:r:{lobby}:u:ann", 2 * LEASE)
        assert expires_within(server, MEMBERS, HOUR)
        assert scores(server, "rt:rooms").keys() == {"lobby"}
        assert expires_within(server, "rt:rooms", HOUR)
        assert all_keys(server) == {LOG, MEMBERS, "rt:r:{lobby}:u:ann", "rt:rooms"}

        again = here(server, one("ann", since=5), one("ann", "c2"))
        assert again.announced == ["", ""]
        assert fields(server, "rt:r:{lobby}:u:ann") == {
            "c1": f"{again.now + LEASE} 5 {{}}",
            "c2": f"{again.now + LEASE} {again.now} {{}}",
        }
        assert len(heard()) == 1

    def test_a_user_is_gone_with_the_last_connection(self, server: Server, heard: Any) -> None:
        here(server, one("ann"), one("ann", "c2"), one("ben"))
        drive(server, rooms.leave([(ROOM, KEPT, [one("ann")])]))
        assert scores(server, MEMBERS).keys() == {"ann", "ben"}
        drive(server, rooms.leave([(ROOM, KEPT, [one("ann", "c2")])]))
        drive(server, rooms.leave([(ROOM, KEPT, [one("ann", "c2")])]))
        assert scores(server, MEMBERS).keys() == {"ben"}
        assert bodies(server)[2:] == [{"type": "leave", "user": "ann", "text": ""}]
        assert [json.loads(body)["type"] for _, body in heard()] == ["join", "join", "leave"]
        drive(server, rooms.leave([(ROOM, AGED, [one("ben")])]))
        assert all_keys(server) == {LOG, "rt:rooms"}

    def test_a_connection_that_lapsed_keeps_nobody(self, server: Server) -> None:
        here(server, one("ann"))
        ask(server, "HSET", keys.room_user(ROOM, "ann"), "old", "5 5 {}")
        drive(server, rooms.leave([(ROOM, KEPT, [one("ann")])]))
        assert not ask(server, "EXISTS", MEMBERS)

    def test_a_user_is_there_for_the_longest_lease_of_the_connections(self, server: Server) -> None:
        long = here(server, one("ann"), lease_ms=60 * LEASE).now + 60 * LEASE
        short = here(server, one("ann", "c2")).now + LEASE
        assert scores(server, MEMBERS) == {"ann": long}
        assert ask(server, "PTTL", keys.room_user(ROOM, "ann")) > 59 * LEASE
        drive(server, rooms.leave([(ROOM, KEPT, [one("ann")])]))
        assert scores(server, MEMBERS) == {"ann": short}

    def test_a_clock_that_was_put_back_keeps_nobody(self, server: Server) -> None:
        here(server, one("ann"))
        ask(server, "ZADD", MEMBERS, server_ms(server) + HOUR, "ann")
        now = here(server, one("ann", since=1)).now
        assert scores(server, MEMBERS) == {"ann": now + LEASE}

    def test_who_is_lost_is_announced_once(self, server: Server) -> None:
        here(server, one('a"n/n'), one("ben"))
        ask(server, "ZADD", MEMBERS, 5, 'a"n/n')
        assert here(server, one("ben", since=1)).lapsed == 1
        assert drive(server, rooms.sweep([(ROOM, KEPT)])) == 1
        assert drive(server, rooms.sweep([(ROOM, KEPT)])) == 0
        assert bodies(server)[2:] == [{"type": "leave", "user": 'a"n/n', "text": "", "reason": "lost"}]
        assert scores(server, MEMBERS).keys() == {"ben"}
        assert not ask(server, "EXISTS", keys.room_user(ROOM, 'a"n/n'))

    def test_a_join_takes_out_who_was_lost_long_ago_only(self, server: Server) -> None:
        here(server, one("ann"), one("ben"))
        now = server_ms(server)
        ask(server, "ZADD", MEMBERS, now - 10, "ann", now - LEASE - 60_000, "ben")
        joined, said = drive(server, rooms.join(ROOM, KEPT, LEASE, one("cid"), 10))
        assert scores(server, MEMBERS).keys() == {"ann", "cid"}
        assert joined.lapsed == 1
        kinds = [json.loads(body)["type"] for _, body in said]
        assert kinds == ["join", "join", "leave"]  # without its own

    def test_who_is_looked_at_is_who_lives(self, server: Server) -> None:
        here(server, one("ann", since=7), one("ann", "c2", since=5, metadata=b'{"a":1}'), one("ben"))
        ask(server, "ZADD", MEMBERS, 5, "ben")
        ask(server, "HSET", keys.room_user(ROOM, "ann"), "old", "5 5 {}", "mine", "x")
        ask(server, "ZADD", MEMBERS, server_ms(server) + HOUR, b"\xff", server_ms(server) + HOUR, "unknown")
        ann, unknown = drive(server, rooms.members(ROOM))
        assert (unknown.user, unknown.connections) == ("unknown", [])
        assert (ann.user, ann.connections) == ("ann", [(5, b'{"a":1}'), (7, b"{}")])
        ask(server, "ZADD", keys.rooms(), server_ms(server), "empty", server_ms(server), b"\xff")
        assert drive(server, rooms.rooms()) == [("lobby", 3)]

    def test_rooms_that_nobody_uses_are_forgotten(self, server: Server) -> None:
        ask(server, "ZADD", keys.rooms(), 5, "old")
        here(server, one("ann"))
        assert scores(server, keys.rooms()).keys() == {"lobby"}


class TestReading:
    def test_both_logs_in_order(self, server: Server) -> None:
        sent = []
        for number in range(6):
            if number % 3:
                flow = rooms.send(ROOM, "ann", b'{"n":%d}' % number, KEPT, None)
            else:
                flow = rooms.send_direct(ROOM, "ben", "ann", b'{"n":%d}' % number, KEPT, None)
            sent.append(drive(server, flow))
        page = drive(server, rooms.read(ROOM, "ann", "0-0", 100))
        assert [entry.decode() for entry, _ in page.entries] == sent
        assert (page.first, page.last, page.complete) == (sent[1], sent[5], True)
        after, got = "0-0", []
        for _ in range(6):
            page = drive(server, rooms.read(ROOM, "ann", after, 2))
            got += [entry.decode() for entry, _ in page.entries]
            after = got[-1]
            if page.complete:
                break
        assert got == sent

    def test_a_room_that_never_was(self, server: Server) -> None:
        page = drive(server, rooms.read(ROOM, "ann", "5-0", 2))
        assert (page.first, page.last, page.entries, page.complete) == ("", "", [], True)
        assert all_keys(server) == set()

    def test_one_whose_messages_are_gone_knows_its_last_id(self, server: Server) -> None:
        entry = drive(server, rooms.send(ROOM, "ann", b"{}", Kept(0, 0), None))
        page = drive(server, rooms.read(ROOM, "ann", "0-0", 2))
        assert (page.first, page.last, page.entries) == ("", entry, [])
