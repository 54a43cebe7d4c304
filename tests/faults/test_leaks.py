"""Ten thousand of everything: connections, threads, open files and keys are afterwards what they were."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from redis_toolkit import App, NoResponders, RedisToolkit, RequestTimeout, keys
from redis_toolkit.errors import ServerUnreachable
from tests.core.awaiting import awaiting, connections, named, nothing_waits
from tests.core.callers import listens, serving
from tests.e2e.conftest import check_keys
from tests.faults.conftest import all_is_tidy, clients
from tests.kit.faults import Tier
from tests.kit.servers import Server
from tests.kit.waiting import eventually


def open_files() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def all_keys(server: Server) -> set[str]:
    return set(server.execute("KEYS", "*"))


async def echo_later(data: Any) -> Any:
    return data


@pytest.mark.fault(20, "requests")
@pytest.mark.parametrize("handlers", ["def", "async def"])
def test_ten_thousand_of_each_call_leave_nothing(own_server: Server, tier: Tier, handlers: str) -> None:
    many = tier(1000, 10_000)

    def called(app: App) -> None:
        for number in range(many):
            assert app.request("echo", number, timeout=60) == number
            app.publish("echo", number)
        assert app.request_many("echo", range(many), timeout=60) == list(range(many))
        app.publish_many("echo", range(many))

    async def awaited(app: App) -> None:
        for start in range(0, many, 100):
            numbers = range(start, start + 100)
            asked = [app.arequest("echo", number, timeout=60) for number in numbers]
            assert await asyncio.gather(*asked) == list(numbers)
            await asyncio.gather(*(app.apublish("echo", number) for number in numbers))
        assert await app.arequest_many("echo", range(many), timeout=60) == list(range(many))
        await app.apublish_many("echo", range(many))
        nothing_waits(app)

    echo = (lambda data: data) if handlers == "def" else echo_later
    with all_is_tidy(own_server), serving(own_server.url, echo=echo):
        app = App(own_server.url)
        assert app.request("echo", 1, timeout=60) == 1
        eventually(lambda: all_keys(own_server) == {"rt:c:{echo}:servers"}, what="nothing but the registry")
        files, threads = open_files(), threading.active_count()
        called(app)
        awaiting(own_server.url, awaited)
        eventually(lambda: all_keys(own_server) == {"rt:c:{echo}:servers"}, what="nothing but the registry")
        # A thread that serves connects when it first claims, the app to hand over the work of a stuck one.
        spare = app.settings.concurrency + 1
        eventually(lambda: open_files() <= files + spare, what=f"no more than {files} open files")
        eventually(lambda: threading.active_count() <= threads + 8, what="end of the threads")
        app.stop()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("rt-")]


@pytest.mark.fault(4, "events", "requests")
def test_many_starts_and_stops_leave_nothing(own_server: Server, quickly: dict[str, Any], tier: Tier) -> None:
    app = App(own_server.url, **quickly)
    app.on("echo")(lambda data: data)
    app.on("later")(echo_later)

    def once() -> None:
        with app:
            assert app.request("echo", 1, timeout=60) == app.request("later", 1, timeout=60) == 1

    with all_is_tidy(own_server):
        once()
        files, threads = open_files(), threading.active_count()
        for _ in range(tier(20, 1000)):
            once()
        assert open_files() <= files
        eventually(lambda: threading.active_count() <= threads, what="end of the threads")


@contextmanager
def the_same_is_open(server: Server) -> Iterator[None]:
    """Connections, threads, open files and keys that live for ever are afterwards what they were before."""
    before = clients(server), threading.active_count(), open_files()
    yield

    def now() -> tuple[int, int, int]:
        return clients(server), threading.active_count(), open_files()

    eventually(
        lambda: all(after <= first for after, first in zip(now(), before, strict=True)),
        what=f"(connections, threads, files) {before}, now {now()}",
    )
    check_keys(server)


CALLERS = 16
"""Threads that call at the same time."""
LATE = (RequestTimeout, ServerUnreachable)
"""How a call ends whose time is up: it was sent, or there was no time to connect."""


def timeouts(app: App, many: int) -> None:
    outcomes = app.request_many("deaf", range(many), timeout=0.01, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= set(LATE)

    def one_by_one(numbers: range) -> Counter[str]:
        ended: Counter[str] = Counter()
        for number in numbers:
            try:
                ended[app.request("deaf", number, timeout=0.01)] += 1
            except LATE as error:
                ended[type(error).__name__] += 1
        return ended

    with ThreadPoolExecutor(CALLERS) as pool:
        ended = sum(
            pool.map(one_by_one, [range(start, many, CALLERS) for start in range(CALLERS)]), Counter()
        )
    assert ended.total() == many
    assert set(ended) <= {kind.__name__ for kind in LATE}
    app.stop()  # how many of the callers' connections are kept depends on how many called at once


def refused(app: App, many: int) -> None:
    for number in range(many // 2):
        with pytest.raises(NoResponders):
            app.request("nobody", number, timeout=60)
    outcomes = app.request_many("nobody", range(many // 2), timeout=60, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {NoResponders}


def awaited(call: Callable[[App, int], Coroutine[Any, Any, Any]]) -> Callable[[App, int], None]:
    """Return what makes as many such calls on a loop of its own, a hundred at a time."""

    async def program(app: App, many: int) -> None:
        await app.apublish("nobody", "connects")  # which may take longer than these calls have
        for start in range(0, many, 100):
            await asyncio.gather(*(call(app, start + number) for number in range(100)))
        nothing_waits(app)
        await app.astop()

    return lambda app, many: asyncio.run(program(app, many))


async def timeout_later(app: App, number: int) -> None:
    with pytest.raises(LATE):
        await app.arequest("deaf", number, timeout=0.01)


async def refused_later(app: App, number: int) -> None:
    with pytest.raises(NoResponders):
        await app.arequest("nobody", number, timeout=60)


async def cancelled(app: App, number: int) -> None:
    call = asyncio.create_task(app.arequest("deaf", number, timeout=60))
    for _ in range(number % 8):
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


KINDS: dict[str, Callable[[App, int], None]] = {
    "timeouts": timeouts,
    "refused": refused,
    "timeouts awaited": awaited(timeout_later),
    "refused awaited": awaited(refused_later),
    "cancelled": awaited(cancelled),
}


@pytest.mark.fault(20, "requests")
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_calls_that_end_otherwise_leave_nothing(
    own_server: Server, tier: Tier, kind: str
) -> None:
    listens(own_server, "deaf")
    own_server.execute("PEXPIRE", keys.servers("deaf"), 3_600_000)
    own_server.execute("CONFIG", "SET", "hz", 500)  # else a pop that nobody answers ends at the next 100 ms
    app = App(own_server.url)
    try:
        KINDS[kind](app, 100)
        with the_same_is_open(own_server):
            KINDS[kind](app, tier(1000, 10_000))
        # What nobody has claimed is left, and will expire.
        assert all_keys(own_server) <= {keys.servers("deaf"), keys.requests("deaf")}
    finally:
        app.stop()


@pytest.mark.fault(20, "events")
def test_a_thousand_subscriptions_leave_nothing(own_server: Server, tier: Tier) -> None:
    heard: list[Any] = []

    def subscribe(number: int) -> None:
        with RedisToolkit(["news", "new?"], lambda _, data: heard.append(data), url=own_server.url):
            assert publisher.publish("news", number) == 2
            eventually(lambda: heard and heard[-1] == number, what="the event")

    publisher = App(own_server.url)
    subscribe(-1)
    many = tier(50, 1000)
    with the_same_is_open(own_server):
        for number in range(many):
            subscribe(number)
    assert heard == list(range(-1, many))
    publisher.stop()


@pytest.mark.fault(14, "events", "requests")
@pytest.mark.parametrize("calls", ["called", "awaited"])
def test_a_thousand_lost_connections_leave_nothing(
    own_server: Server, quickly: dict[str, Any], tier: Tier, calls: str
) -> None:
    app = App(named(own_server.url), **quickly)

    async def ask_later(many: int) -> None:
        for number in range(many):
            await app.apublish("news", number)
            for found in connections(own_server):
                own_server.execute("CLIENT", "KILL", "ID", found)
            with suppress(ServerUnreachable):  # it may not have noticed yet
                await app.apublish("news", number)
        await app.astop()

    def ask(many: int) -> None:
        for number in range(many):
            app.publish("news", number)
            for found in connections(own_server):
                own_server.execute("CLIENT", "KILL", "ID", found)
            app.publish("news", number)

    def lose(many: int) -> None:
        if calls == "called":
            ask(many)
        else:
            asyncio.run(ask_later(many))

    lose(3)
    with the_same_is_open(own_server):
        lose(tier(100, 1000))
    app.stop()
    eventually(lambda: not connections(own_server), what="end of the connections")
