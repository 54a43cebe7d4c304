"""An ``async def`` handler may stop the app that calls it: it is not waited for, and still answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from redis_toolkit import App
from tests.core.awaiting import becomes, connections, named
from tests.e2e.conftest import MakeApp
from tests.kit.servers import Server
from tests.kit.waiting import eventually

GRACE = 600.0
"""Seconds: a stop that waited for its own handler would run into the test's deadline."""
Stop = Callable[[App], Coroutine[Any, Any, Any]]


async def in_a_child(app: App) -> None:
    await asyncio.create_task(app.astop())


WAYS: dict[str, Stop] = {
    "astop": lambda app: app.astop(),
    "child": in_a_child,
    "thread": lambda app: asyncio.to_thread(app.stop),
}


def nothing_is_left(server: Server) -> None:
    eventually(
        lambda: not [one.name for one in threading.enumerate() if one.name.startswith("rt-")],
        what="end of the threads",
    )
    eventually(lambda: not connections(server), what="end of the connections")


@pytest.fixture
def client(own_server: Server, make_app: MakeApp) -> App:
    """An app that only talks."""
    return make_app(own_server.url)


@pytest.mark.parametrize("way", WAYS)
def test_a_request_handler_stops_its_app_with_a_loop_of_its_own(
    own_server: Server, make_app: MakeApp, client: App, way: str
) -> None:
    app, others = make_app(named(own_server.url), grace=GRACE), list[int]()

    @app.on("other")
    async def other() -> None:
        await becomes(lambda: others)

    @app.on("bye")
    async def bye() -> str:
        others.append(1)
        await WAYS[way](app)
        app.stop()  # another time changes nothing
        await asyncio.sleep(0.01)
        return "stopped"

    app.start()
    assert client.request("bye", timeout=30) == "stopped"
    assert client.publish("bye", 1) == 0
    nothing_is_left(own_server)


@pytest.mark.parametrize("way", WAYS)
def test_a_request_handler_stops_its_app_on_the_loop_of_the_program(
    own_server: Server, make_app: MakeApp, client: App, way: str
) -> None:
    app = make_app(named(own_server.url), grace=GRACE)
    asked = threading.Event()

    @app.on("bye")
    async def bye() -> str:
        await WAYS[way](app)
        asked.set()
        await asyncio.sleep(0.01)
        return "stopped"

    async def main() -> str:
        async with app:
            answer = asyncio.create_task(asyncio.to_thread(client.request, "bye", timeout=30))
            await becomes(asked.is_set)
        assert answer.done() or await asyncio.wait_for(answer, 30)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return str(await answer)

    assert asyncio.run(main()) == "stopped"
    nothing_is_left(own_server)


@pytest.mark.parametrize("way", WAYS)
def test_a_handler_of_live_events_stops_its_app(
    own_server: Server, make_app: MakeApp, client: App, way: str
) -> None:
    app, heard = make_app(named(own_server.url), grace=GRACE), list[int]()
    gate = threading.Event()

    @app.on("stop")
    async def handle(data: int) -> None:
        heard.append(data)
        if data == 1:
            await becomes(gate.is_set)
            await WAYS[way](app)

    app.start()
    client.publish_many("stop", [1, 2, 3])
    gate.set()
    nothing_is_left(own_server)
    assert heard == [1, 2, 3]


def test_two_handlers_stop_it_while_a_third_runs(own_server: Server, make_app: MakeApp, client: App) -> None:
    app, inside = make_app(named(own_server.url), grace=GRACE), list[str]()

    @app.on("bye")
    async def bye() -> str:
        inside.append("bye")
        await becomes(lambda: len(inside) == 3)
        await app.astop()
        inside.append("stopped")
        return "stopped"

    @app.on("third")
    async def third() -> str:
        inside.append("third")
        await becomes(lambda: "stopped" in inside)  # the second that stops it does not wait
        return "third"

    app.start()
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(client.request, name, timeout=30) for name in ("bye", "bye", "third")]
        assert [one.result(30) for one in asked] == ["stopped", "stopped", "third"]
    nothing_is_left(own_server)


def test_a_handler_that_goes_on_beyond_the_grace_is_cancelled(
    own_server: Server, make_app: MakeApp, client: App
) -> None:
    app = make_app(named(own_server.url), grace=0.1)

    @app.on("bye")
    async def bye() -> None:
        await app.astop()
        await asyncio.Event().wait()

    app.start()
    with pytest.raises(Exception, match="CancelledError"):
        client.request("bye", timeout=30)
    nothing_is_left(own_server)


def test_a_task_that_a_handler_left_behind_stops_the_app(
    own_server: Server, make_app: MakeApp, client: App
) -> None:
    app, tasks = make_app(named(own_server.url), grace=GRACE), list[asyncio.Task[None]]()
    answered = threading.Event()

    async def later() -> None:
        await becomes(answered.is_set)
        await app.astop()

    @app.on("bye")
    async def bye() -> str:
        tasks.append(asyncio.create_task(later()))
        return "soon"

    app.start()
    assert client.request("bye", timeout=30) == "soon"
    answered.set()
    nothing_is_left(own_server)
    assert not tasks[0].cancelled()


def test_a_thread_handler_stops_an_app_on_the_loop_of_the_program(
    own_server: Server, make_app: MakeApp, client: App
) -> None:
    app = make_app(named(own_server.url), grace=GRACE)

    @app.on("bye")
    def bye() -> str:
        app.stop()
        return "stopped"

    async def main() -> str:
        async with app:
            return str(await asyncio.to_thread(client.request, "bye", timeout=30))

    assert asyncio.run(main()) == "stopped"
    nothing_is_left(own_server)
