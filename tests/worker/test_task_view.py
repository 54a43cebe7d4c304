"""How far a running task is, said by its handler: a record on a real server, fenced by the delivery."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from redis_toolkit import App, EncodeError, Message, current_task
from redis_toolkit._core.flows import leases, task_ends, tasks
from redis_toolkit._core.flows.task_ends import Found
from redis_toolkit._core.flows.tasks import Submission
from redis_toolkit._core.flows.work import Claimed, Later
from tests.kit.servers import Server
from tests.lua import trips
from tests.lua.driving import drive
from tests.worker.claims import Rig, job_of, queue, reply_of, task

PRIORITIES = ("high", "low")


@pytest.fixture
def app(bus: Server) -> Iterator[App]:
    app = App(bus.url)
    yield app
    app.stop()


def claim(bus: Server, rig: Rig, body: bytes) -> Claimed:
    """Submit a task and claim it as the rig's consumer."""
    drive(bus, trips.submit("q", Submission("7", body, "low"), PRIORITIES))
    [item] = drive(bus, trips.claim(rig.durable.source, "host:1", 1)).items
    return item


def record(bus: Server) -> Found:
    return drive(bus, task_ends.find(tasks.queue_source("q", PRIORITIES), "7"))


def test_it_is_seen_while_the_task_runs(bus: Server, app: App) -> None:
    seen: list[Any] = []

    def work(data: Any) -> None:
        seen.append(current_task().progress({"part": 0.5}))
        found = record(bus)
        seen.extend([found.state, found.fields["progress"], found.fields["worker"]])

    rig = queue(job_of(work, "add", app=app, result_ttl=60))
    settlement = rig.run(claim(bus, rig, task(1)))
    assert seen == [True, "running", b'{"part":0.5}', b"host:1"]
    assert 50_000 < bus.execute("PTTL", "rt:q:{q}:task:7") <= 60_000
    drive(bus, trips.settle(rig.durable.source, "host:1", [settlement]))
    assert record(bus).state == "done"


def test_nothing_is_left_of_it_when_nothing_is_to_be_kept(bus: Server, app: App) -> None:
    rig = queue(job_of(lambda data: current_task().progress(1), "add", app=app, result_ttl=0))
    settlement = rig.run(claim(bus, rig, task(1)))
    assert record(bus).state == "running"
    drive(bus, trips.settle(rig.durable.source, "host:1", [settlement]))
    assert record(bus).state is None


def test_it_is_not_taken_from_one_whose_task_is_anothers(bus: Server, app: App) -> None:
    rig = queue(job_of(lambda data: current_task().progress(1), "add", app=app))
    item = claim(bus, rig, task(1))
    drive(bus, trips.recover(rig.durable.source, "other", 0, 1))
    assert reply_of(rig.run(item))["data"] is False
    assert record(bus).state is None


def test_a_coroutine_awaits_it(bus: Server, app: App) -> None:
    async def work(data: Any) -> bool:
        told = await current_task().aprogress("half")
        await app.astop()
        return told

    rig = queue(job_of(work, "add", app=app))
    assert reply_of(rig.run(claim(bus, rig, task(1))))["data"] is True
    assert record(bus).fields["progress"] == b'"half"'


def test_what_cannot_be_said_is_an_error(bus: Server, app: App) -> None:
    def work(data: Any) -> None:
        with pytest.raises(EncodeError):
            current_task().progress(object())

    rig = queue(job_of(work, "add", app=app))
    assert rig.run(claim(bus, rig, task(1))).outcome.state == "done"


def test_what_is_done_once_is_known_to_the_next_attempt(bus: Server, app: App) -> None:
    def work(data: Any, message: Message) -> bool:
        with message.once("charge", ttl=60) as first:
            return first

    rig = queue(job_of(work, "add", app=app))
    item = claim(bus, rig, task({"data": 1}))
    assert [reply_of(rig.run(item))["data"] for _ in range(2)] == [True, False]
    assert bus.execute("EXISTS", "rt:o:{q}:add:charge") == 1


def test_since_when_nobody_knows_a_type_comes_back_with_it(bus: Server) -> None:
    rig = queue(job_of(lambda data: None, "add"))
    first = claim(bus, rig, task(1, "later"))
    settlement = rig.unread(first)
    settlement.outcome = Later(0)
    drive(bus, trips.settle(rig.durable.source, "host:1", [settlement]))
    drive(bus, leases.promote(rig.durable.source))
    [again] = drive(bus, trips.claim(rig.durable.source, "host:1", 1)).items
    assert (again.attempt, again.since_ms, again.deliveries) == (1, rig.clock.now, 1)
    assert again.body == first.body
