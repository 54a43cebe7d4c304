"""Apps whose calls are awaited, in a loop of their own, and a look at what a driver has open there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis_toolkit import App
from tests.kit.servers import Server

T = TypeVar("T")


def awaiting(url: str, main: Callable[[App], Awaitable[T]], **options: Any) -> T:
    """Run a coroutine function with an app, as a program would; then the app is closed."""
    app = App(url, **options)

    async def program() -> T:
        try:
            return await main(app)
        finally:
            await app.astop()

    return asyncio.run(program())


async def becomes(condition: Callable[[], Any], what: str = "the condition", timeout: float = 30.0) -> Any:
    """Await until the condition is true; as `eventually`."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout:g} s"
        await asyncio.sleep(0.01)
    return value


def hub_of(app: App) -> Any:
    """Return what the app has open on the running loop."""
    return app._async_driver._hubs[asyncio.get_running_loop()]


def nothing_waits(app: App) -> None:
    """Assert that no caller of the running loop is left, but who asks."""
    assert hub_of(app)._waiting == {}
    assert asyncio.all_tasks() == {asyncio.current_task()}


def clients(server: Server) -> dict[int, str]:
    """Return the connections of a server but the one that asks: the last command of each, by its id."""
    lines = [dict(word.partition("=")[::2] for word in line.split()) for line in server.execute("CLIENT", "LIST").splitlines()]
    return {int(one["id"]): one["cmd"] for one in lines if one["cmd"] not in ("client", "client|list")}


def kill_client(server: Server, *commands: str) -> None:
    """Cut the connections whose last command is one of these."""
    found = [number for number, command in clients(server).items() if command in commands]
    assert found, f"none of {commands} in {clients(server)}"
    for number in found:
        server.execute("CLIENT", "KILL", "ID", number)
