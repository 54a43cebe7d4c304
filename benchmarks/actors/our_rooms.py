"""Rooms of the project: a process with many members, and one that sends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

from benchmarks.actors.conversation import aconverse, play
from benchmarks.actors.hearing import Hearing
from benchmarks.actors.offering import offer, together_many
from benchmarks.actors.ours import rss_mb
from redis_toolkit import App
from redis_toolkit._core.loops import new_loop
from redis_toolkit.patterns import ChatRoom

AT_ONCE = 200
"""Joins that are on their way at once."""


async def listener(
    url: str, name: str, rooms: int, members: int, kind: str, slow: float = 0.0, seconds: float = 10.0
) -> None:
    """Be all members of rooms.

    Args:
        url: the server.
        name: what the names of the rooms begin with.
        rooms: how many.
        members: of each room.
        kind: of the callbacks: ``def``, ``async def`` or ``iteration``.
        slow: seconds that the callback of the last member of the first room sleeps; 0: nobody does.
        seconds: the lease.
    """
    app = App(url, lease=seconds)
    hearing = Hearing()
    before = rss_mb()
    begun = time.perf_counter()
    gate = asyncio.Semaphore(AT_ONCE)
    lagging = Hearing()
    tasks: list[asyncio.Task[None]] = []

    async def arrived(message: dict[str, Any]) -> None:
        hearing.arrived(message)

    def dawdle(message: dict[str, Any]) -> None:
        time.sleep(slow)
        lagging.arrived(message)

    async def dawdle_async(message: dict[str, Any]) -> None:
        await asyncio.sleep(slow)
        lagging.arrived(message)

    async def iterate(messages: AsyncIterator[dict[str, Any]]) -> None:
        async for message in messages:
            hearing.arrived(message)

    callbacks = {"def": (hearing.arrived, dawdle), "async def": (arrived, dawdle_async)}

    async def enter(room: ChatRoom, number: int, *, last: bool) -> None:
        async with gate:
            if kind == "iteration":
                tasks.append(asyncio.create_task(iterate(await room.ajoin(f"user-{number}"))))
            else:
                await room.ajoin(f"user-{number}", callbacks[kind][last and slow > 0])

    await asyncio.gather(
        *(
            enter(ChatRoom(f"{name}-{room}", app), number, last=(room, number) == (0, members - 1))
            for room in range(rooms)
            for number in range(members)
        )
    )
    joined = time.perf_counter() - begun

    async def state() -> dict[str, float]:
        return {
            "join_seconds": joined,
            "threads": threading.active_count(),
            "rss_mb": rss_mb(),
            "more_rss_mb": rss_mb() - before,
        }

    async def catch_up(count: int) -> dict[str, float]:
        lagging.wanted = count
        started = time.perf_counter()
        await lagging.wait()
        return {"catch_up_seconds": time.perf_counter() - started, "late_heard": lagging.count}

    async def expect(count: int) -> None:
        hearing.expect(count)
        lagging.expect(0)

    await aconverse(expect=expect, heard=hearing.figures, state=state, catch_up=catch_up)
    for task in tasks:
        task.cancel()
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
