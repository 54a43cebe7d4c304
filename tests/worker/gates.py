"""What the tests of the loop engine share: coroutines that wait until a test lets them go."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from redis_toolkit import App, keys
from tests.core.awaiting import becomes
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.fakes import request_body

Make = Callable[..., App]
T = TypeVar("T")


class Gate:
    """Coroutines wait here until a test opens it; it counts those inside."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.inside = 0
        self.most = 0
        self.cancelled = 0

    async def wait(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await becomes(self.opened.is_set, "open gate", timeout=120)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.inside -= 1


def holds(gate: Gate, count: int) -> None:
    eventually(lambda: gate.inside == count, what=f"{count} handlers inside, not {gate.inside}")


def engine_of(app: App) -> Any:
    """Return the one loop engine of a started app."""
    node = app._service._node or app._service._stopped
    assert node is not None
    [engine] = node._engines
    return engine


def on_loop(app: App, call: Callable[[], T]) -> T:
    """Call a function on the loop of an app's handlers, from another thread."""

    async def calling() -> T:
        return call()

    node = app._service._node
    assert node is not None
    assert node._loop is not None
    return asyncio.run_coroutine_threadsafe(calling(), node._loop).result(30)


def cut(bus: Server, link: Any) -> None:
    """Have the server close one connection."""
    host, port = link._transport.get_extra_info("sockname")
    assert bus.execute("CLIENT", "KILL", "ADDR", f"{host}:{port}") in (b"OK", "OK", True)


def echoing(make: Make, **options: Any) -> App:
    """Return a started app whose coroutine "echo" answers at once."""
    app = make(**options)

    @app.on("echo")
    async def echo(data: int) -> int:
        return data

    app.start()
    return app


def gated(make: Make, gate: Gate, **options: Any) -> App:
    """Return a started app whose coroutine "slow" answers when the gate is open."""
    app = make(**options)

    @app.on("slow")
    async def slow(number: int) -> int:
        await gate.wait()
        return number

    app.start()
    return app


def ask(bus: Server, channel: str, number: int) -> str:
    """Send a request by hand; return the list of its reply."""
    reply_to = keys.reply(channel, str(number))
    body = b"0 " + request_body(number, id=str(number), reply_to=reply_to)
    bus.execute("RPUSH", keys.requests(channel), body)
    return reply_to


def answered(bus: Server, reply_to: str) -> str:
    return str(eventually(lambda: bus.execute("LPOP", reply_to), what=f"an answer in {reply_to}"))
