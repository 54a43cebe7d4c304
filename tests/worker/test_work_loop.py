"""The engine of durable work on the loop, on a real server: what is run, how many at once, in which order."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextvars import ContextVar

import pytest

from redis_toolkit import App, current_task
from redis_toolkit.jobs import Backoff, Policy
from redis_toolkit.worker.job_threads import QUICK_SECONDS
from redis_toolkit.worker.performing import Performer
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.gates import Gate, Make, holds
from tests.worker.work import Caller, serve_queue


@pytest.fixture(autouse=True)
def quick_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redis_toolkit.worker.work_loop.CANCELLED_SECONDS", 0.05)


@pytest.fixture
def caller(client: App) -> Caller:
    return Caller(client)


# -- what is run -------------------------------------------------------------------------------------


def test_each_of_ten_thousand_runs_once_and_has_its_result(make: Make, caller: Caller) -> None:
    app, ran = make(), Counter[int]()

    async def count(number: int) -> int:
        ran[number] += 1
        if number % 3 == 0:
            await asyncio.sleep(0)
        return number * 2

    serve_queue(app, count=count)
    ids = caller.submit("count", range(10_000))
    app.start()
    caller.ended(10_000)
    assert ran == Counter(range(10_000))
    for number in (0, 1, 4999, 9999):
        record = caller.record(ids[number])
        assert record.state == "done"
        assert record.reply is not None
        assert b'"data":%d' % (number * 2) in record.reply.replace(b" ", b"")
    stats = caller.stats()
    assert (stats.running, stats.later, stats.dead, stats.ready) == (0, 0, 0, {"high": 0, "low": 0})


def test_tasks_that_come_while_the_worker_is_idle_begin_at_once(make: Make, caller: Caller) -> None:
    app = make()

    async def echo(data: int) -> int:
        return data

    serve_queue(app, echo=echo)
    app.start()
    for number in range(20):
        caller.submit("echo", [number], first=number)
        caller.ended(number + 1)


def test_events_of_a_group_are_settled_and_kept_in_the_log(make: Make, client: App, bus: Server) -> None:
    app, heard = make(), list[int]()

    @app.on("news", group="g", concurrency=1)
    async def hear(number: int) -> None:
        heard.append(number)

    app.start()
    client.publish_many("news", range(500))
    eventually(lambda: len(heard) == 500, what="all events")
    assert heard == list(range(500))
    eventually(
        lambda: not bus.execute("XPENDING", "rt:c:{news}:stream", "g")["pending"], what="the settlements"
    )


def test_a_group_with_one_place_claims_quick_events_ahead_and_runs_one_after_another(
    make: Make, client: App, bus: Server, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Performer, "price", lambda _performer: 0.0002)
    app, heard = make(), list[int]()

    @app.on("news", group="g", concurrency=1)
    async def hear(number: int) -> None:
        heard.append(number)
        if number in (100, 101):
            await gate.wait()

    app.start()
    client.publish_many("news", range(300))
    holds(gate, 1)
    held = int(QUICK_SECONDS / 0.0002)
    eventually(
        lambda: bus.execute("XPENDING", "rt:c:{news}:stream", "g")["pending"] == held, what="claims ahead"
    )
    assert heard == list(range(101))
    gate.opened.set()
    eventually(lambda: len(heard) == 300, what="all events")
    assert (heard, gate.most) == (list(range(300)), 1)


def test_def_and_async_def_jobs_of_one_queue(make: Make, caller: Caller) -> None:
    app = make(concurrency=2)
    threads: set[str] = set()
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    seen: list[str] = []

    def blocking(number: int) -> int:
        seen.append(variable.get())
        variable.set("blocking")
        threads.add(threading.current_thread().name)
        return number

    async def awaited(number: int) -> int:
        seen.append(variable.get())
        variable.set("awaited")
        await asyncio.sleep(0)
        assert variable.get() == "awaited"
        threads.add(threading.current_thread().name)
        return number

    serve_queue(app, blocking=blocking, awaited=awaited)
    caller.submit("blocking", range(300))
    caller.submit("awaited", range(300))
    app.start()
    caller.ended(600)
    assert threads == {"rt-job", "rt-loop"}
    assert set(seen) == {"unset"}


def test_the_running_task_is_known_inside(make: Make, caller: Caller) -> None:
    app, seen = make(), dict[str, tuple[str, bool]]()

    async def ask(data: int) -> None:
        before = asyncio.current_task()
        if data % 2:
            await asyncio.sleep(0)
        seen[current_task().id] = (current_task().type, asyncio.current_task() is before is not None)
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            inner = group.create_task(asyncio.sleep(0))
        assert inner.done()

    serve_queue(app, ask=ask)
    ids = caller.submit("ask", range(10))
    app.start()
    caller.ended(10)
    assert seen == dict.fromkeys(ids, ("ask", True))


# -- how many at once --------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
def test_as_many_as_there_are_places_run_at_once_and_the_rest_stays_in_the_queue(
    make: Make, caller: Caller, gate: Gate, limit: int
) -> None:
    app = make(coroutines=limit)
    serve_queue(app, wait=_waiting(gate))
    caller.submit("wait", range(limit + 20))
    app.start()
    holds(gate, limit)
    assert caller.stats().ready["low"] == 20
    gate.opened.set()
    caller.ended(limit + 20)
    assert gate.most == limit


def test_no_more_threads_than_the_setting_and_nothing_waits_for_one(
    make: Make, caller: Caller, gate: Gate
) -> None:
    app = make(concurrency=3)
    opened, inside = threading.Event(), list[int]()

    def block(number: int) -> None:
        inside.append(number)
        opened.wait(60)

    async def idle() -> None: ...

    serve_queue(app, block=block, idle=idle)
    caller.submit("block", range(20))
    app.start()
    eventually(lambda: len(inside) == 3, what="three threads")
    assert caller.stats().ready["low"] >= 20 - 3 - 3
    opened.set()
    caller.ended(20)


@pytest.mark.parametrize("at_once", [True, False])
def test_what_waits_behind_a_thread_that_was_thought_to_be_quick_is_run_by_others(
    make: Make, caller: Caller, at_once: bool
) -> None:
    app, opened = make(concurrency=2, block=0.2), threading.Event()

    def work(data: str) -> None:
        if data == "block":
            opened.wait(60)

    async def idle() -> None: ...

    serve_queue(app, work=work, idle=idle)
    app.start()
    caller.submit("work", ["quick"] * 300)
    caller.ended(300)
    if at_once:
        caller.pause()
    caller.submit("work", [*["quick"] * 5, "block", *["quick"] * 40], first=300)
    if at_once:
        caller.resume()  # so that they are claimed together
    caller.ended(345)
    opened.set()
    caller.ended(346)


def test_a_higher_priority_goes_before_what_is_not_claimed_yet(
    make: Make, caller: Caller, gate: Gate
) -> None:
    app, order = make(coroutines=2), list[str]()

    async def work(data: str) -> None:
        order.append(data)
        await gate.wait()

    serve_queue(app, work=work)
    caller.submit("work", ["low"] * 10)
    app.start()
    holds(gate, 2)
    caller.submit("work", ["high"] * 4, "high", first=100)
    gate.opened.set()
    caller.ended(14)
    assert order[2:6] == ["high"] * 4


def test_a_coroutine_that_never_waits_leaves_the_loop_to_others(make: Make, caller: Caller) -> None:
    app, turns = make(), list[float]()

    async def work(number: int) -> None:
        time.sleep(0.001)  # noqa: ASYNC251

    async def tick() -> None:
        while caller_waits:
            turns.append(time.monotonic())
            await asyncio.sleep(0)

    caller_waits = True
    serve_queue(app, work=work, tick=tick)
    caller.submit("tick", [None], "high")
    caller.submit("work", range(500))
    app.start()
    caller.ended(500)
    caller_waits = False
    assert len(turns) > 100


def test_an_error_is_a_dead_letter_and_the_others_go_on(make: Make, caller: Caller) -> None:
    app = make()

    async def odd(number: int) -> None:
        if number % 2:
            raise ValueError(number)

    serve_queue(app, odd=odd)
    caller.submit("odd", range(100))
    app.start()
    caller.ended(50)
    caller.ended(50, "dead")
    assert set(caller.letters().values()) == {"failed"}


def test_a_failure_is_tried_again(make: Make, caller: Caller) -> None:
    app, attempts = make(), Counter[int]()

    async def flaky(number: int) -> None:
        attempts[number] += 1
        await asyncio.sleep(0)
        if attempts[number] < 3:
            raise ConnectionError("once more")

    serve_queue(app, Policy(retries=2, backoff=Backoff(first=0.01)), flaky=flaky)
    caller.submit("flaky", range(50))
    app.start()
    caller.ended(50)
    assert attempts == Counter(dict.fromkeys(range(50), 3))


# -- being cancelled ---------------------------------------------------------------------------------


def test_a_running_task_that_is_cancelled_ends_as_that(make: Make, caller: Caller, gate: Gate) -> None:
    app = make()
    serve_queue(app, wait=_waiting(gate))
    ids = caller.submit("wait", range(3))
    app.start()
    holds(gate, 3)
    assert caller.cancel(ids[1]) == "asked"
    caller.ended(1, "cancelled")
    assert gate.cancelled == 1
    gate.opened.set()
    caller.ended(2)
    assert caller.record(ids[1]).state == "cancelled"


def test_a_task_may_take_no_longer_than_its_timeout(make: Make, caller: Caller, gate: Gate) -> None:
    app = make(concurrency=1)
    opened = threading.Event()

    def hang() -> None:
        opened.wait(60)

    def quick() -> None: ...

    serve_queue(app, Policy(timeout=0.05), wait=_waiting(gate), hang=hang, quick=quick)
    caller.submit("wait", range(5))
    caller.submit("hang", [None])
    app.start()
    caller.ended(6, "dead")
    assert set(caller.letters().values()) == {"timeout"}
    assert gate.cancelled == 5
    assert app.counters["abandoned"] == 1
    node = app._service._node
    assert node is not None
    assert node.wants_recycling
    caller.submit("quick", range(5))
    caller.ended(5)
    opened.set()
    eventually(lambda: not node.wants_recycling, what="the end of the abandoned thread")


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_an_id_that_was_cancelled_may_be_used_again(make: Make, caller: Caller, kind: str) -> None:
    """At once; but a word of the cancellation may still be on its way, for half a second."""
    app, begun = make(), threading.Event()

    def work(number: int) -> int:
        begun.set()
        eventually(lambda: number or current_task().cancelled)
        return number

    async def work_later(number: int) -> int:
        begun.set()
        await asyncio.sleep(0 if number else 600)
        return number

    serve_queue(app, work=work if kind == "def" else work_later)
    app.start()
    [name] = caller.submit("work", [0])
    assert begun.wait(30)
    assert caller.cancel(name) == "asked"
    caller.ended(1, "cancelled")
    eventually(lambda: not app._service._node._durable.consumers[0].holdings, what="that it is known")  # type: ignore[union-attr]
    until, counted, times = time.monotonic() + 30, caller.stats().counters, 1
    while not counted.get("done") and time.monotonic() < until:
        caller.submit("work", [1])
        times += 1
        eventually(lambda times=times: sum(caller.stats().counters.values()) == times)  # type: ignore[misc]
        counted = caller.stats().counters
    assert caller.record(name).state == "done"


@pytest.mark.parametrize("waits", [True, False])
def test_a_task_that_cancels_itself_has_failed_and_the_others_go_on(
    make: Make, caller: Caller, waits: bool
) -> None:
    app = make(coroutines=3)

    async def cancel(number: int) -> None:
        if number % 10 == 1:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        if waits:
            await asyncio.sleep(0)

    serve_queue(app, cancel=cancel)
    caller.submit("cancel", range(100))
    app.start()
    if waits:
        caller.ended(90)
        caller.ended(10, "dead")
        assert set(caller.letters().values()) == {"failed"}
    else:
        caller.ended(100)


def test_a_task_that_cancels_all_tasks_of_its_loop_stops_nothing(make: Make, caller: Caller) -> None:
    app = make(coroutines=5)

    async def cancel_all() -> None:
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()

    async def echo(data: int) -> int:
        await asyncio.sleep(0)
        return data

    serve_queue(app, cancel_all=cancel_all, echo=echo)
    app.start()
    for number in range(5):
        caller.submit("cancel_all", [None], first=number)
        caller.submit("echo", [1] * 10, first=10 * number)
    eventually(lambda: sum(caller.stats().counters.values()) == 55, what="the end of all")
    done = caller.stats().counters["done"]
    caller.submit("echo", [1] * 10, first=100)
    caller.ended(done + 10)


def _waiting(gate: Gate) -> Callable[[], Coroutine[None, None, None]]:
    async def wait() -> None:
        await gate.wait()

    return wait
