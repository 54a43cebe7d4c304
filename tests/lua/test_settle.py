from __future__ import annotations

from collections.abc import Sequence

import pytest
import redis

from redis_toolkit import keys
from redis_toolkit._core.flows.work import Claimed, DeadLetter, Ended, Held, Later, Ok, Settled, Settlement
from tests.kit.servers import Server
from tests.lua import trips
from tests.lua.driving import ask, drive, entries, fields, pending, scores
from tests.lua.queues import BODIES, DEAD, DELAYED, GROUP, LOW, SOURCE, claim, claimed, record, submit
from tests.lua.run import SOON, all_keys, expires_within, server_ms

DONE = Ended("done", b'{"data":1}', 60_000, "add")


def settle(server: Server, *settlements: Settlement, consumer: str = "me") -> Settled:
    return drive(server, trips.settle(SOURCE, consumer, settlements))


def done(items: Sequence[Held], *, ended: Ended = DONE) -> list[Settlement]:
    return [Settlement(item, str(place), ended) for place, item in enumerate(items)]


class TestTheEnd:
    @pytest.mark.parametrize("state", ["done", "failed", "cancelled", "expired"])
    def test_the_entry_goes_and_a_record_comes(self, server: Server, state: str) -> None:
        [item] = claimed(server, "7")
        before = server_ms(server)
        ended = Ended(state, b'{"data":1}', 60_000, "add")

        assert settle(server, Settlement(item, "7", ended, attempt=2)) == Settled()

        found = fields(server, record("7"))
        assert before <= int(found.pop("finished")) <= server_ms(server)
        assert found == {
            "state": state, "reply": '{"data":1}', "type": "add", "attempt": "2", "deliveries": "1",
            "worker": "me",
        }  # fmt: skip
        assert expires_within(server, record("7"), 60_000)
        assert (entries(server, LOW), pending(server, LOW, GROUP)) == ([], {})
        assert fields(server, SOURCE.counters) == {state: "1"}

    def test_without_a_result_nothing_is_kept(self, server: Server) -> None:
        [item] = claimed(server, "7")
        before = all_keys(server)
        settle(server, Settlement(item, "7", Ended("done")))
        assert all_keys(server) == before | {SOURCE.counters}
        assert entries(server, LOW) == []

    def test_what_progress_has_left_may_go_too(self, server: Server) -> None:
        [item] = claimed(server, "7")
        server.execute("HSET", record("7"), "state", "running")
        settle(server, Settlement(item, "7", Ended("done", ttl_ms=-1)))
        assert not server.execute("EXISTS", record("7"))

    def test_many_of_several_streams_at_once(self, server: Server) -> None:
        submit(server, *map(str, range(700)))
        submit(server, "h", priority="high")
        items = claim(server, 1000)
        assert settle(server, *done(items)) == Settled()
        assert not any(entries(server, key) or pending(server, key, GROUP) for key in SOURCE.streams)
        assert fields(server, SOURCE.counters) == {"done": "701"}

    def test_a_lock_is_freed_only_by_its_task(self, server: Server) -> None:
        mine, other = keys.task_lock("q", "mine"), keys.task_lock("q", "other")
        items = claimed(server, "1", "2")
        server.execute("SET", mine, "1")
        server.execute("SET", other, "somebody")
        settle(
            server,
            Settlement(items[0], "1", DONE, lock="mine"),
            Settlement(items[1], "2", DONE, lock="other"),
        )
        assert not server.execute("EXISTS", mine)
        assert server.execute("GET", other) == "somebody"

    def test_who_waits_is_returned_and_forgotten(self, server: Server) -> None:
        items = claimed(server, "1", "2", "3")
        server.execute("HSET", SOURCE.waiters, "0", "a\nb", "2", "c", "other", "d")
        settled = settle(server, *done(items))
        assert settled.waiters == [(b"0", ["a", "b"]), (b"2", ["c"])]
        assert fields(server, SOURCE.waiters) == {"other": "d"}

    def test_a_cancelled_id_is_forgotten(self, server: Server) -> None:
        items = claimed(server, "1")
        server.execute("ZADD", SOURCE.cancelled, 1, "0", 2, "other")
        settle(server, *done(items))
        assert list(scores(server, SOURCE.cancelled)) == ["other"]


class TestWhoMaySettle:
    def lost(self, settled: Settled) -> list[str]:
        return [f"{one.id!s} {why}" for one, why in settled.failed]

    @pytest.mark.parametrize("many", [1, 2, 9])
    @pytest.mark.fault(6, "tasks")
    def test_not_one_that_another_consumer_has_by_now(self, server: Server, many: int) -> None:
        items = claimed(server, *map(str, range(many)))
        ask(server, "XCLAIM", LOW, GROUP, "other", 0, items[0].entry)

        assert self.lost(settle(server, *done(items))) == ["0 lost"]

        assert pending(server, LOW, GROUP) == {items[0].entry.decode(): ("other", 2)}
        assert not server.execute("EXISTS", record("0"))

    @pytest.mark.parametrize("many", [1, 9])
    def test_not_one_that_was_delivered_again_to_the_same(self, server: Server, many: int) -> None:
        items = claimed(server, *map(str, range(many)))
        ask(server, "XCLAIM", LOW, GROUP, "me", 0, items[0].entry)
        assert self.lost(settle(server, *done(items))) == ["0 lost"]
        items[0].deliveries = 2
        assert settle(server, *done(items[:1])) == Settled()

    def test_the_second_time_nothing_counts(self, server: Server) -> None:
        items = claimed(server, "1", "2", "3")
        settle(server, *done(items))
        before = fields(server, record("0"))
        failed = Ended("failed", b"no", 60_000)
        assert self.lost(settle(server, *done(items, ended=failed))) == ["0 lost", "1 lost", "2 lost"]
        assert fields(server, record("0")) == before

    def test_one_entry_counts_once_in_a_batch(self, server: Server) -> None:
        [item] = claimed(server, "1")
        assert self.lost(settle(server, *done([item, item, item, item]))) == ["1 lost", "2 lost", "3 lost"]
        assert fields(server, SOURCE.counters) == {"done": "1"}

    def test_a_few_of_many_that_are_claimed(self, server: Server) -> None:
        items = claimed(server, *map(str, range(100)))
        assert settle(server, *done(items[::9])) == Settled()
        assert settle(server, *done(list(reversed(items[1::9])))) == Settled()
        assert len(pending(server, LOW, GROUP)) == 100 - 12 - 11


@pytest.mark.parametrize("lost", [False, True])
def test_outcomes_of_all_kinds_in_one_batch(server: Server, lost: bool) -> None:
    items = claimed(server, *"abcdefgh")
    outcomes: list[Later | DeadLetter | Ok | Ended] = [
        Later(60_000),
        DeadLetter("no", "E", "T", b"r", 60_000, "add"),
        Ok(),
        DONE,
    ]
    batch = [
        Settlement(item, item.entry, outcome)
        for item, outcome in zip(items, [*outcomes, *reversed(outcomes)], strict=True)
    ]
    for item in items[:7] if lost else ():
        ask(server, "XCLAIM", LOW, GROUP, "other", 0, item.entry)
    failed = settle(server, *batch).failed
    assert failed == [(one, "lost") for one in batch[:7] if lost]
    assert fields(server, SOURCE.counters) == (
        {"later": "1"} if lost else {"later": "2", "dead": "2", "done": "4"}
    )
    assert len(entries(server, LOW)) == len(failed)
    assert len(fields(server, BODIES)) == (1 if lost else 2)


class TestLater:
    def test_the_body_is_put_off(self, server: Server) -> None:
        [item] = claimed(server, "7")
        before = server_ms(server)
        settle(server, Settlement(item, "7", Later(60_000), attempt=2))

        assert fields(server, BODIES) == {"7": 'low 2 {"id":"7"}'}
        due = scores(server, DELAYED)
        assert before + 60_000 <= due["7"] <= before + 60_000 + SOON
        assert (entries(server, LOW), pending(server, LOW, GROUP)) == ([], {})
        assert not server.execute("EXISTS", record("7"))

    def test_the_earliest_wakes_the_timers(self, server: Server) -> None:
        items = claimed(server, "1", "2")
        with server.client().pubsub() as heard:  # type: ignore[no-untyped-call]
            heard.subscribe(SOURCE.due)
            assert heard.get_message(timeout=30)
            settle(
                server,
                Settlement(items[0], "1", Later(900_000)),
                Settlement(items[1], "2", Later(500_000)),
            )
            assert heard.get_message(timeout=30)["data"] == str(scores(server, DELAYED)["2"])

    def test_the_lock_is_kept(self, server: Server) -> None:
        [item] = claimed(server, "1")
        server.execute("SET", keys.task_lock("q", "u"), "1")
        settle(server, Settlement(item, "1", Later(1), lock="u"))
        assert server.execute("GET", keys.task_lock("q", "u")) == "1"


class TestDeadLetters:
    def test_all_that_is_known_is_kept(self, server: Server) -> None:
        [item] = claimed(server, "7")
        before = server_ms(server)
        letter = DeadLetter("poison", "KeyError: 'a'", "Trace\nback", b'{"error":{}}', 60_000, "add")
        settle(server, Settlement(item, "7", letter, attempt=3))

        [(_, found)] = entries(server, DEAD)
        assert before <= int(found.pop("at")) <= server_ms(server)
        assert found == {
            "b": '{"id":"7"}', "id": "7", "type": "add", "from": "low", "reason": "poison", "attempt": "3",
            "error": "KeyError: 'a'", "traceback": "Trace\nback", "deliveries": "1",
        }  # fmt: skip
        assert fields(server, record("7"))["state"] == "failed"
        assert fields(server, record("7"))["reply"] == '{"error":{}}'
        assert entries(server, LOW) == []

    @pytest.mark.fault(29, "tasks")
    def test_of_a_foreign_entry_all_fields(self, server: Server) -> None:
        server.execute("XADD", LOW, "*", "what", b"\x80\xff", "more", "x")
        [item] = claim(server)
        settle(server, Settlement(item, "", DeadLetter("unreadable")))
        length = "return #redis.call('XRANGE', KEYS[1], '-', '+')[1][2][2]"
        assert server.execute("EVAL", length, 1, DEAD) == len(b"what \x80\xff more x")


class TestTrouble:
    @pytest.mark.fault(25, "tasks")
    @pytest.mark.parametrize("outcome", [DONE, Later(60_000), DeadLetter("no", ttl_ms=60_000)])
    def test_it_goes_on_when_memory_is_full(
        self, server: Server, outcome: Ended | Later | DeadLetter
    ) -> None:
        [item] = claimed(server, "7")
        server.execute("CONFIG", "SET", "maxmemory", "1")
        try:
            assert settle(server, Settlement(item, "7", outcome)) == Settled()
        finally:
            server.execute("CONFIG", "SET", "maxmemory", "0")
        kept = [record("7")] if isinstance(outcome, Ended) else [DELAYED, BODIES]
        assert all_keys(server) >= set([DEAD, record("7")] if isinstance(outcome, DeadLetter) else kept)
        assert entries(server, LOW) == []

    @pytest.mark.fault(34, "tasks")
    def test_a_foreign_record_stops_only_its_own_task(self, server: Server) -> None:
        items = claimed(server, "0", "1", "2")
        server.execute("SET", record("1"), "mine")
        [(one, why)] = settle(server, *done(items)).failed
        assert (one.id, why[:9]) == ("1", "WRONGTYPE")
        assert list(pending(server, LOW, GROUP)) == [items[1].entry.decode()]
        assert server.execute("GET", record("1")) == "mine"

    @pytest.mark.fault(34, "tasks")
    @pytest.mark.parametrize("key", [DELAYED, BODIES, DEAD])
    def test_a_foreign_value_in_the_way_leaves_the_task_claimed(self, server: Server, key: str) -> None:
        [item] = claimed(server, "7")
        server.execute("SET", key, "mine")
        outcome = DeadLetter("no") if key == DEAD else Later(1)
        [(_, why)] = settle(server, Settlement(item, "7", outcome)).failed
        assert why.startswith("WRONGTYPE")
        assert len(pending(server, LOW, GROUP)) == 1
        assert ask(server, "TYPE", DELAYED) == ("string" if key == DELAYED else "none")

    @pytest.mark.fault(35, "tasks")
    @pytest.mark.parametrize("command", ["hset", "pexpire", "xack", "xdel"])
    def test_a_missing_right_leaves_no_half_effect(self, server: Server, command: str) -> None:
        items: list[Claimed] = claimed(server, "0", "1")
        server.execute("ACL", "SETUSER", "default", f"-{command}")
        failed = 0
        try:
            failed = len(settle(server, *done(items)).failed)
        except redis.ResponseError:
            failed = 2
        finally:
            server.execute("ACL", "SETUSER", "default", "+@all")
        assert failed == len(pending(server, LOW, GROUP)) == len(entries(server, LOW)) == 2
        assert not server.execute("EXISTS", record("0"), record("1"))
