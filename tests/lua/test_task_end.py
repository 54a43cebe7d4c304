"""What callers ask a queue: waiting for an end, cancelling, progress, purging, counting."""

from __future__ import annotations

from typing import Any

from redis_toolkit import keys
from redis_toolkit._core.flow import REFUSED
from redis_toolkit._core.flows import leases, task_ends, tasks
from redis_toolkit._core.flows.task_ends import Cancelled, Found, Place
from redis_toolkit._core.flows.tasks import Stats, Submission
from redis_toolkit._core.flows.work import DeadLetter, Ended, Later, Settlement
from redis_toolkit.codecs import JSONCodec
from redis_toolkit.wire import Wire
from tests.kit.servers import Server
from tests.lua import trips
from tests.lua.driving import ask, drive, entries, exchange, fields, pending, scores
from tests.lua.queues import BODIES, DELAYED, GROUP, LOW, PRIORITIES, SOURCE, claim, claimed, record, submit
from tests.lua.run import all_keys, expires_within, server_ms

WIRE = Wire(JSONCodec(), 10_000)
REPLY = keys.task_reply("q", "w1")
SEEN = [b"ready", []]
"""The answer to the look before a wait."""


def wait(server: Server, wait_id: str = "w1", *, timeout_ms: int = 5000) -> int:
    flow = task_ends.wait(SOURCE, "7", wait_id, WIRE, timeout_ms=timeout_ms)
    next(flow)
    return int(exchange(server, flow, flow.send([SEEN]))[1])


class TestWaiting:
    def test_the_address_is_left(self, server: Server) -> None:
        assert wait(server) == 1
        assert fields(server, SOURCE.waiters) == {"7": REPLY}
        assert expires_within(server, SOURCE.waiters, 65_000)
        assert all_keys(server) == {SOURCE.waiters}

    def test_several_wait_each_once(self, server: Server) -> None:
        for wait_id in ("w1", "w2", "w1", "w"):
            assert wait(server, wait_id) == 1
        assert fields(server, SOURCE.waiters)["7"].split("\n") == [
            keys.task_reply("q", wait_id) for wait_id in ("w1", "w2", "w")
        ]

    def test_the_longest_wait_sets_the_life(self, server: Server) -> None:
        wait(server, timeout_ms=9000)
        wait(server, "w2", timeout_ms=1)
        assert expires_within(server, SOURCE.waiters, 69_000)

    def test_of_one_that_has_ended_a_marker_comes(self, server: Server) -> None:
        server.execute("HSET", record("7"), "state", "done", "reply", "r")
        assert wait(server) == 0
        assert ask(server, "LRANGE", REPLY, 0, -1) == ["!7"]
        assert expires_within(server, REPLY, 60_000)
        assert all_keys(server) == {REPLY, record("7")}

    def test_then_its_record_is_read(self, server: Server) -> None:
        server.execute("HSET", record("7"), "state", "done", "reply", '{"id":"7","data":5}')
        flow = task_ends.wait(SOURCE, "7", "w1", WIRE, timeout_ms=5000)
        next(flow)
        assert exchange(server, flow, flow.send([SEEN]))[1] == 0
        assert drive(server, flow, flow.send(REFUSED)).data == 5

    def test_of_one_whose_entry_has_left_a_marker_comes(self, server: Server) -> None:
        def wait_for(place: Place) -> int:
            flow = task_ends.wait(SOURCE, "7", "w1", WIRE, timeout_ms=5000, place=place)
            return int(exchange(server, flow)[1])

        [item] = claimed(server, "7")
        place = (1, item.entry.decode())
        assert wait_for(place) == 1
        drive(server, trips.settle(SOURCE, "me", [Settlement(item, "7", Later(60_000), attempt=2)]))
        assert wait_for(place) == 1
        server.execute("DEL", DELAYED)
        assert wait_for(place) == 0
        assert ask(server, "LRANGE", REPLY, 0, -1) == ["!7"]

    def test_progress_is_no_end(self, server: Server) -> None:
        server.execute("HSET", record("7"), "state", "running", "progress", "5")
        assert wait(server) == 1
        found = drive(server, task_ends.find(SOURCE, "7"))
        assert (found.state, found.where, found.fields["progress"]) == ("running", "nowhere", b"5")
        assert drive(server, task_ends.find(SOURCE, "unknown")) == Found("nowhere")


class TestProgress:
    def test_it_is_kept_while_the_task_is_its_own(self, server: Server) -> None:
        [item] = claimed(server, "7")
        assert drive(server, tasks.progress(SOURCE, "me", item, "7", b"half", 20_000))
        assert fields(server, record("7")) == {
            "state": "running", "progress": "half", "worker": "me", "deliveries": "1",
        }  # fmt: skip
        assert expires_within(server, record("7"), 20_000)

    def test_not_over_the_end(self, server: Server) -> None:
        [item] = claimed(server, "7")
        drive(server, trips.settle(SOURCE, "me", [Settlement(item, "7", Ended("done", b"", 60_000))]))
        assert not drive(server, tasks.progress(SOURCE, "me", item, "7", b"half", 20_000))
        assert fields(server, record("7"))["state"] == "done"


class TestCancelling:
    def cancel(self, server: Server, id: str = "7", place: Place | None = None) -> Cancelled:
        return drive(server, task_ends.cancel(SOURCE, id, b"reply", 60_000, place))

    def later(self, server: Server) -> None:
        task = Submission("7", b"{a b}", "low", delay_ms=60_000)
        drive(server, trips.submit("q", task, PRIORITIES))

    def test_one_that_is_due_later_ends_at_once(self, server: Server) -> None:
        self.later(server)
        wait(server)
        assert self.cancel(server) == Cancelled("cancelled", [REPLY], b"{a b}")
        found = fields(server, record("7"))
        assert abs(int(found.pop("finished")) - server_ms(server)) < 60_000
        assert found == {"state": "cancelled", "reply": "reply"}
        assert expires_within(server, record("7"), 60_000)
        assert all_keys(server) == {record("7"), SOURCE.counters}
        assert fields(server, SOURCE.counters) == {"cancelled": "1"}
        assert self.cancel(server) == Cancelled("ended", ended="cancelled")

    def test_of_any_other_its_id_is_left_and_said(self, server: Server) -> None:
        submit(server, "7")
        with server.client().pubsub() as heard:  # type: ignore[no-untyped-call]
            heard.subscribe(keys.task_control("q"))
            assert heard.get_message(timeout=30)
            assert self.cancel(server) == Cancelled("asked")
            assert heard.get_message(timeout=30)["data"] == "cancel 7"
        expiry = scores(server, SOURCE.cancelled)["7"]
        assert 0 <= server_ms(server) + task_ends.CANCELLED_MS - expiry < 60_000
        assert len(entries(server, LOW)) == 1
        assert drive(server, tasks.all_cancelled(SOURCE)) == ["7"]

    def test_one_that_has_ended_stays_as_it_is(self, server: Server) -> None:
        server.execute("HSET", record("7"), "state", "done")
        assert self.cancel(server) == Cancelled("ended", ended="done")
        assert all_keys(server) == {record("7")}

    def test_one_whose_entry_is_known_ends_at_once_too(self, server: Server) -> None:
        submit(server, "6", "7")
        place = (1, entries(server, LOW)[1][0])
        wait(server)
        assert self.cancel(server, "7", place) == Cancelled("cancelled", [REPLY], b'{"id":"7"}')
        assert fields(server, record("7"))["state"] == "cancelled"
        assert [item.body for item in claim(server)] == [b'{"id":"6"}']
        assert not server.execute("EXISTS", SOURCE.cancelled, SOURCE.waiters)

    def test_unless_it_is_claimed(self, server: Server) -> None:
        claimed(server, "7")
        place = (1, entries(server, LOW)[0][0])
        assert self.cancel(server, "7", place) == Cancelled("asked")
        assert len(entries(server, LOW)) == 1
        assert self.cancel(server, "7", (1, "1-0")) == Cancelled("asked")


class TestFinding:
    def find(self, server: Server, id: str, place: Place | None = None) -> str:
        return drive(server, task_ends.find(SOURCE, id, place)).where

    def test_before_the_first_worker(self, server: Server) -> None:
        submit(server, "7")
        assert self.find(server, "7") == "ready"
        assert self.find(server, "7", (1, entries(server, LOW)[0][0])) == "ready"
        assert self.find(server, "8") == "nowhere"

    def test_where_it_is(self, server: Server) -> None:
        claimed(server, "r")
        submit(server, "w")
        drive(server, trips.submit("q", Submission("l", b"x", "low", delay_ms=60_000), PRIORITIES))
        server.execute("HSET", record("e"), "state", "done")
        assert [self.find(server, name) for name in "rwle"] == ["running", "ready", "later", "ended"]
        running, ready = (entry for entry, _ in entries(server, LOW))
        assert self.find(server, "r", (1, running)) == "running"
        assert self.find(server, "w", (1, ready)) == "ready"
        assert self.find(server, "w", (0, "1-0")) == "ready"  # its entry is another one by now

    def test_deep_in_a_long_queue_it_is_not_seen(self, server: Server, monkeypatch: Any) -> None:
        monkeypatch.setattr(task_ends, "SEARCHED", 32)
        submit(server, *(f"n{number}" for number in range(50)))
        assert (self.find(server, "n5"), self.find(server, "n49"), self.find(server, "none")) == (
            "ready", "unseen", "unseen",
        )  # fmt: skip
        monkeypatch.setattr(task_ends, "SEARCHED", 64)
        assert (self.find(server, "n49"), self.find(server, "none")) == ("ready", "nowhere")
        monkeypatch.setattr(task_ends, "SEARCHED_BYTES", 100)
        assert self.find(server, "n49") == "unseen"


def test_purging_leaves_what_runs(server: Server) -> None:
    claimed(server, "running")
    submit(server, *map(str, range(tasks.PURGED + 1)))
    submit(server, "h", priority="high")
    locked = Submission("l", b'{"unique":"u"}', "low", delay_ms=60_000, unique="u")
    drive(server, trips.submit("q", locked, PRIORITIES))

    removed, marked = drive(server, tasks.purge(SOURCE, '"unique"'))

    assert (removed, marked) == (tasks.PURGED + 3, [b'{"unique":"u"}'])
    assert [found["b"] for _, found in entries(server, LOW)] == ['{"id":"running"}']
    assert not server.execute("EXISTS", DELAYED, BODIES)
    assert drive(server, tasks.unlock("q", [("u", "somebody"), ("none", "x")])) == 0
    assert drive(server, tasks.unlock("q", [("u", "l")])) == 1
    assert drive(server, tasks.unlock("q", [])) == 0
    assert drive(server, tasks.purge(SOURCE, '"unique"')) == (0, [])


def test_what_is_put_off_as_nobody_knows_its_type_frees_its_lock(server: Server) -> None:
    for attempt in ("1", "3", "1@1795391364382"):
        server.execute("HSET", BODIES, "7", f"lo\nw {attempt} {{a b}}")
        server.execute("ZADD", DELAYED, "1", "7")
        assert drive(server, tasks.purge(SOURCE, "a b")) == (1, [b"{a b}"])
        server.execute("HSET", BODIES, "7", f"lo\nw {attempt} {{a b}}")
        server.execute("ZADD", DELAYED, "1", "7")
        assert drive(server, task_ends.cancel(SOURCE, "7", b"reply", 0)).body == b"{a b}"


def test_what_a_worker_has_given_back_is_nobodys(server: Server) -> None:
    items = claimed(server, "1", "2", "3", "running")
    drive(server, trips.release(SOURCE, "me", items[:3], 10_000))
    place = (1, items[0].entry.decode())
    assert drive(server, task_ends.find(SOURCE, "1", place)).where == "ready"
    assert drive(server, task_ends.cancel(SOURCE, "1", b"reply", 60_000, place)).state == "cancelled"
    assert drive(server, tasks.purge(SOURCE, '"id":"2"')) == (2, [b'{"id":"2"}'])
    assert list(pending(server, LOW, GROUP)) == [items[3].entry.decode()]
    assert [found["b"] for _, found in entries(server, LOW)] == ['{"id":"running"}']


def test_purging_before_the_first_worker(server: Server) -> None:
    submit(server, "1", "2")
    assert drive(server, tasks.purge(SOURCE, "x")) == (2, [])


def test_counting(server: Server) -> None:
    nothing = Stats({"high": 0, "low": 0}, 0, 0, 0, False, 0, {})
    assert drive(server, tasks.stats(SOURCE, PRIORITIES)) == nothing

    items = claimed(server, "1", "2", "3")
    submit(server, "4", "5")
    submit(server, "6", priority="high")
    drive(server, trips.submit("q", Submission("7", b"x", "low", delay_ms=60_000), PRIORITIES))
    outcomes = [Settlement(items[0], "1", Ended("done")), Settlement(items[1], "2", DeadLetter("no"))]
    drive(server, trips.settle(SOURCE, "me", outcomes))
    drive(server, leases.pause(SOURCE))

    found = drive(server, tasks.stats(SOURCE, PRIORITIES))
    assert found == Stats({"high": 1, "low": 2}, 1, 1, 1, True, 1, {"done": 1, "dead": 1})
    assert claim(server) == []
    assert GROUP == "workers"


def test_what_was_given_back_by_a_paused_queue_counts_as_ready(server: Server) -> None:
    items = claimed(server, "1", "2", "3")
    drive(server, leases.pause(SOURCE))
    drive(server, trips.release(SOURCE, "me", items[:2], 10_000))
    found = drive(server, tasks.stats(SOURCE, PRIORITIES))
    assert (found.ready, found.running, found.paused) == ({"high": 0, "low": 2}, 1, True)
