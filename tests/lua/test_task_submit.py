from __future__ import annotations

from typing import Any

import pytest
import redis

from redis_toolkit import QueueFull, keys
from redis_toolkit._core.flow import Call
from redis_toolkit._core.flows.tasks import Submission, Submitted
from redis_toolkit._core.flows.work import Later, Settlement
from tests.core.by_hand import Driven
from tests.kit.servers import Server
from tests.lua import trips
from tests.lua.driving import ask, drive, entries, fields, scores
from tests.lua.queues import SOURCE, claim
from tests.lua.run import SOON, all_keys, expires_within, server_ms

PRIORITIES = ("high", "low")
HIGH, LOW = keys.task_ready("q", "high"), keys.task_ready("q", "low")
DELAYED, BODIES = keys.task_delayed("q"), keys.task_bodies("q")


def submit(server: Server, id: str = "7", *, most: int | None = None, **more: Any) -> Submitted:
    task = Submission(id, b'{"id":"' + id.encode() + b'"}', more.pop("priority", "low"), **more)
    return drive(server, trips.submit("q", task, PRIORITIES, max_pending=most))


def test_a_plain_one_is_an_entry_and_nothing_else(server: Server) -> None:
    plain = Driven(trips.submit("q", Submission("7", b"{}", "low"), PRIORITIES)).last(Call)
    assert plain == Call((("XADD", LOW, "*", "b", b"{}"),))

    said = submit(server)
    assert entries(server, LOW) == [(said.detail, {"b": '{"id":"7"}'})]
    assert said.state == "ready"
    assert all_keys(server) == {LOW}


def test_a_later_one_waits_beside_its_body(server: Server) -> None:
    before = server_ms(server)
    said = submit(server, delay_ms=60_000, priority="high")

    assert said == Submitted("later", str(scores(server, DELAYED)["7"]))
    assert before + 60_000 <= int(said.detail) <= before + 60_000 + SOON
    assert fields(server, BODIES) == {"7": 'high 1 {"id":"7"}'}
    assert all_keys(server) == {DELAYED, BODIES}


def test_the_server_says_what_time_it_is(server: Server) -> None:
    when = server_ms(server) + 1_000_000
    assert submit(server, due_ms=when) == Submitted("later", str(when))
    assert submit(server, "8", due_ms=1).state == "ready"
    assert submit(server, "9", delay_ms=0).state == "ready"
    assert len(entries(server, LOW)) == 2


def test_the_earliest_wakes_the_timers(server: Server) -> None:
    now = server_ms(server)
    with server.client().pubsub() as heard:  # type: ignore[no-untyped-call]
        heard.subscribe(keys.task_due("q"))
        assert heard.get_message(timeout=30)
        submit(server, "1", due_ms=now + 500_000)
        submit(server, "2", due_ms=now + 900_000)
        submit(server, "3", due_ms=now + 100_000)
        got = [heard.get_message(timeout=30)["data"] for _ in range(2)]
    assert got == [str(now + 500_000), str(now + 100_000)]


def test_what_nobody_has_said_to_be_due_hides_no_wake_up(server: Server) -> None:
    now = server_ms(server)
    server.execute("ZADD", DELAYED, 5, "foreign")
    with server.client().pubsub() as heard:  # type: ignore[no-untyped-call]
        heard.subscribe(keys.task_due("q"))
        assert heard.get_message(timeout=30)
        submit(server, "1", due_ms=now + 500_000)
        assert heard.get_message(timeout=30)["data"] == str(now + 500_000)
        submit(server, "2")
        [item] = claim(server)
        drive(server, trips.settle(SOURCE, "me", [Settlement(item, "2", Later(600_000), 2)]))
        assert int(heard.get_message(timeout=30)["data"]) >= now + 600_000


def test_one_id_is_one_task(server: Server) -> None:
    first = submit(server, once_ms=60_000)
    again = submit(server, once_ms=60_000)

    assert again == Submitted("same", first.detail)
    assert len(entries(server, LOW)) == 1
    assert ask(server, "GET", keys.task_submitted("q", "7")) == first.detail
    assert expires_within(server, keys.task_submitted("q", "7"), 60_000)

    later = submit(server, "8", once_ms=60_000, delay_ms=60_000)
    assert submit(server, "8", once_ms=60_000, delay_ms=60_000) == Submitted("same", later.detail)


def test_one_unique_key_is_one_task_at_a_time(server: Server) -> None:
    submit(server, "1", unique="nightly", unique_ms=60_000)
    assert submit(server, "2", unique="nightly") == Submitted("locked", "1")
    assert submit(server, "3", unique="other", delay_ms=60_000).state == "later"

    assert ask(server, "GET", keys.task_lock("q", "nightly")) == "1"
    assert expires_within(server, keys.task_lock("q", "nightly"), 60_000)
    assert len(entries(server, LOW)) == 1


def test_a_bounded_queue_counts_what_is_ready_claimed_and_later(server: Server) -> None:
    submit(server, "1", priority="high")
    submit(server, "2")
    ask(server, "XGROUP", "CREATE", LOW, "workers", 0)
    ask(server, "XREADGROUP", "GROUP", "workers", "w", "STREAMS", LOW, ">")
    submit(server, "3", delay_ms=60_000)

    with pytest.raises(QueueFull, match="'q' holds 3 tasks, its max_pending is 3"):
        submit(server, "4", most=3)
    assert submit(server, "4", most=4).state == "ready"


@pytest.mark.fault(25, "tasks")
@pytest.mark.parametrize("more", [{}, {"delay_ms": 60_000}, {"once_ms": 60_000}, {"unique": "u"}])
def test_full_memory_refuses_it_whole(server: Server, more: dict[str, Any]) -> None:
    server.execute("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(redis.ResponseError, match="maxmemory"):
            submit(server, **more)
    finally:
        server.execute("CONFIG", "SET", "maxmemory", "0")
    assert all_keys(server) == set()


@pytest.mark.fault(34, "tasks")
def test_a_foreign_value_leaves_no_half_effect(server: Server) -> None:
    server.execute("SET", DELAYED, "mine")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        submit(server, delay_ms=60_000)
    assert all_keys(server) == {DELAYED}


@pytest.mark.fault(35, "tasks")
@pytest.mark.parametrize("more", [{}, {"delay_ms": 60_000}])
def test_a_missing_right_leaves_no_half_effect(server: Server, more: dict[str, Any]) -> None:
    server.execute("ACL", "SETUSER", "default", "-set")
    try:
        with pytest.raises(redis.ResponseError, match=r"(?i)permission|can.t run"):
            submit(server, once_ms=60_000, unique="u", **more)
    finally:
        server.execute("ACL", "SETUSER", "default", "+@all")
    assert not entries(server, LOW)
    assert all_keys(server) <= {LOW}  # a stream that was emptied stays
