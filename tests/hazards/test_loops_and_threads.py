"""One app on several loops and in several threads, several apps in one process, and what they leave open."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import pytest

from redis_toolkit import App
from tests.core.awaiting import connections, named
from tests.kit.servers import Server
from tests.kit.threads import in_threads
from tests.kit.waiting import eventually

DEADLINE = 60.0


@pytest.fixture
def answers(bus: Server) -> Iterator[None]:
    """Somebody who answers what is asked of "double"."""
    app = App(bus.url)
    app.on("double")(lambda number: 2 * number)
    with app:
        yield


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def doubles(app: App, first: int, count: int) -> None:
    numbers = range(first, first + count)
    results = await asyncio.gather(*[app.arequest("double", n, timeout=DEADLINE) for n in numbers])
    assert results == [2 * number for number in numbers]


def test_what_a_loop_has_open_is_closed_when_the_loop_ends(bus: Server, answers: None) -> None:
    app = App(named(bus.url))
    with no_garbage_collection():
        for number in range(10):
            asyncio.run(doubles(app, number, 3))
            assert connections(bus) == {}


def test_a_loop_goes_on_after_its_generators_were_shut_down(bus: Server, answers: None) -> None:
    app = App(named(bus.url))

    async def main() -> None:
        await doubles(app, 1, 2)
        await asyncio.get_running_loop().shutdown_asyncgens()
        assert connections(bus) == {}

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    asyncio.run(doubles(app, 1, 2))
    assert connections(bus) == {}


def test_a_stop_and_the_end_of_the_loop_do_not_meet(bus: Server, answers: None) -> None:
    app = App(named(bus.url))

    async def main() -> None:
        for _ in range(3):
            await doubles(app, 1, 2)
            await app.astop()
            assert connections(bus) == {}
        await doubles(app, 1, 2)

    asyncio.run(main())
    assert connections(bus) == {}


def test_a_thread_handler_may_run_a_loop_for_each_of_its_calls(bus: Server, answers: None) -> None:
    app = App(named(bus.url), block=0.2)

    @app.on("relay", events=False)
    def relay(number: int) -> Any:
        return asyncio.run(app.arequest("double", number, timeout=DEADLINE))

    with no_garbage_collection(), app:
        assert app.request_many("relay", range(30), timeout=DEADLINE) == [2 * n for n in range(30)]
        open_while_serving = len(connections(bus))
        assert app.request_many("relay", range(30), timeout=DEADLINE) == [2 * n for n in range(30)]
        assert len(connections(bus)) == open_while_serving
    eventually(lambda: connections(bus) == {}, what="end of its connections")


def test_one_app_is_served_on_one_loop_after_another(bus: Server) -> None:
    app = App(named(bus.url), block=0.2)

    @app.on("loop", events=False)
    async def loop_id() -> int:
        return id(asyncio.get_running_loop())

    @app.on("thread", events=False)
    def thread_id() -> int:
        return threading.get_ident()

    async def main() -> None:
        async with app:
            assert await app.arequest("loop", timeout=DEADLINE) == id(asyncio.get_running_loop())
            assert await app.arequest("thread", timeout=DEADLINE) != threading.get_ident()

    for _ in range(3):
        asyncio.run(main())
        assert connections(bus) == {}
        with app:
            app.request("loop", timeout=DEADLINE)
    assert connections(bus) == {}


def test_one_app_is_used_from_threads_and_loops_at_once(bus: Server, answers: None) -> None:
    app = App(named(bus.url))

    def call() -> None:
        for number in range(50):
            assert app.request("double", number, timeout=DEADLINE) == 2 * number

    def await_all(first: int) -> None:
        asyncio.run(doubles(app, first, 50))
        asyncio.run(doubles(app, first + 100, 50))

    in_threads(call, call, call, *[lambda first=first: await_all(first) for first in (0, 1000, 2000)])
    app.stop()
    assert connections(bus) == {}


def urls(bus: Server) -> dict[str, tuple[str, str]]:
    plain = bus.url.removesuffix("/0")
    return {
        "one URL": (f"{plain}/0", f"{plain}/0"),
        "two URLs of one server": (f"{plain}/0", f"{plain}/0?client_name=other"),
        "two databases": (f"{plain}/0", f"{plain}/1"),
    }


@pytest.mark.parametrize("kind", ["one URL", "two URLs of one server", "two databases"])
def test_two_apps_of_one_process_serve(bus: Server, kind: str) -> None:
    first, second = (App(url, block=0.2) for url in urls(bus)[kind])
    heard: list[str] = []
    for name, app in (("first", first), ("second", second)):
        app.on(name, events=False)(returning(name))
        app.on(f"a-{name}", events=False)(coroutine_returning(name))
        app.on("both", requests=False)(lambda data, name=name: heard.append(f"{name} {data}"))
    with ExitStack() as stack:
        stack.enter_context(first)
        stack.enter_context(second)
        for name, app in (("first", first), ("second", second)):
            assert app.request(name, timeout=DEADLINE) == name
            assert asyncio.run(app.arequest(f"a-{name}", timeout=DEADLINE)) == name
        if kind != "two databases":  # which share what is published, and not what is asked
            assert second.request("first", timeout=DEADLINE) == "first"
        assert first.publish("both", 1) == 2
        eventually(lambda: sorted(heard) == ["first 1", "second 1"], what=f"both messages in {heard}")
        first.stop()
        assert second.request("second", timeout=DEADLINE) == "second"  # whose pool the other has closed
        assert second.publish("both", 2) == 1


def returning(value: str) -> Any:
    def handler() -> str:
        return value

    return handler


def coroutine_returning(value: str) -> Any:
    async def handler() -> str:
        return value

    return handler


def test_two_apps_are_served_on_one_loop(bus: Server) -> None:
    first, second = App(bus.url, block=0.2), App(bus.url, block=0.2)
    first.on("first", events=False)(coroutine_returning("first"))
    second.on("second", events=False)(coroutine_returning("second"))

    async def main() -> None:
        async with first:
            async with second:
                assert await first.arequest("second", timeout=DEADLINE) == "second"
                assert await second.arequest("first", timeout=DEADLINE) == "first"
            assert await second.arequest("first", timeout=DEADLINE) == "first"

    asyncio.run(main())


# -- contexts -----------------------------------------------------------------------------------------

user: ContextVar[str] = ContextVar("user", default="nobody")


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_what_a_handler_sets_in_a_context_variable_ends_with_the_message(bus: Server, kind: str) -> None:
    app = App(bus.url, block=0.2, concurrency=1)
    seen: list[tuple[str, str]] = []

    def note(name: str) -> str:
        before = user.get()
        user.set(name)
        return before

    def handle(name: str) -> str:
        before = note(name)
        seen.append((before, user.get()))
        return before

    async def handle_async(name: str) -> str:
        before = note(name)
        await asyncio.sleep(0)
        await asyncio.create_task(asyncio.sleep(0))
        seen.append((before, user.get()))
        return before

    app.on("hello")(handle if kind == "def" else handle_async)
    names = ["ada", "bob", "cid"]
    with app:
        app.publish_many("hello", names)
        eventually(lambda: len(seen) == 3, what=f"three messages in {seen}")
        assert seen == [("nobody", name) for name in names]
        assert app.request_many("hello", names, timeout=DEADLINE) == ["nobody"] * 3


def test_a_coroutine_has_its_own_context_also_when_something_is_thrown_into_it(bus: Server) -> None:
    app = App(bus.url, block=0.2)
    seen: list[str] = []

    @app.on("hello", requests=False)
    async def handle(name: str) -> None:
        user.set(name)
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append(user.get())

    with app:
        app.publish_many("hello", ["ada", "bob"])
        eventually(lambda: seen == ["ada", "bob"], what=f"two names in {seen}")
