"""Waiting for the end of a task with both drivers: it comes by a push, or was there before."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from redis_toolkit import App, RequestTimeout, ServerUnreachable, keys
from redis_toolkit._core.flows import serving, task_ends, tasks
from redis_toolkit._core.flows.tasks import Submission
from redis_toolkit._core.flows.work import Ended, Settlement
from redis_toolkit.codecs import JSONCodec
from redis_toolkit.wire import Reply, Wire
from tests.core.awaiting import awaiting
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.lua import trips
from tests.lua.driving import drive, send
from tests.lua.run import all_keys

WIRE = Wire(JSONCodec(), 10_000)
SOURCE = tasks.queue_source("q", ("low",))
Waits = Callable[[Server, int], Reply]


def waits_sync(server: Server, timeout_ms: int) -> Reply:
    app = App(server.url)
    try:
        return app._driver.run(task_ends.wait(SOURCE, "7", "w", WIRE, timeout_ms=timeout_ms))
    finally:
        app.stop()


def waits_async(server: Server, timeout_ms: int) -> Reply:
    async def main(app: App) -> Any:
        return await app._async_driver.run(task_ends.wait(SOURCE, "7", "w", WIRE, timeout_ms=timeout_ms))

    reply: Reply = awaiting(server.url, main)
    return reply


@pytest.fixture(params=[waits_sync, waits_async], ids=["sync", "awaited"])
def waits(request: pytest.FixtureRequest) -> Waits:
    found: Waits = request.param
    return found


def run_the_task(server: Server) -> None:
    """Do what a worker does, the push to those who wait included."""
    [item] = drive(server, trips.claim(SOURCE, "me", 1)).items
    ended = Ended("done", WIRE.reply("7", {"sum": 3}), 60_000, "add")
    settled = drive(server, trips.settle(SOURCE, "me", [Settlement(item, "7", ended)]))
    pushes = [(address, ended.reply) for _, addresses in settled.waiters for address in addresses]
    send(server, *(command for pair in serving.push_replies(pushes) for command in pair))


def submit(server: Server) -> None:
    drive(server, trips.submit("q", Submission("7", b'{"id":"7"}', "low"), ("low",)))


def test_the_end_is_pushed(server: Server, waits: Waits) -> None:
    submit(server)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(waits, server, 60_000)
        eventually(lambda: server.execute("EXISTS", keys.task_waiters("q")))
        run_the_task(server)
        assert waiting.result(30) == Reply("7", {"sum": 3})
    assert keys.task_waiters("q") not in all_keys(server)


def test_it_has_ended_before(server: Server, waits: Waits) -> None:
    submit(server)
    run_the_task(server)
    assert waits(server, 60_000) == Reply("7", {"sum": 3})


def test_a_push_that_is_lost_is_made_up_for(
    server: Server, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_ends, "SLICE_MS", 100)
    submit(server)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(waits, server, 60_000)
        eventually(lambda: server.execute("EXISTS", keys.task_waiters("q")))
        [item] = drive(server, trips.claim(SOURCE, "me", 1)).items
        outcome = Ended("done", WIRE.reply("7", 5), 60_000, "add")
        drive(server, trips.settle(SOURCE, "me", [Settlement(item, "7", outcome)]))
        assert waiting.result(30) == Reply("7", 5)


def test_it_does_not_end(server: Server, waits: Waits) -> None:
    submit(server)
    for ms in (50, 500, 5_000):
        with suppress(ServerUnreachable):  # a busy machine has not connected by then
            with pytest.raises(
                RequestTimeout, match=f"task 7 of queue 'q' has not ended after {ms / 1000:g} s"
            ):
                waits(server, ms)
            return
    pytest.fail("no connection in five seconds")
