"""Rooms of the project: a process with many members, and one that sends."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from typing import Any

from benchmarks.actors.conversation import aconverse, play
from benchmarks.actors.hearing import Hearing
from benchmarks.actors.offering import offer, together_many
from benchmarks.actors.ours import rss_mb
from redis_toolkit import App
from redis_toolkit._core.loops import new_loop
from redis_toolkit.patterns import ChatRoom, Membership

AT_ONCE = 200
"""Joins that are on their way at once."""


class Crowd:
    """Everybody in some rooms, and what they hear.

    Args:
        kind: of the callbacks: ``def``, ``async def`` or ``iteration``.
        slow: seconds that the callback of the last member of the first room sleeps; 0: nobody does.
    """

    def __init__(self, kind: str, slow: float) -> None:
        self.hearing, self.lagging = Hearing(), Hearing()
        self.memberships: list[Membership] = []
        self._kind, self._slow = kind, slow
        self._tasks: list[asyncio.Task[None]] = []

    async def enter(self, app: App, name: str, rooms: int, members: int) -> float:
        """Join all rooms, many at once; returns the seconds."""
        gate, begun = asyncio.Semaphore(AT_ONCE), time.perf_counter()

        async def join(room: int, number: int) -> None:
            callback = self._callback(is_slow=self._slow > 0 and (room, number) == (0, members - 1))
            async with gate:
                membership = await ChatRoom(f"{name}-{room}", app).ajoin(f"user-{number}", callback)
            self.memberships.append(membership)
            if callback is None:
                self._tasks.append(asyncio.create_task(self._iterate(membership)))

        await asyncio.gather(*(join(room, number) for room in range(rooms) for number in range(members)))
        return time.perf_counter() - begun

    async def leave(self) -> float:
        """Leave all rooms; returns the seconds."""
        begun = time.perf_counter()
        await asyncio.gather(*(membership.astop() for membership in self.memberships))
        for task in self._tasks:
            task.cancel()
        return time.perf_counter() - begun

    def _callback(self, *, is_slow: bool) -> Callable[..., Any] | None:
        if self._kind == "def":
            return self._dawdle if is_slow else self.hearing.arrived
        if self._kind == "async def":
            return self._dawdle_async if is_slow else self._arrived
        return None

    async def _arrived(self, message: dict[str, Any]) -> None:
        self.hearing.arrived(message)

    async def _iterate(self, membership: Membership) -> None:
        async for message in membership:
            self.hearing.arrived(message)

    def _dawdle(self, message: dict[str, Any]) -> None:
        time.sleep(self._slow)
        self.lagging.arrived(message)

    async def _dawdle_async(self, message: dict[str, Any]) -> None:
        await asyncio.sleep(self._slow)
        self.lagging.arrived(message)


async def listener(url: str, name: str, rooms: int, members: int, kind: str, slow: float = 0.0) -> None:
    """Be all members of rooms.

    Args:
        url: the server.
        name: what the names of the rooms begin with.
        rooms: how many.
        members: of each room.
        kind: of the callbacks, see `Crowd`.
        slow: seconds that one of them sleeps.
    """
    app, crowd = App(url), Crowd(kind, slow)
    before = rss_mb()
    joined = await crowd.enter(app, name, rooms, members)

    async def state() -> dict[str, float]:
        gc.collect()
        return {
            "joins_per_second": rooms * members / joined,
            "threads": threading.active_count(),
            "more_rss_mb": rss_mb() - before,
        }

    async def begin() -> None:
        crowd.hearing.forget()
        crowd.lagging.forget()

    async def leave() -> dict[str, float]:
        return {"leaves_per_second": rooms * members / await crowd.leave()}

    await aconverse(
        begin=begin, heard=crowd.hearing.figures, late=crowd.lagging.figures, state=state, leave=leave
    )
    await crowd.leave()
    await app.astop()


async def publisher(url: str, name: str, rooms: int) -> None:
    """Send to rooms in turns; each message has the time at which it was due."""
    app = App(url)
    places = [ChatRoom(f"{name}-{number}", app) for number in range(rooms)]

    async def send(number: int, due: float) -> None:
        await places[number % rooms].asend_message("ann", "Good morning, everybody!", sent=due)

    async def flood(count: int, callers: int) -> dict[str, float]:
        return await together_many(send, count, callers)

    async def at_rate(rate: float, seconds: float) -> dict[str, float]:
        return await offer(send, rate, seconds)

    await aconverse(flood=flood, offer=at_rate)
    await app.astop()


if __name__ == "__main__":
    play(listener, publisher, loop_factory=new_loop)
