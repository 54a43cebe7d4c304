"""Sends messages: as many as go with a number of callers at once, or so many per second whatever happens.

Rule: a message is due when its turn comes, not when it is sent at last: sending late adds to the latency.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

__all__ = ["offer", "together_many"]

TICK = 0.001
Send = Callable[[int, float], Awaitable[None]]


async def together_many(send: Send, count: int, callers: int) -> dict[str, float]:
    """Send ``count`` messages, ``callers`` at once; returns when it began and how fast it was."""
    clock = time.perf_counter
    numbers = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            await send(number, clock())

    begun = clock()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return {"calls": count, "begun": begun, "sent_per_second": count / (clock() - begun)}


async def offer(send: Send, rate: float, seconds: float) -> dict[str, float]:
    """Send at a rate; returns when it began and the rate at which it could."""
    clock = time.perf_counter
    count, number, begun = int(rate * seconds), 0, clock()
    async with asyncio.TaskGroup() as tasks:
        while number < count:
            due = min(int((clock() - begun) * rate) + 1, count)
            for late in range(number, due):
                tasks.create_task(_sent(send, late, begun + late / rate))
            number = max(number, due)
            await asyncio.sleep(TICK)
    return {"calls": count, "begun": begun, "sent_per_second": count / (clock() - begun)}


async def _sent(send: Send, number: int, due: float) -> None:
    await send(number, due)
