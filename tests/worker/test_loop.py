"""The loop engine on a real server: how many run at once, who waits for whom, and how it stops."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from redis_toolkit import App, ConfigurationError, RemoteError, keys
from tests.core.awaiting import becomes
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.gates import Gate, Make, gated, holds

DEADLINE = 30.0


# -- how many at once --------------------------------------------------------------------------------


def test_a_hundred_slow_coroutines_run_at_once_and_not_one_more(
    make: Make, client: App, bus: Server, pool: ThreadPoolExecutor, gate: Gate
) -> None:
    gated(make, gate)
    asked = pool.submit(client.request_many, "slow", range(150), timeout=120, window=150)
    holds(gate, 100)
    eventually(lambda: bus.execute("LLEN", keys.requests("slow")) == 50, what="those that wait")
    gate.opened.set()
    assert asked.result(DEADLINE) == list(range(150))
    assert gate.most == 100


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_never_more_than_the_limit(make: Make, client: App, limit: int) -> None:
    app = make(coroutines=limit)
    running = most = 0

    @app.on("work")
    async def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return number

    app.start()
    assert client.request_many("work", range(500), timeout=60) == list(range(500))
    assert most == limit


def test_a_handler_with_its_own_concurrency_holds_nobody_back(
    make: Make, client: App, pool: ThreadPoolExecutor, gate: Gate
) -> None:
    app = make(coroutines=1)

    @app.on("slow", concurrency=2)
    async def slow() -> None:
        await gate.wait()

    @app.on("fast")
    async def fast() -> str:
        return "fast"

    app.start()
    asked = [pool.submit(client.request, "slow", timeout=60) for _ in range(3)]
    holds(gate, 2)
    assert client.request("fast", timeout=60) == "fast"
    gate.opened.set()
    assert [one.result(DEADLINE) for one in asked] == [None] * 3
    assert gate.most == 2


def test_a_def_and_an_async_def_handler_serve_in_one_process(
    make: Make, client: App, pool: ThreadPoolExecutor, gate: Gate
) -> None:
    app = make(concurrency=1, coroutines=1)
    app.on("thread")(lambda: threading.current_thread().name)

    @app.on("loop")
    async def loop() -> str:
        return threading.current_thread().name

    @app.on("slow", concurrency=1)
    async def slow() -> None:
        await gate.wait()

    app.start()
    asked = pool.submit(client.request, "slow", timeout=60)
    holds(gate, 1)
    assert client.request("loop", timeout=60) == "rt-loop"
    assert client.request("thread", timeout=60) != "rt-loop"
    gate.opened.set()
    asked.result(DEADLINE)


# -- calls inside handlers ---------------------------------------------------------------------------


@pytest.mark.parametrize("callers", [1, 10])
def test_handlers_ask_their_own_app(make: Make, client: App, callers: int) -> None:
    app = make(coroutines=20)

    @app.on("outer")
    async def outer(number: int) -> int:
        inner: int = await app.arequest("inner", number, timeout=60)
        return inner + int(await app.arequest("thread", 1, timeout=60))

    @app.on("inner")
    async def inner(number: int) -> int:
        return number

    app.on("thread")(lambda number: number)
    app.start()
    asked = client.request_many("outer", range(300), window=callers, timeout=60)
    assert asked == [number + 1 for number in range(300)]


@pytest.mark.parametrize("name", ["request", "publish", "health_check", "stop"])
def test_a_blocking_call_in_a_coroutine_names_its_twin(make: Make, client: App, name: str) -> None:
    app = make()

    @app.on("call")
    async def call() -> Any:
        arguments = () if name in ("health_check", "stop") else ("other", 1)
        with pytest.raises(ConfigurationError) as caught:
            getattr(app, name)(*arguments)
        return str(caught.value)

    app.start()
    assert f"await a{name}()" in client.request("call", timeout=60)


@pytest.mark.parametrize(
    "error", [SystemExit(3), asyncio.CancelledError("mine"), KeyboardInterrupt(), GeneratorExit()]
)
def test_whatever_a_coroutine_raises_is_its_callers_error(
    make: Make, client: App, error: BaseException
) -> None:
    app = make(coroutines=2)

    @app.on("fail")
    async def fail() -> None:
        await asyncio.sleep(0)
        raise error

    @app.on("echo")
    async def echo(data: Any) -> Any:
        return data

    app.start()
    for _ in range(5):
        with pytest.raises(RemoteError, match=type(error).__name__):
            client.request("fail", timeout=60)
    assert client.request_many("echo", range(20), timeout=60) == list(range(20))
    assert app.counters == {"failed": 5}


# -- live events -------------------------------------------------------------------------------------


def test_events_are_awaited_one_after_the_other(make: Make, client: App) -> None:
    app, got, running, most = make(), [], 0, 0

    @app.on("numbers")
    async def take(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        got.append(number)
        running -= 1

    app.start()
    client.publish_many("numbers", range(2000))
    eventually(lambda: len(got) == 2000, what="all events")
    assert got == list(range(2000))
    assert most == 1


def test_events_are_awaited_at_once_up_to_the_concurrency(make: Make, client: App, gate: Gate) -> None:
    app = make()

    @app.on("numbers", concurrency=3)
    async def take(number: int) -> None:
        await gate.wait()

    app.start()
    client.publish_many("numbers", range(10))
    holds(gate, 3)
    gate.opened.set()
    eventually(lambda: gate.inside == 0)
    assert gate.most == 3


def test_errors_of_event_handlers_end_nothing(make: Make, client: App) -> None:
    app, got = make(), []

    @app.on("numbers")
    async def take(number: int) -> None:
        for bad, error in enumerate((ValueError, SystemExit, asyncio.CancelledError, GeneratorExit)):
            if number == bad:
                raise error
        got.append(number)

    app.start()
    client.publish_many("numbers", range(6))
    eventually(lambda: got == [4, 5], what="the events behind the errors")
    assert app.counters == {"failed": 4}


def test_a_flood_of_events_leaves_the_loop_to_others(make: Make, client: App) -> None:
    app = make()
    seen: list[int] = []
    turns: list[int] = []

    @app.on("numbers")
    async def take(number: int) -> None:
        if number == 0:
            asyncio.get_running_loop().call_soon(lambda: turns.append(len(seen)))
            await becomes(stuffed.is_set)
            asyncio.get_running_loop().call_soon(lambda: turns.append(len(seen)))
        seen.append(number)  # never waits: nobody else would run until the lane is empty

    stuffed = threading.Event()
    app.start()
    client.publish_many("numbers", range(5000))
    [lane] = app._service._node._lanes  # type: ignore[union-attr]
    eventually(lambda: len(lane._items) > 4500, what="a full lane")
    stuffed.set()
    eventually(lambda: len(seen) == 5000 and len(turns) == 2, what="all events")
    assert turns[1] < 1000
