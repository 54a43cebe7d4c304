"""Moving work between those who hold it: heartbeat, recover, release, promote, clean, revive."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from redis_toolkit import keys
from redis_toolkit._core.flow import by_text
from redis_toolkit._core.flows import leases
from redis_toolkit._core.flows.work import Claimed, DeadLetter, Held, Later, Letter, Ok, Settlement
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.lua import trips
from tests.lua.driving import ask, drive, entries, fields, pending, scores, send
from tests.lua.queues import (
    BODIES,
    DEAD,
    DELAYED,
    GROUP,
    HIGH,
    LOW,
    SOURCE,
    claim,
    claimed,
    record,
    submit,
)  # fmt: skip
from tests.lua.run import LEASE, all_keys, server_ms


def age(server: Server, item: Held, ms: int = 60_000, consumer: str = "me") -> None:
    """Make an entry as idle as if nobody had spoken for it for that long."""
    count = pending(server, LOW, GROUP)[item.entry.decode()][1]
    ask(server, "XCLAIM", LOW, GROUP, consumer, 0, item.entry, "IDLE", ms, "RETRYCOUNT", count, "JUSTID")


def idle(server: Server) -> dict[str, int]:
    return {row[0]: row[2] for row in ask(server, "XPENDING", LOW, GROUP, "-", "+", 1000)}


def beat(server: Server, *items: Held, consumer: str = "me") -> Any:
    running = [(item, str(place)) for place, item in enumerate(items)]
    return drive(server, leases.heartbeat(SOURCE, consumer, running))


def recover(server: Server, consumer: str = "other", most: int = 100) -> list[Claimed]:
    return drive(server, trips.recover(SOURCE, consumer, LEASE, most))


class TestHeartbeat:
    @pytest.mark.parametrize("many", [1, 2, 5])
    def test_it_renews_and_counts_no_delivery(self, server: Server, many: int) -> None:
        items = claimed(server, *map(str, range(many)))
        for item in items:
            age(server, item)
        before = server_ms(server)
        pulse = beat(server, *items)
        assert before <= pulse.now <= server_ms(server)
        assert (pulse.lost, pulse.cancelled) == ([], [])
        assert max(idle(server).values()) < 50_000
        assert set(pending(server, LOW, GROUP).values()) == {("me", 1)}

    @pytest.mark.parametrize("many", [1, 5])
    def test_it_never_takes_back_what_is_lost(self, server: Server, many: int) -> None:
        items = claimed(server, *map(str, range(many)))
        ask(server, "XCLAIM", LOW, GROUP, "other", 0, items[0].entry)
        assert beat(server, *items).lost == [items[0]]
        assert pending(server, LOW, GROUP)[items[0].entry.decode()] == ("other", 2)

        ask(server, "XCLAIM", LOW, GROUP, "me", 0, items[0].entry)
        assert beat(server, *items).lost == [items[0]]
        assert pending(server, LOW, GROUP)[items[0].entry.decode()] == ("me", 3)

    def test_what_has_ended_is_lost(self, server: Server) -> None:
        [item] = claimed(server, "1")
        ask(server, "XACK", LOW, GROUP, item.entry)
        assert beat(server, item).lost == [item]
        assert pending(server, LOW, GROUP) == {}

    def test_it_hears_of_cancelled_ones(self, server: Server) -> None:
        items = claimed(server, "0", "1")
        server.execute("ZADD", SOURCE.cancelled, 1, "1", 1, "other")
        assert beat(server, *items).cancelled == [b"1"]

    def test_nothing_runs(self, server: Server) -> None:
        assert beat(server) is None


class TestRecover:
    def test_what_was_held_for_a_lease_comes_with_its_deliveries(self, server: Server) -> None:
        items = claimed(server, "0", "1")
        age(server, items[0])
        assert recover(server) == [Claimed(1, items[0].entry, 2, b'{"id":"0"}')]
        assert pending(server, LOW, GROUP) == {
            items[0].entry.decode(): ("other", 2), items[1].entry.decode(): ("me", 1),
        }  # fmt: skip
        assert recover(server) == []

    @pytest.mark.fault(3, "tasks")
    def test_deliveries_go_on_counting(self, server: Server) -> None:
        [item] = claimed(server, "0")
        counts = []
        for _ in range(5):
            age(server, item)
            counts.append(recover(server, "me")[0].deliveries)
        assert counts == [2, 3, 4, 5, 6]

    def test_no_more_than_there_is_room_for(self, server: Server) -> None:
        for item in claimed(server, *map(str, range(5))):
            age(server, item)
        assert [len(recover(server, most=2)) for _ in range(3)] == [2, 2, 1]

    @pytest.mark.fault(3, "tasks")
    def test_what_was_delivered_often_is_left_alone_or_taken_singly(self, server: Server) -> None:
        submit(server, *map(str, range(150)))
        items = claim(server, free=150)
        for item in items[:130]:  # more of them than are looked at once
            ask(server, "XCLAIM", LOW, GROUP, "me", 0, item.entry, "IDLE", 60_000, "RETRYCOUNT", 2, "JUSTID")
        for item in items[130:]:
            age(server, item)

        def look(most: int, one_of: int | None = None) -> tuple[list[bytes | None], int]:
            calls = leases.recover_calls(SOURCE, "other", LEASE, most, often=3, one_of=one_of)
            [reply] = send(server, by_text(calls[1]))
            return [one.body for one in leases.read_recovered(1, reply)], leases.left_alone(reply)

        later = [item.body for item in items[130:]]
        assert look(10) == (later[:10], 130)
        assert look(10, one_of=0) == (later[10:], 130)
        assert look(10, one_of=1) == ([items[0].body], 129)
        assert look(10) == ([], 129)
        assert pending(server, LOW, GROUP)[items[0].entry.decode()] == ("other", 3)

    def test_what_was_deleted_is_dropped(self, server: Server) -> None:
        items = claimed(server, "0", "1")
        for item in items:
            age(server, item)
        ask(server, "XDEL", LOW, items[0].entry)
        assert [item.body for item in recover(server)] == [b'{"id":"1"}']
        assert list(pending(server, LOW, GROUP)) == [items[1].entry.decode()]

    @pytest.mark.parametrize("deleted", [False, True])
    def test_thousands_hide_nothing_behind_them(self, server: Server, deleted: bool) -> None:
        """Left by a process with thousands of coroutines that died twice; or somebody has deleted them."""
        submit(server, *map(str, range(1510)))
        items = claim(server, free=1510)
        crowd = [item.entry for item in items[:1500]]
        behind = [item.entry for item in items[1500:]]
        ask(server, "XCLAIM", LOW, GROUP, "me", 0, *behind, "IDLE", 60_000, "JUSTID")
        for start in range(0, 1500, 500):
            how = ("IDLE", 60_000, "RETRYCOUNT", 2, "JUSTID")
            ask(server, "XCLAIM", LOW, GROUP, "me", 0, *crowd[start : start + 500], *how)
        if deleted:
            ask(server, "XDEL", LOW, *crowd)
        [_, call] = leases.recover_calls(SOURCE, "other", LEASE, 20, often=0 if deleted else 3)
        [reply] = send(server, by_text(call))
        assert [one.body for one in leases.read_recovered(1, reply)] == [item.body for item in items[1500:]]

    def test_ten_thousand_that_were_deleted_are_more_than_lua_unpacks(self, server: Server) -> None:
        script = "for i = 1, 9000 do redis.call('XADD', KEYS[1], i .. '-0', 'b', '') end"
        ask(server, "XGROUP", "CREATE", LOW, GROUP, "0", "MKSTREAM")
        server.execute("EVAL", script, 1, LOW)
        ask(server, "XREADGROUP", "GROUP", GROUP, "dead", "COUNT", 9000, "STREAMS", LOW, ">")
        ask(server, "XTRIM", LOW, "MAXLEN", 0)
        ask(server, "XCLAIM", LOW, GROUP, "dead", 0, "9000-0", "IDLE", 60_000)
        eventually(lambda: ask(server, "XPENDING", LOW, GROUP, "IDLE", 1, "-", "+", 1), what="age")
        for _ in range(3):
            drive(server, trips.recover(SOURCE, "other", 1, 5000))
        assert pending(server, LOW, GROUP) == {}

    def test_without_a_group_there_is_nothing(self, server: Server) -> None:
        assert recover(server) == []
        submit(server, "1")
        assert recover(server) == []

    @pytest.mark.fault(25, "tasks")
    def test_it_goes_on_when_memory_is_full(self, server: Server) -> None:
        [item] = claimed(server, "0")
        age(server, item)
        server.execute("CONFIG", "SET", "maxmemory", "1")
        try:
            assert beat(server, item).lost == []
            age(server, item)
            assert len(recover(server)) == 1
        finally:
            server.execute("CONFIG", "SET", "maxmemory", "0")


class TestRelease:
    def test_the_next_to_recover_has_it_and_no_delivery_counts(self, server: Server) -> None:
        items = claimed(server, "0", "1")
        assert drive(server, trips.release(SOURCE, "me", items[:1], LEASE)) == 1
        assert pending(server, LOW, GROUP)[items[0].entry.decode()] == ("me", 0)
        assert [item.deliveries for item in recover(server)] == [1]
        assert beat(server, *items).lost == [items[0]]

    def test_not_what_is_lost(self, server: Server) -> None:
        [item] = claimed(server, "0")
        ask(server, "XCLAIM", LOW, GROUP, "other", 0, item.entry)
        assert drive(server, trips.release(SOURCE, "me", [item], LEASE)) == 0
        assert pending(server, LOW, GROUP) == {item.entry.decode(): ("other", 2)}
        assert drive(server, trips.release(SOURCE, "me", [], LEASE)) == 0

    def test_it_is_said(self, server: Server) -> None:
        items = claimed(server, "0")
        with server.client().pubsub() as heard:  # type: ignore[no-untyped-call]
            heard.subscribe(SOURCE.control)
            assert heard.get_message(timeout=30)
            drive(server, trips.release(SOURCE, "me", items, LEASE))
            assert heard.get_message(timeout=30)["data"] == "released"


class TestPromote:
    def put(self, server: Server, due: int, id: str, value: str | bytes) -> None:
        server.execute("ZADD", DELAYED, due, id)
        server.execute("HSET", BODIES, id, value)

    def test_what_is_due_goes_to_its_stream(self, server: Server) -> None:
        later = server_ms(server) + 900_000
        self.put(server, 2, "a", "low 1 {a b}")
        self.put(server, 1, "b", "high 3 \x00\n b")
        self.put(server, later, "c", "low 1 c")

        assert drive(server, leases.promote(SOURCE)).due == later

        assert [found for _, found in entries(server, LOW)] == [{"b": "{a b}"}]
        assert [found for _, found in entries(server, HIGH)] == [{"b": "\x00\n b", "a": "3"}]
        assert scores(server, DELAYED) == {"c": later}
        assert fields(server, BODIES) == {"c": "low 1 c"}
        assert claim(server)[0].attempt == 3

    def test_nothing_is_due(self, server: Server) -> None:
        before = server_ms(server)
        found = drive(server, leases.promote(SOURCE))
        assert (found.due, found.error) == (None, "")
        assert before <= found.now <= server_ms(server)
        self.put(server, before + 900_000, "a", "low 1 x")
        assert drive(server, leases.promote(SOURCE)).due == before + 900_000
        assert all_keys(server) == {DELAYED, BODIES}

    def test_more_than_one_round(self, server: Server) -> None:
        for number in range(leases.PROMOTED + 1):
            self.put(server, 1, str(number), "low 1 x")
        assert drive(server, leases.promote(SOURCE)).due is None
        assert server.execute("XLEN", LOW) == leases.PROMOTED + 1
        assert all_keys(server) == {LOW}

    def test_an_id_without_a_body_goes(self, server: Server) -> None:
        server.execute("ZADD", DELAYED, 1, "a")
        drive(server, leases.promote(SOURCE))
        assert all_keys(server) == set()

    @pytest.mark.fault(29, "tasks")
    @pytest.mark.parametrize("garbage", ["", "x", "low x", "low  x", b"\xff \xff \xff", "low one {}"])
    def test_a_foreign_body_stops_nothing_and_can_be_claimed(
        self, server: Server, garbage: str | bytes
    ) -> None:
        self.put(server, 1, "bad", garbage)
        self.put(server, 2, "a", "low 1@17 x")
        assert drive(server, leases.promote(SOURCE)).error == ""
        assert all_keys(server) == {HIGH, LOW}
        foreign, ours = claim(server)
        assert foreign.body == (garbage if isinstance(garbage, bytes) else garbage.encode())
        assert (ours.body, ours.attempt, ours.since_ms) == (b"x", 1, 17)

    @pytest.mark.fault(29, "tasks")
    def test_what_names_a_stream_that_nobody_reads_can_be_claimed_all_the_same(self, server: Server) -> None:
        self.put(server, 1, "a", "nobody's 1 {garbage")
        self.put(server, 1, "b", "urgent 2 x")
        server.execute(
            "XGROUP", "CREATE", keys.task_ready("q", "urgent"), GROUP, "0", "MKSTREAM"
        )  # another's
        assert drive(server, leases.promote(SOURCE)).error == ""
        assert all_keys(server) == {HIGH, keys.task_ready("q", "urgent")}
        assert [one.body for one in claim(server)] == [b"{garbage"]

    @pytest.mark.fault(29, "tasks")
    @pytest.mark.parametrize("score", ["inf", "-inf", "1e300"])
    def test_a_foreign_score_stops_no_claim(self, server: Server, score: str) -> None:
        server.execute("ZADD", DELAYED, score, "foreign")
        items = claimed(server, "0")
        assert len(items) == 1
        assert drive(server, leases.next_due(SOURCE)) in (None, int(1e300))
        drive(server, leases.promote(SOURCE))

    @pytest.mark.fault(25, "tasks")
    def test_it_goes_on_when_memory_is_full(self, server: Server) -> None:
        self.put(server, 1, "a", "low 1 x")
        server.execute("CONFIG", "SET", "maxmemory", "1")
        try:
            drive(server, leases.promote(SOURCE))
        finally:
            server.execute("CONFIG", "SET", "maxmemory", "0")
        assert all_keys(server) == {LOW}

    @pytest.mark.fault(34, "tasks")
    def test_a_foreign_value_keeps_only_what_would_go_there(self, server: Server) -> None:
        self.put(server, 1, "a", "high 1 x")
        self.put(server, 2, "b", "low 1 y")
        server.execute("SET", HIGH, "mine")
        now = server_ms(server)

        assert drive(server, leases.promote(SOURCE)).error.startswith("WRONGTYPE")

        assert fields(server, BODIES) == {"a": "high 1 x"}
        assert scores(server, DELAYED)["a"] >= now + 1000
        assert [found for _, found in entries(server, LOW)] == [{"b": "y"}]

    @pytest.mark.fault(35, "tasks")
    @pytest.mark.parametrize("command", ["xadd", "zrem", "hdel"])
    def test_a_missing_right_loses_and_doubles_nothing(self, server: Server, command: str) -> None:
        self.put(server, 1, "a", "low 1 x")
        server.execute("ACL", "SETUSER", "default", f"-{command}")
        error = ""
        try:
            error = drive(server, leases.promote(SOURCE)).error
        except redis.ResponseError as refused:
            error = str(refused)
        finally:
            server.execute("ACL", "SETUSER", "default", "+@all")
        assert error
        assert all_keys(server) == {DELAYED, BODIES}

    def test_what_was_put_off_comes_back(self, server: Server) -> None:
        [item] = claimed(server, "7")
        drive(server, trips.settle(SOURCE, "me", [Settlement(item, "7", Later(0), attempt=2)]))
        eventually(lambda: drive(server, leases.promote(SOURCE)).due is None)
        [again] = claim(server)
        assert (again.body, again.attempt, again.deliveries) == (b'{"id":"7"}', 2, 1)


class TestLeave:
    def test_a_consumer_goes_from_the_streams_where_it_holds_nothing(self, server: Server) -> None:
        [item] = claimed(server, "1")
        ask(server, "XGROUP", "CREATECONSUMER", HIGH, GROUP, "me")  # servers differ in whether a claim does
        ask(server, "XGROUP", "CREATECONSUMER", LOW, GROUP, "other")
        assert drive(server, leases.leave(SOURCE, "me")) == 1
        assert consumers(server, HIGH) == set()
        assert consumers(server, LOW) == {"me", "other"}
        assert pending(server, LOW, GROUP) == {item.entry.decode(): ("me", 1)}
        drive(server, trips.settle(SOURCE, "me", [Settlement(item, "1", Ok())]))
        drive(server, leases.leave(SOURCE, "me"))
        assert consumers(server, LOW) == {"other"}

    def test_without_a_stream_there_is_nothing_to_leave(self, server: Server) -> None:
        assert drive(server, leases.leave(SOURCE, "me")) == 0
        assert all_keys(server) == set()

    @pytest.mark.fault(34, "tasks")
    def test_a_foreign_value_is_said(self, server: Server) -> None:
        server.execute("SET", LOW, "mine")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            drive(server, leases.leave(SOURCE, "me"))


def consumers(server: Server, key: str) -> set[str]:
    return {flat[1] for flat in ask(server, "XINFO", "CONSUMERS", key, GROUP)}


class TestClean:
    def consumers(self, server: Server, key: str = LOW) -> set[str]:
        return {flat[1] for flat in ask(server, "XINFO", "CONSUMERS", key, GROUP)}

    def test_consumers_go_only_when_they_have_nothing(self, server: Server) -> None:
        claimed(server, "1", consumer="busy")
        ask(server, "XGROUP", "CREATECONSUMER", LOW, GROUP, "gone")
        assert drive(server, leases.clean(SOURCE, 900_000)) == (0, 0)
        assert self.consumers(server) == {"busy", "gone"}
        removed, _ = drive(server, leases.clean(SOURCE, 0))
        assert removed >= 1  # "gone"; and "busy" in the other stream, where the server notes it there
        assert self.consumers(server) == {"busy"}

    @pytest.mark.fault(13, "tasks")
    def test_what_a_deleted_consumer_had_is_put_back(self, server: Server) -> None:
        claimed(server, "1", "2", consumer="a")
        claimed(server, "3", consumer="b")
        submit(server, "4")
        ask(server, "XGROUP", "DELCONSUMER", LOW, GROUP, "a")

        assert drive(server, leases.clean(SOURCE, 900_000)) == (0, 2)
        assert drive(server, leases.clean(SOURCE, 900_000)) == (0, 0)

        assert {item.body for item in claim(server)} == {b'{"id":"%s"}' % one for one in (b"1", b"2", b"4")}
        assert len(entries(server, LOW)) == len(pending(server, LOW, GROUP)) == 4

    @pytest.mark.fault(25, "tasks")
    def test_orphans_and_dead_letters_come_back_when_memory_is_full(self, server: Server) -> None:
        [dead, _] = claimed(server, "1", "2", consumer="a")
        drive(server, trips.settle(SOURCE, "a", [Settlement(dead, "1", DeadLetter("no"))]))
        [letter] = drive(server, leases.dead(SOURCE, 1))
        ask(server, "XGROUP", "DELCONSUMER", LOW, GROUP, "a")
        server.execute("CONFIG", "SET", "maxmemory", "1")
        try:
            assert drive(server, leases.clean(SOURCE, 900_000)) == (0, 1)
            assert drive(server, leases.revive(SOURCE, [letter.entry])) == (1, "")
        finally:
            server.execute("CONFIG", "SET", "maxmemory", "0")
        assert len(claim(server)) == 2

    def test_old_cancelled_ids_go(self, server: Server) -> None:
        server.execute("ZADD", SOURCE.cancelled, 1, "old", server_ms(server) + 900_000, "new")
        drive(server, leases.clean(SOURCE, 0))
        assert list(scores(server, SOURCE.cancelled)) == ["new"]

    def test_without_a_group_there_is_nothing(self, server: Server) -> None:
        submit(server, "1")
        assert drive(server, leases.clean(SOURCE, 0)) == (0, 0)


class TestDeadLetters:
    def bury(self, server: Server, *ids: str) -> list[Letter]:
        for item, name in zip(claimed(server, *ids), ids, strict=True):
            letter = DeadLetter("failed", "E", "T", b"r", 60_000, "add")
            drive(server, trips.settle(SOURCE, "me", [Settlement(item, name, letter, attempt=5)]))
        return drive(server, leases.dead(SOURCE, 100))

    def test_they_are_listed_oldest_first(self, server: Server) -> None:
        letters = self.bury(server, "1", "2", "3")
        assert [letter.fields["id"] for letter in letters] == [b"1", b"2", b"3"]
        assert letters[0].fields["b"] == b'{"id":"1"}'
        assert drive(server, leases.dead(SOURCE, 1, after=letters[0].entry)) == letters[1:2]

    def test_they_come_back_as_first_attempts(self, server: Server) -> None:
        letters = self.bury(server, "1", "2", "3")
        assert drive(server, leases.revive(SOURCE, [letters[2].entry, letters[0].entry, "1-1"])) == (2, "")
        assert [(item.body, item.attempt) for item in claim(server)] == [
            (b'{"id":"3"}', 1), (b'{"id":"1"}', 1),
        ]  # fmt: skip
        assert [found["id"] for _, found in entries(server, DEAD)] == ["2"]
        assert [server.execute("EXISTS", record(one)) for one in "123"] == [0, 1, 0]

    @pytest.mark.parametrize("lacks", ["from", "b", "id"])
    def test_what_is_no_dead_letter_stays_and_stops_nothing(self, server: Server, lacks: str) -> None:
        whole = {"from": "low", "b": "x", "id": "f"}
        del whole[lacks]
        foreign = server.execute("XADD", DEAD, "1-1", *(part for pair in whole.items() for part in pair))
        letters = self.bury(server, "1")
        assert drive(server, leases.revive(SOURCE, [one.entry for one in letters])) == (1, "")
        assert [entry for entry, _ in entries(server, DEAD)] == [foreign]

    def test_a_foreign_value_leaves_them_dead(self, server: Server) -> None:
        letters = self.bury(server, "1")
        server.execute("DEL", LOW)
        server.execute("SET", LOW, "mine")
        count, error = drive(server, leases.revive(SOURCE, [letters[0].entry]))
        assert (count, error[:9]) == (0, "WRONGTYPE")
        assert len(entries(server, DEAD)) == 1
        assert keys.task_dead("q") == DEAD
