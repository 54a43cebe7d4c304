"""One timer for the deadlines of any number of futures."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest

from redis_toolkit._core.deadlines import Deadlines


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run on the loop of the standard library, whose timers can be counted."""
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main)


def timers(loop: Any) -> int:
    """Count the timers that are set on a loop, those that were cancelled aside."""
    return sum(not handle.cancelled() for handle in loop._scheduled)


def pass_time(seconds: float) -> None:
    time.sleep(seconds)


def end_in_time(deadlines: Deadlines, loop: asyncio.AbstractEventLoop, count: int) -> weakref.ref[Any]:
    """Have futures end before their deadlines; return a reference to what they ended with."""
    payload = type("Payload", (), {})()
    for _ in range(count):
        done = loop.create_future()
        done.set_result(payload)
        deadlines.add(done, time.monotonic() + 600)
        deadlines.discard(done)
    return weakref.ref(payload)


def test_each_ends_at_its_own_deadline_and_not_before() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        deadlines, now = Deadlines(loop), time.monotonic()
        places = (0.05, 0.02, 0.08, 0.02)
        asked = [loop.create_future() for _ in places]
        for done, place in zip(asked, places, strict=True):
            deadlines.add(done, now + place)
        assert timers(loop) == 1
        for place, done in sorted(zip(places, asked, strict=True), key=lambda pair: pair[0]):
            with pytest.raises(TimeoutError):
                await done
            assert time.monotonic() >= now + place
        assert len(deadlines) == 0

    run(main())


def test_ten_thousand_that_end_in_time_leave_one_timer_and_nothing_alive() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop)
        alive = end_in_time(deadlines, loop, 10_000)
        gc.collect()
        assert alive() is None
        assert len(deadlines) == 0
        assert timers(loop) == 1
        deadlines.close()
        assert timers(loop) == 0

    run(main())


def test_one_that_is_set_after_others_have_ended_still_ends() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop)
        for _ in range(3):
            done = loop.create_future()
            deadlines.add(done, time.monotonic() + 0.01)
            late = loop.create_future()
            deadlines.add(late, time.monotonic())
            for each in (late, done):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(each), 30)
            cancelled = loop.create_future()
            deadlines.add(cancelled, time.monotonic())
            cancelled.cancel()

    run(main())


def test_what_came_while_the_loop_stood_still_is_read_before_anyone_is_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("redis_toolkit._core.deadlines.LATE", 0.01)

    async def main() -> None:
        loop, (here, there) = asyncio.get_running_loop(), socket.socketpair()
        with here, there:
            done: asyncio.Future[int] = loop.create_future()
            never: asyncio.Future[int] = loop.create_future()

            def stand_still() -> None:
                there.send(b"x")
                pass_time(0.03)

            def read() -> None:
                if not done.done():
                    done.set_result(len(here.recv(1)))

            loop.add_reader(here, read)
            deadlines = Deadlines(loop)
            loop.call_later(0, stand_still)
            for asked in (done, never):
                deadlines.add(asked, time.monotonic() + 0.001)
            pass_time(0.002)  # so that both timers are due in the same turn
            assert await done == 1
            with pytest.raises(TimeoutError):
                await never
            loop.remove_reader(here)

    run(main())
