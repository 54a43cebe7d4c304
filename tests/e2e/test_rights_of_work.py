"""ACL users who serve tasks and groups, or publish for groups: the documented rules are just enough."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from redis_toolkit import App, Message, RemoteError, Retry, current_task
from redis_toolkit._core import scripts
from redis_toolkit._core.flow import Call, Flow
from redis_toolkit._core.flows import durable, leases, tasks
from redis_toolkit._core.flows.work import DeadLetter, Ended, Later, Ok, Settlement, Source
from redis_toolkit.patterns import ChatRoom, ReliableMessaging
from tests.e2e.conftest import MakeApp
from tests.e2e.queues import Queue
from tests.e2e.seats import Seats
from tests.e2e.styles import Background, Style
from tests.e2e.test_rights import PAGE, RULES, user
from tests.kit.waiting import eventually
from tests.lua import trips

__all__ = ["user"]  # the fixture

pytestmark = [pytest.mark.usefixtures("every_style"), pytest.mark.fault(35, "durable", "tasks")]

ENGINE = "claim settle recover release heartbeat promote clean leave"
NEEDS = {
    "submitters": (
        "task_submit task_wait task_find task_cancel task_purge task_stats unlock revive",
        "blpop lpop",  # waiting for ends
    ),
    "task_workers": (f"{ENGINE} task_progress", "subscribe unsubscribe client rpush"),
    "publishers": ("publish trim groups forget revive", "zcard"),
    "group_workers": (f"{ENGINE} group trim", "subscribe unsubscribe client"),
    "notifications": ("notify notifications broadcasts mark_read", "subscribe unsubscribe"),
    "rooms": (
        "room_send room_direct room_typing room_here room_leave room_sweep room_read room_seen",
        "subscribe unsubscribe hgetall hvals zrange xrevrange",
    ),
}
"""Which scripts a role runs, and what it sends besides."""
ALWAYS = {"eval", "evalsha", "ping", "select", "time"}
TAKEN_BACK = {"rpop"}
"""What scripts call only when a right is missing."""
OF_TASKS = {"get", "del", "pexpire", "zmscore", "zrevrange"}
"""What the engine needs for records, unique keys and cancelled ids, which events have not."""
CALL = re.compile(r"""(?:call\(|failure\(|= \{)'([A-Z]+)'(?:, '([A-Z]+)')?""")


[ONCE] = re.findall(r"`message.once` also needs `(.*)`", PAGE)


def commands_of(name: str) -> set[str]:
    """Return what a script calls, as ACL rules name it."""
    found = CALL.findall(getattr(scripts, name.upper()).text)
    return {
        f"{command}|{sub}".lower() if command in ("XGROUP", "XINFO") else command.lower()
        for command, sub in found
    }


@pytest.mark.usefixtures("threads_and_calls")
@pytest.mark.parametrize("role", NEEDS)
def test_the_rules_have_what_the_scripts_call_and_no_more(role: str) -> None:
    names, besides = NEEDS[role]
    called = set().union(*(commands_of(name) for name in names.split())) - TAKEN_BACK
    called -= OF_TASKS if role == "group_workers" else set()
    rules = {rule[1:] for rule in RULES[role].split() if rule.startswith("+")}

    assert rules == called | ALWAYS | set(besides.split())


def test_the_rules_for_workers_of_tasks_are_enough(
    user: Callable[..., str],
    make_app: MakeApp,
    app: App,
    style: Style,
    background: Background | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = make_app(user("worker", RULES["task_workers"]))
    served = Queue(worker, style, background, "jobs", announce=True)
    queue = Queue(app, style, background, "jobs")

    @served.task(name="halve", retries=1, backoff=0.01)
    def halve(a: float) -> float:
        current_task().progress("begun")
        if a == 1 and current_task().attempt == 1:
            raise Retry(delay=0.01)
        return 10 / a

    with worker:
        handles = [queue.submit("halve", a) for a in (1, 2, 5)]
        handles.append(queue.submit("halve", 10, delay=0.01))
        failing = queue.submit("halve", 0, unique_key="only")
        expired = queue.submit("halve", 1, delay=0.05, expires=0.01)
        assert queue.results(handles) == [10, 5, 2, 1]
        with pytest.raises(RemoteError):
            queue.result(failing)
        eventually(lambda: queue.do(expired, "status") == "expired")
        assert worker.health_check()
    engine_steps(worker, app, tasks.queue_source("jobs", ["normal"]))
    assert not refusals(caplog)


def test_the_rules_for_groups_are_enough(
    user: Callable[..., str], make_app: MakeApp, app: App, caplog: pytest.LogCaptureFixture
) -> None:
    worker = make_app(user("worker", RULES["group_workers"]))
    publisher = make_app(user("publisher", RULES["publishers"]))
    got: list[Any] = []

    @worker.on("orders", group="billing", retries=1, backoff=0.01, max_backlog=100, overflow="drop", keep=1)
    def bill(number: int) -> None:
        got.append(number)
        if number == 2 and got.count(2) < 4:
            raise ValueError(number)

    with worker:
        publisher.publish("orders", 1, id="first")
        publisher.publish("orders", 1, id="first")
        publisher.publish_many("orders", [2, 3])
        eventually(lambda: publisher.dead("orders", "billing"))
        publisher.requeue("orders", "billing")
        eventually(lambda: sorted(got) == [1, 2, 2, 2, 2, 3])
        [info] = publisher.groups("orders")
        assert info.name == "billing"
        assert worker.health_check()
        assert publisher.health_check()
    publisher.publish_many("orders", range(300))  # more than its limit: the oldest are dropped
    assert publisher.groups("orders")[0].dropped > 0
    worker._driver.run(durable.trim("orders"))
    engine_steps(worker, app, durable.group_source("orders", "billing"))
    assert publisher.forget_group("orders", "billing")
    assert not refusals(caplog)


def test_the_rules_for_rooms_are_enough(
    user: Callable[..., str],
    make_app: MakeApp,
    style: Style,
    background: Background | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make_app(user("member", RULES["rooms"]), lease=0.3)
    seats = Seats(app, style=style, background=background, history_age=60)
    first = seats.send_message("ann", 0, id="1")
    ann = seats.join("ann", since="0-0", metadata={"a": 1})
    seats.send_message("ann", 1, id="1")
    seats.send_direct("ann", "ben", "psst", id="2")
    seats.typing("ann")
    seats.set_metadata(topic="tea", old=None)
    assert seats.metadata() == {"topic": "tea"}
    assert [one.user for one in seats.members()] == ["ann"]
    assert ChatRoom.rooms(app)[0].members == 1
    assert seats.history(before=first) == []
    ann.hears(0)
    ann.stop()
    assert seats.members() == []
    assert not refusals(caplog)


@pytest.mark.usefixtures("threads_and_calls")
def test_the_rules_for_acknowledged_messages_and_for_once_are_enough(
    user: Callable[..., str], make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    rules = [RULES[role] for role in ("publishers", "group_workers", "subscribers")]
    app = make_app(user("payer", *rules, ONCE))
    done: list[bool] = []

    def book(message: Message) -> None:
        with message.once("booked", ttl=60) as first:
            done.append(first)

    with ReliableMessaging(app=app) as messaging, messaging.create_ack_subscriber("payments", book):
        assert messaging.publish_with_ack("payments", {"amount": 3}, timeout=30)
        assert messaging.publish_with_ack("payments", {"amount": 4}, timeout=30)
    assert done == [True, False]
    assert not refusals(caplog)


def engine_steps(worker: App, other: App, source: Source) -> None:
    """Do as `worker` what an engine does now and then, with what `other` has left behind."""

    def run(flow: Any) -> Any:
        return worker._driver.run(flow)

    for number in range(8):
        other._driver.run(added(source, f"e{number}"))
    assert run(trips.claim(source, "me", 1)).items
    assert len(other._driver.run(trips.claim(source, "dead", 5)).items) == 5
    time.sleep(0.002)  # so that they are idle for 1 ms
    held = run(trips.recover(source, "me", 1, 6))
    assert len(held) == 6
    pulse = run(leases.heartbeat(source, "me", [(one, "e") for one in held]))
    assert not pulse.lost
    assert run(trips.release(source, "me", held[:1], 1)) == 1
    outcomes: list[Any] = [Later(0), DeadLetter("failed"), Ok(), Ok()]
    if not source.id_field:
        outcomes = [Later(0), DeadLetter("failed"), Ended("done", b"{}", 1000), Ended("done", b"{}", -1)]
    ended = [
        Settlement(one, f"e{place}", outcome, lock="" if source.id_field else "key")
        for place, (one, outcome) in enumerate(zip(held[1:], outcomes, strict=False))
    ]
    assert not run(trips.settle(source, "me", ended)).failed
    assert not run(leases.promote(source)).error
    run(leases.clean(source, 0))
    assert run(leases.leave(source, "nobody")) == len(source.streams)


def added(source: Source, name: str) -> Flow[None]:
    yield Call((("XADD", source.streams[0], "*", "b", "{}", source.id_field or "c", name),), repeatable=True)


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if "NOPERM" in line.upper()]
