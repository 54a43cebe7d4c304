"""Durable work in a node: served, kept, timed, and put right after the server has lost something."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from redis_toolkit import App, KeyConflict
from redis_toolkit._core.flows import durable, leases, task_ends, tasks
from redis_toolkit._core.flows.tasks import Submission
from redis_toolkit.binding import Binding
from redis_toolkit.codecs import resolve_codec
from redis_toolkit.jobs import Durable, Job, Policy
from redis_toolkit.wire import Wire
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.lua import trips
from tests.lua.driving import ask, drive, pending
from tests.lua.queues import LOW, PRIORITIES, SOURCE
from tests.worker.fakes import no_threads_left

STYLES = ("def", "async def")
EVENTS = durable.group_source("c", "g")
LOG = EVENTS.streams[1]
LONG = 30.0


@pytest.fixture(autouse=True)
def all_threads_end() -> Iterator[None]:
    with no_threads_left("rt-"):
        yield


class Served:
    """An app whose handler notes what it gets, and waits where it is told to.

    Attributes:
        got: the data of each start.
        gates: what a start with this data waits for.
    """

    def __init__(self, server: Server, style: str, **options: Any) -> None:
        self.app = App(server.url, **{"block": LONG, "lease": 60.0, **options})
        self.style = style
        self.got: list[Any] = []
        self.ended: list[Any] = []
        self.gates: dict[Any, threading.Event] = {}

    def on(self, *channels: str, **options: Any) -> Served:
        self.app.on(*channels, **options)(self.handler)
        return self

    def queue(self, **policy: Any) -> Served:
        wire = Wire(resolve_codec("json"), 1024 * 1024)
        jobs = {"": Job("", Binding(self.handler), wire, Policy(**policy))}
        self.app._router.add_durable(Durable(SOURCE, jobs, "q", is_queue=True))
        return self

    @property
    def handler(self) -> Callable[..., Any]:
        def take(data: Any) -> Any:
            self.got.append(data)
            gate = self.gates.get(data)
            assert gate is None or gate.wait(30)
            self.ended.append(data)
            return data

        async def atake(data: Any) -> Any:
            self.got.append(data)
            gate = self.gates.get(data)
            if gate is not None:
                assert await asyncio.to_thread(gate.wait, 30)
            self.ended.append(data)
            return data

        return take if self.style == "def" else atake

    def close(self, *data: Any) -> threading.Event:
        """Have starts with this data wait until the event that is returned is set."""
        gate = threading.Event()
        self.gates |= dict.fromkeys(data, gate)
        return gate

    def __enter__(self) -> Served:
        self.app.start()
        return self

    def __exit__(self, *_: object) -> None:
        for gate in self.gates.values():
            gate.set()
        self.app.stop()


@pytest.fixture(params=STYLES)
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def submit(server: Server, *data: int, delay_ms: int | None = None) -> None:
    some = [
        Submission(str(one), b'{"id":"%d","task":"t","data":%d}' % (one, one), "low", delay_ms=delay_ms)
        for one in data
    ]
    drive(server, tasks.submit_many("q", some, PRIORITIES))


def consumers(server: Server, stream: str, group: str) -> set[str]:
    return {flat[1] for flat in ask(server, "XINFO", "CONSUMERS", stream, group)}


# -- serving --------------------------------------------------------------------------------------


def test_events_and_tasks_are_served_beside_each_other(bus: Server, style: str) -> None:
    with Served(bus, style).on("c", group="g").on("c", group="h").on("c").queue() as me:
        assert me.app.publish("c", "event") == 1
        submit(bus, 1)
        eventually(lambda: len(me.got) == 4)
        assert sorted(map(str, me.got)) == ["1", "event", "event", "event"]
        eventually(lambda: pending(bus, LOG, "g") == pending(bus, LOG, "h") == {})
        eventually(lambda: ask(bus, "XLEN", LOW) == 0)


def test_it_starts_and_stops_on_the_callers_loop(bus: Server) -> None:
    async def main() -> None:
        me = Served(bus, "async def").on("c", group="g")
        async with me.app:
            await me.app.apublish("c", 1)
            for _ in range(3000):
                if me.ended:
                    break
                await asyncio.sleep(0.01)
        assert me.ended == [1]

    asyncio.run(main())


def test_a_group_is_there_when_the_app_has_started(bus: Server, style: str) -> None:
    with Served(bus, style).on("c", group="g", max_backlog=7) as me:
        me.app.publish("c", 1)
        eventually(lambda: me.ended == [1])
        [group] = drive(bus, durable.groups("c"))
        assert (group.name, group.limit) == ("g", "7 refuse")


def test_consumers_leave_when_it_stops(bus: Server, style: str) -> None:
    with Served(bus, style).on("c", group="g").queue() as me:
        me.app.publish("c", 1)
        submit(bus, 2)
        eventually(lambda: len(me.ended) == 2)
        assert len(consumers(bus, LOG, "g")) == len(consumers(bus, LOW, "workers")) == 1
    assert consumers(bus, LOG, "g") == consumers(bus, LOW, "workers") == set()


def test_what_has_ended_is_trimmed(bus: Server, style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redis_toolkit.worker.janitor.TRIM", 0.05)
    with Served(bus, style).on("c", group="g") as me:
        for number in range(5):
            me.app.publish("c", number)
        eventually(lambda: len(me.ended) == 5)
        eventually(lambda: ask(bus, "XLEN", LOG) == 0)


def test_a_start_that_fails_leaves_nothing_behind(bus: Server, style: str) -> None:
    bus.execute("SET", LOG, "a foreign value")
    me = Served(bus, style).on("c", group="g").on("c").queue()
    with pytest.raises(KeyConflict):
        me.app.start()
    bus.execute("DEL", LOG)
    with me:
        me.app.publish("c", 1)
        eventually(lambda: me.ended == [1, 1])


# -- time -----------------------------------------------------------------------------------------


def test_what_is_delayed_wakes_a_worker_that_waits(bus: Server, style: str) -> None:
    with Served(bus, style).queue() as me:
        submit(bus, 1, delay_ms=50)
        eventually(lambda: me.ended == [1])
        submit(bus, 2, delay_ms=600_000)
        submit(bus, 3, delay_ms=20)
        eventually(lambda: me.ended == [1, 3])


def test_what_was_delayed_before_it_started_is_known(bus: Server, style: str) -> None:
    submit(bus, 1, delay_ms=1)
    with Served(bus, style).queue() as me:
        eventually(lambda: me.ended == [1])


def test_a_failed_event_is_tried_again(bus: Server, style: str) -> None:
    me = Served(bus, style)
    tried: list[int] = []

    def fail(data: int) -> None:
        tried.append(data)
        if len(tried) < 3:
            raise ValueError("not yet")

    async def afail(data: int) -> None:
        fail(data)

    me.app.on("c", group="g", retries=5, backoff=0.02)(fail if style == "def" else afail)
    with me:
        me.app.publish("c", 7)
        eventually(lambda: tried == [7, 7, 7])
        eventually(lambda: [group.later for group in drive(bus, durable.groups("c"))] == [0])


# -- leases ---------------------------------------------------------------------------------------


@pytest.mark.fault(7, "tasks")
def test_what_runs_keeps_its_lease(bus: Server, style: str) -> None:
    with Served(bus, style, lease=0.4, block=0.1).queue() as me:
        gate = me.close(1)
        submit(bus, 1)
        eventually(lambda: me.got == [1])
        [entry] = pending(bus, LOW, "workers")
        with Served(bus, style, lease=0.4, block=0.1).queue() as other:
            submit(bus, *range(2, 6))  # its lease runs out twice meanwhile, if nothing renews it
            renewed = renewals(bus, entry)
            eventually(lambda: renewed() >= 8)
            gate.set()
            eventually(lambda: me.ended.count(1) == 1)
            eventually(lambda: sorted(me.ended + other.ended) == [1, 2, 3, 4, 5])


def renewals(server: Server, entry: str) -> Callable[[], int]:
    """Count how often an entry's lease was renewed, by its idle time getting shorter."""
    seen = [0, 0]

    def count() -> int:
        [row] = ask(server, "XPENDING", LOW, "workers", entry, entry, 1)
        seen[1] += row[2] < seen[0]
        seen[0] = row[2]
        return seen[1]

    return count


@pytest.mark.fault(1, "tasks", "durable")
def test_what_a_dead_worker_had_is_run_again(bus: Server, style: str) -> None:
    submit(bus, 1)
    drive(bus, trips.claim(SOURCE, "dead", 10))
    with Served(bus, style, lease=0.5, block=0.1).queue().on("c", group="g") as me:
        eventually(lambda: me.ended == [1])
        me.gates[2] = threading.Event()
        with Served(bus, style, lease=0.5, block=0.1).on("c", group="g") as other:
            drive(bus, leases.pause(EVENTS))
            me.app.publish("c", 3)
            drive(bus, leases.resume(EVENTS))
            eventually(lambda: me.ended.count(3) + other.ended.count(3) == 1)


@pytest.mark.fault(4, "tasks")
def test_what_had_not_ended_when_it_stops_is_run_by_others(bus: Server, style: str) -> None:
    first = Served(bus, style, lease=2.0, grace=0.05, concurrency=1, coroutines=1).queue()
    first.close(1)
    first.app.start()
    submit(bus, 1, 2, 3)
    eventually(lambda: first.got == [1])
    first.app.stop()
    with Served(bus, style, lease=2.0).queue() as other:
        eventually(lambda: sorted(other.ended) == [1, 2, 3])
        deliveries = {count for _, count in pending(bus, LOW, "workers").values()}
        assert deliveries <= {1}
    for gate in first.gates.values():
        gate.set()


# -- what is said ---------------------------------------------------------------------------------


def test_a_paused_group_goes_on_as_soon_as_it_may(bus: Server, style: str) -> None:
    with Served(bus, style).on("c", group="g").on("c", group="h") as me:
        me.app.publish("c", 1)
        eventually(lambda: me.ended == [1, 1])
        drive(bus, leases.pause(EVENTS))
        me.app.publish("c", 2)
        eventually(lambda: me.ended == [1, 1, 2], what="the other group")
        eventually(lambda: ask(bus, "XPENDING", LOG, "g")[0] in (0, 1))
        drive(bus, leases.resume(EVENTS))
        eventually(lambda: me.ended == [1, 1, 2, 2])


@pytest.mark.parametrize("running", [True, False], ids=["running", "waiting"])
def test_a_cancelled_task_does_not_run_on(bus: Server, style: str, running: bool) -> None:
    with Served(bus, style, concurrency=1, coroutines=1).queue() as me:
        gate = me.close(1)
        submit(bus, 1)
        eventually(lambda: me.got == [1])
        if running:
            cancel(bus, 1)
            if style == "def":
                eventually(lambda: any(held(me)), what="the flag of a thread")
                gate.set()
            eventually(lambda: ask(bus, "XLEN", LOW) == 0)
        else:
            submit(bus, 2, 3)
            cancel(bus, 2)
            gate.set()
            eventually(lambda: me.ended == [1, 3])
        eventually(lambda: ask(bus, "EXISTS", SOURCE.cancelled) == 0)


def cancel(server: Server, task: int) -> None:
    assert drive(server, task_ends.cancel(SOURCE, str(task), b"{}", 60_000)).state == "asked"


def held(me: Served) -> list[bool]:
    node = me.app._service._node
    assert node is not None
    [consumer] = node._durable.consumers
    return [item.cancelled for item in consumer.holdings.running()]


# -- state that is lost ---------------------------------------------------------------------------


@pytest.mark.fault(11, "tasks", "durable")
def test_after_a_flush_everything_flows_again(
    bus: Server, style: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Served(bus, style, block=0.2).on("c", group="g").queue() as me:
        me.app.publish("c", 1)
        submit(bus, 2)
        eventually(lambda: sorted(me.ended) == [1, 2])
        bus.execute("FLUSHALL")
        eventually(lambda: ask(bus, "EXISTS", LOG, LOW) == 2)
        me.app.publish("c", 3)
        submit(bus, 4)
        eventually(lambda: sorted(me.ended) == [1, 2, 3, 4])
        assert me.app.counters["state_lost"] == 2
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(said) == 2
    assert all("had lost the group" in line for line in said)


@pytest.mark.fault(11, "tasks", "durable")
def test_after_a_restart_without_its_data_everything_flows_again(own_server: Server, style: str) -> None:
    with Served(own_server, style, block=0.2, reconnect_cap=0.1).on("c", group="g").queue() as me:
        me.app.publish("c", 1)
        submit(own_server, 2)
        eventually(lambda: sorted(me.ended) == [1, 2])
        own_server.restart()
        eventually(lambda: ask(own_server, "EXISTS", LOG, LOW) == 2)
        me.app.publish("c", 3)
        submit(own_server, 4)
        eventually(lambda: sorted(me.ended) == [1, 2, 3, 4])
        eventually(lambda: me.app.counters.get("state_lost") == 2)


@pytest.mark.fault(13, "durable")
@pytest.mark.parametrize("how", ["destroyed", "deleted", "deconsumed"])
def test_a_group_that_somebody_removes_goes_on_where_it_was(bus: Server, style: str, how: str) -> None:
    with Served(bus, style, block=0.2).on("c", group="g") as me:
        me.app.publish("c", 1)
        eventually(lambda: me.ended == [1] and pending(bus, LOG, "g") == {})
        if how == "destroyed":
            bus.execute("XGROUP", "DESTROY", LOG, "g")
        elif how == "deleted":
            bus.execute("DEL", LOG)
            eventually(lambda: ask(bus, "EXISTS", LOG))
        else:
            [name] = consumers(bus, LOG, "g")
            bus.execute("XGROUP", "DELCONSUMER", LOG, "g", name)
        me.app.publish("c", 2)
        eventually(lambda: me.ended == [1, 2])


@pytest.mark.fault(13, "tasks")
def test_orphaned_tasks_are_put_back(bus: Server, style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redis_toolkit.worker.janitor.CLEAN", 0.05)
    submit(bus, 1)
    drive(bus, trips.claim(SOURCE, "foreign", 10))
    bus.execute("XGROUP", "DELCONSUMER", LOW, "workers", "foreign")
    with Served(bus, style).queue() as me:
        eventually(lambda: me.ended == [1])
        eventually(lambda: me.app.counters.get("orphans"))


@pytest.mark.fault(12, "tasks", "durable")
def test_forgotten_scripts_are_not_noticed(bus: Server, style: str) -> None:
    with Served(bus, style, block=0.2).on("c", group="g").queue() as me:
        for number in range(0, 20, 2):
            bus.execute("SCRIPT", "FLUSH")
            me.app.publish("c", number)
            submit(bus, number + 1)
        eventually(lambda: sorted(me.ended) == list(range(20)))


# -- stopping -------------------------------------------------------------------------------------


def test_a_handler_may_stop_its_own_app(bus: Server, style: str) -> None:
    app = App(bus.url, block=LONG)
    stopped: Future[bool] = Future()

    def stop(data: Any) -> None:
        app.stop()
        stopped.set_result(True)

    async def astop(data: Any) -> None:
        await app.astop()
        stopped.set_result(True)

    app.on("c", group="g")(stop if style == "def" else astop)
    app.start()
    app.publish("c", 1)
    assert stopped.result(30)
    eventually(lambda: pending(bus, LOG, "g") == {} and consumers(bus, LOG, "g") == set())
