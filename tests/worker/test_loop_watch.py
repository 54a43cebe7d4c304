"""A handler that blocks the event loop is named, once; nothing else is."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from redis_toolkit import App
from redis_toolkit.worker import loop_watch
from redis_toolkit.worker.loop_watch import LATE, LoopWatch
from tests.kit.processes import Process
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.fakes import no_threads_left


@pytest.fixture(autouse=True)
def all_threads_end() -> Iterator[None]:
    with no_threads_left("rt-"):
        yield


def said(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [message for message in caplog.messages if text in message]


@pytest.mark.parametrize("awaited", [False, True], ids=["own loop", "running loop"])
@pytest.mark.parametrize("event", [False, True], ids=["request", "event"])
def test_a_handler_that_blocks_is_named_once(
    bus: Server,
    client: App,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    awaited: bool,
    event: bool,
) -> None:
    monkeypatch.setattr(loop_watch, "SECONDS", 0.2)
    caplog.set_level(logging.INFO, "redis_toolkit")
    app, go_on = App(bus.url), threading.Event()

    @app.on("work")
    async def work(data: Any) -> str:
        go_on.wait(60)
        return "done"

    def ask() -> None:
        if event:
            client.publish("work", 1)
        else:
            client.request("work", 1, timeout=60)

    def block() -> None:
        asking = threading.Thread(target=ask)
        asking.start()
        try:
            eventually(lambda: said(caplog, "has stood still"))
        finally:
            go_on.set()
            asking.join()
        eventually(lambda: said(caplog, "goes on after"))

    async def main() -> None:
        async with app:
            await asyncio.to_thread(block)

    if awaited:
        asyncio.run(main())
    else:
        with app:
            block()
    lines = [line for line in said(caplog, "has stood still") if "handler" in line and "work at" in line]
    assert len(lines) == 1
    assert f"work at {__file__}:" in lines[0]


class FakeLoop:
    """A loop that turns when it is told to."""

    def __init__(self) -> None:
        self.running = True
        self.called: list[Callable[[], None]] = []

    def is_running(self) -> bool:
        return self.running

    def call_soon_threadsafe(self, function: Callable[..., None], *arguments: Any) -> None:
        self.called.append(lambda: function(*arguments))

    def turn(self) -> None:
        while self.called:
            self.called.pop()()


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


@pytest.fixture
def watch(loop: FakeLoop) -> LoopWatch:
    return LoopWatch(loop, [], 1.0)  # type: ignore[arg-type]


def test_a_loop_that_turns_is_not_reported(
    watch: LoopWatch, loop: FakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    for now in range(5):
        watch._look(now, 1.0)
        assert len(loop.called) == 1
        loop.turn()
    assert caplog.text == ""


def test_each_standstill_is_one_line(
    watch: LoopWatch, loop: FakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    for count in (1, 2):
        for now in range(5):
            watch._look(now, 1.0)
        assert len(loop.called) == 1
        assert len(caplog.messages) == count
        loop.turn()


@pytest.mark.parametrize("paused", [True, False], ids=["stopped process", "loop that nobody runs"])
def test_what_is_no_standstill(
    watch: LoopWatch, loop: FakeLoop, caplog: pytest.LogCaptureFixture, paused: bool
) -> None:
    watch._look(0, 1.0)
    loop.running = paused
    for now in (100, 200):
        watch._look(now, 1.0 + 2 * LATE if paused else 1.0)
    loop.running = True
    watch._look(201, 1.0)
    assert caplog.text == ""


def test_a_loop_that_waits_is_not_woken() -> None:
    """As far as can be seen: a loop that is not asyncio's own is asked for a sign."""
    loop = asyncio.SelectorEventLoop()
    watch, asked = LoopWatch(loop, [], 1000.0), list[float]()
    runner = threading.Thread(target=loop.run_forever)
    runner.start()
    try:
        loop.call_soon_threadsafe(watch.start)
        eventually(lambda: watch._is_waiting())
        watch._turned = asked.append  # type: ignore[method-assign,assignment]
        watch._look(0, 1.0)
        assert watch._asked is None
        assert asked == []
    finally:
        watch.stop()
        loop.call_soon_threadsafe(loop.stop)
        runner.join()
        loop.close()


LOOKING = """
import gc, threading
from types import SimpleNamespace
from redis_toolkit.worker.loop_watch import _frame_of

for _ in range(4):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
for turn in range(1000):
    gc.collect(0)
    gc.set_threshold(1 + turn % 7)
    lost = SimpleNamespace(local=threading.local())
    lost.local.value, lost.itself = 1, lost
    del lost
    assert _frame_of(threading.get_ident()) is not None
    gc.set_threshold(700)
print(gc.isenabled())
"""


def test_looking_for_the_loop_is_safe_from_garbage_collection(tmp_path: Path) -> None:
    """All threads of a process on Python 3.11 stood still for ever, in about one of ten such turns."""
    with Process(directory=tmp_path, source=LOOKING) as program:
        assert program.wait(120) == 0, program.output
        assert program.stdout.split() == ["True"]
