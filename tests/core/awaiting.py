"""Apps whose calls are awaited, in a loop of their own, and a look at what a driver has open there."""

from __future__ import annotations

import asyncio
import select
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


async def connected(app: App) -> None:
    """Have both connections opened."""
    await app._async_driver._connected(time.monotonic() + 60, inbox=True)


def wait_readable(link: Any) -> None:
    """Stand still, as a handler that blocks its loop does, until a reply lies in a link's socket."""
    sock = link._transport.get_extra_info("socket")
    assert select.select([sock], [], [], 30)[0]


def nothing_waits(app: App) -> None:
    """Assert that no caller of the running loop is left, but who asks."""
    assert hub_of(app)._waiting == {}
    assert asyncio.all_tasks() == {asyncio.current_task()}


def connections(server: Server, name: str = "asker") -> dict[int, str]:
    """Return the connections of the apps with this name in their URL: the last command of each, by its id."""
    lines = server.execute("CLIENT", "LIST").splitlines()
    found = [dict(word.partition("=")[::2] for word in line.split()) for line in lines]
    return {int(one["id"]): one["cmd"] for one in found if one["name"] == name}


def named(url: str, name: str = "asker") -> str:
    """Return a URL whose connections can be told from others."""
    return f"{url}?client_name={name}"


def kill_connection(server: Server, commands: str, name: str = "asker") -> None:
    """Cut those connections of an app whose last command is one of these words."""
    found = [number for number, last in connections(server, name).items() if last in commands.split()]
    assert found, f"no {commands} in {connections(server, name)}"
    for number in found:
        server.execute("CLIENT", "KILL", "ID", number)
