"""Handlers on the loop that misbehave: they cancel their own task, or come back in two processes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from redis_toolkit import App
from tests.kit.processes import Process
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.gates import Make


@pytest.mark.parametrize("waits", [True, False])
def test_a_handler_of_events_that_cancels_its_own_task_ends_no_subscription(
    make: Make, client: App, waits: bool
) -> None:
    app = make()
    heard: list[int] = []

    @app.on("events")
    async def hear(number: int) -> None:
        heard.append(number)
        if number % 10 == 1:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        if waits:
            await asyncio.sleep(0)

    app.start()
    client.publish_many("events", range(100))
    eventually(lambda: len(heard) == 100, what="all of them")
    assert heard == list(range(100))
    client.publish("events", 100)
    eventually(lambda: heard[-1] == 100, what="those that come later")


FORKING = """
import asyncio, os, sys
from redis_toolkit import App

app = App(sys.argv[1])
children = []

@app.on("fork")
async def fork(data):
    child = os.fork()
    children.append(child)
    if child == 0 and data == "fails":
        raise SystemExit(3)
    return os.getpid()

@app.on("children")
async def wait(data):
    if len(children) == 3:
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

async def main():
    async with app:
        print("ready", flush=True)
        await asyncio.Event().wait()  # until the test ends it

asyncio.run(main())
"""


def test_a_coroutine_that_forks_comes_back_in_its_parent_only(
    bus: Server, client: App, tmp_path: Path
) -> None:
    options = ["-W", "ignore:This process:DeprecationWarning"]  # fork beside threads
    program = Process(directory=tmp_path, source=FORKING, args=[bus.url], options=options)
    try:
        program.start()
        eventually(lambda: bus.execute("ZCARD", "rt:c:{children}:servers"), what="a server of the channels")
        for data in ("returns", "fails"):
            assert client.request("fork", data, timeout=30) == program.pid
        client.publish("fork", "returns")
        ended = eventually(lambda: client.request("children", None, timeout=30), what="three children")
        assert ended == [0, 3, 0]
    finally:
        program.close()
