"""The engine of durable work on the loop: how it stops, and what becomes of what it holds."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from redis_toolkit import App, current_task
from tests.core.awaiting import becomes
from tests.kit.processes import Process
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.fakes import no_threads_left
from tests.worker.gates import Gate, Make, holds
from tests.worker.work import Caller, serve_queue


@pytest.fixture
def caller(client: App) -> Caller:
    return Caller(client)


@pytest.fixture(autouse=True)
def quick_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redis_toolkit.worker.others.RECOVERY", 0.05)


def _runs_next(make: Make, caller: Caller, count: int) -> list[tuple[str, int, int]]:
    """Have another app run what was given back; returns id, attempt and deliveries of each."""
    app, seen = make(block=0.05), list[tuple[str, int, int]]()

    async def note() -> None:
        task = current_task()
        seen.append((task.id, task.attempt, task.deliveries))

    serve_queue(app, work=note)
    app.start()
    eventually(lambda: len(seen) == count, what=f"{count} runs, not {seen}")
    caller.ended(count)
    app.stop()
    return sorted(seen)


def test_what_outlives_the_grace_is_cancelled_and_given_back_uncounted(
    make: Make, caller: Caller, gate: Gate
) -> None:
    app = make(grace=0.05)

    async def work() -> None:
        await gate.wait()

    serve_queue(app, work=work)
    ids = caller.submit("work", range(5))
    app.start()
    holds(gate, 5)
    app.stop()
    assert gate.cancelled == 5
    assert caller.stats().counters == {}
    assert _runs_next(make, caller, 5) == [(one, 1, 1) for one in ids]


def test_what_ends_within_the_grace_is_settled_and_nothing_new_begins(
    make: Make, caller: Caller, gate: Gate
) -> None:
    app = make(coroutines=2)

    async def work() -> None:
        await gate.wait()

    serve_queue(app, work=work)
    caller.submit("work", range(10))
    app.start()
    holds(gate, 2)
    node = app._service._node
    assert node is not None
    stopping = threading.Thread(target=app.stop)
    stopping.start()
    eventually(lambda: node._durable._loops[0]._stopping, what="the stop")
    gate.opened.set()
    stopping.join(30)
    assert gate.most == 2
    assert caller.stats().counters == {"done": 2}
    assert caller.stats().ready["low"] == 8


def test_a_handler_that_ends_well_although_it_was_cancelled_has_ended(
    make: Make, caller: Caller, gate: Gate
) -> None:
    app = make(grace=0.05)

    async def work() -> str:
        try:
            await gate.wait()
        except asyncio.CancelledError:
            return "saved what there was"
        return "never"

    async def fail() -> None:
        try:
            await gate.wait()
        finally:
            raise ValueError("in the clean-up")

    serve_queue(app, work=work, fail=fail)
    caller.submit("work", range(2))
    failing = caller.submit("fail", [1])
    app.start()
    holds(gate, 3)
    app.stop()
    assert caller.stats().counters == {"done": 2}
    assert caller.stats().running == 1
    assert caller.record(failing[0]).state is None


def test_a_handler_that_does_not_end_is_given_up_and_its_work_given_back(
    make: Make, caller: Caller, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redis_toolkit.worker.runners.CANCEL_SECONDS", 0.05)
    app, ended = make(grace=0.05), list[str]()

    async def work() -> None:
        while not gate.opened.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                continue
        ended.append("late")

    serve_queue(app, work=work)

    async def program() -> None:
        ids = caller.submit("work", [1])
        await app.astart()
        await becomes(lambda: gate.inside == 1, "one inside")
        await app.astop()
        assert caller.stats().counters == {}
        assert await asyncio.to_thread(_runs_next, make, caller, 1) == [(ids[0], 1, 1)]
        gate.opened.set()
        await becomes(lambda: ended, "the late end")

    asyncio.run(program())
    assert caller.stats().counters == {"done": 1}


def test_threads_get_the_grace_and_what_waits_for_one_none(make: Make, caller: Caller) -> None:
    app = make(concurrency=1, grace=0.05)
    opened, inside = threading.Event(), list[int]()

    def work(number: int) -> None:
        inside.append(number)
        opened.wait(60)

    async def idle() -> None: ...

    serve_queue(app, work=work, idle=idle)
    ids = caller.submit("work", range(3))
    app.start()
    eventually(lambda: inside == [0], what="a thread")
    app.stop()
    assert inside == [0]
    assert _runs_next(make, caller, 3) == [(one, 1, 1) for one in ids]
    with no_threads_left("rt-job"):
        opened.set()
    assert caller.stats().counters == {"done": 3}


@pytest.mark.parametrize("where", ["loop", "thread"])
def test_a_handler_that_stops_its_own_app_is_not_waited_for(make: Make, caller: Caller, where: str) -> None:
    app = make()

    async def end() -> str:
        await app.astop()
        return "stopped"

    def end_too() -> str:
        app.stop()
        return "stopped"

    serve_queue(app, end=end if where == "loop" else end_too, idle=end)
    ids = caller.submit("end", [None])
    app.start()
    eventually(lambda: not app._service.started, what="the stop")
    caller.ended(1)
    assert caller.record(ids[0]).state == "done"


def test_an_idle_worker_stops_although_its_claim_would_block_for_minutes(make: Make, caller: Caller) -> None:
    for _ in range(3):
        app = make()

        async def idle() -> None: ...

        serve_queue(app, idle=idle)
        app.start()
        caller.submit("idle", [None])
        eventually(lambda: caller.stats().ready["low"] == 0, what="the task")
        app.stop()


def test_async_with_runs_jobs_on_the_running_loop(bus: Server, caller: Caller) -> None:
    async def program() -> None:
        app, on_loop = App(bus.url), list[bool]()

        async def work() -> None:
            on_loop.append(asyncio.get_running_loop() is loop)

        loop = asyncio.get_running_loop()
        serve_queue(app, work=work)
        async with app:
            caller.submit("work", range(10))
            await becomes(lambda: caller.stats().counters == {"done": 10}, "the end of all")
        assert on_loop == [True] * 10
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with no_threads_left("rt-"):
        asyncio.run(program())


def test_a_loop_that_ends_without_a_stop_gives_back_what_runs(
    bus: Server, make: Make, caller: Caller
) -> None:
    app = App(bus.url, block=300, grace=0.05)

    async def work() -> None:
        await asyncio.Event().wait()

    async def program() -> list[str]:
        serve_queue(app, work=work)
        ids = caller.submit("work", range(3))
        await app.astart()
        await becomes(lambda: caller.stats().running == 3, "three that run")
        return ids

    with no_threads_left("rt-"):
        ids = asyncio.run(program())
    assert _runs_next(make, caller, 3) == [(one, 1, 1) for one in ids]


CLOSED_UNDER_IT = """
import asyncio, sys, threading
from redis_toolkit import App

app = App(sys.argv[1], grace=0.05, block=0.2)
running = asyncio.Event()

@app.on("news", group="g")
async def work(data):
    running.set()
    await asyncio.Event().wait()

async def begin():
    await app.astart()
    await app.apublish("news", 1)
    await running.wait()

loop = asyncio.new_event_loop()
loop.run_until_complete(begin())
tasks = asyncio.all_tasks(loop)
loop.close()
app.stop()
assert [one.name for one in threading.enumerate() if one.name.startswith("rt-")] == []
print("stopped", flush=True)
for task in tasks:
    task._log_destroy_pending = False  # that is what closing a loop like this does
"""


def test_a_loop_that_is_closed_under_its_jobs_is_survived(bus: Server, tmp_path: Path) -> None:
    program = Process(directory=tmp_path, source=CLOSED_UNDER_IT, args=[bus.url])
    try:
        program.start()
        assert program.wait(60) == 0, program.output
        assert program.stdout == "stopped\n", program.output
        assert program.stderr.count("\n") == 1, program.output
        assert "stopped while handlers were still running" in program.stderr
    finally:
        program.close()
