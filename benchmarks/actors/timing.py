"""Timing calls: one after the other, or by a number of callers at once; and counting what arrives."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["Arrivals", "figures", "one_by_one", "together"]

PATIENCE = 60.0
WARM = 20


def figures(latencies: list[float], seconds: float, *, made: int) -> dict[str, float]:
    """Return percentiles in µs, and calls per second; ``calls`` is how many were made, counted or not."""
    ordered = sorted(latencies)
    count = len(ordered)
    return {
        "calls": made,
        "per_second": count / seconds,
        "p50_us": ordered[count // 2] * 1e6,
        "p99_us": ordered[min(int(count * 0.99), count - 1)] * 1e6,
    }


def one_by_one(call: Callable[[], Any], calls: int) -> dict[str, float]:
    """Time calls of one caller, after a few that are not counted."""
    clock = time.perf_counter
    for _ in range(WARM):
        call()
    latencies = []
    begun = clock()
    for _ in range(calls):
        start = clock()
        call()
        latencies.append(clock() - start)
    return figures(latencies, clock() - begun, made=WARM + calls)


async def together(call: Callable[[], Awaitable[Any]], calls: int, callers: int) -> dict[str, float]:
    """Time the calls of as many callers at once, each of which waits for its answer before it asks again.

    What counts is the steady state. The first two calls of each caller are made before the clock starts,
    and the callers go on asking until the last call that counts is answered, so that there are always
    as many on their way.
    """
    clock = time.perf_counter
    ends: list[float] = []
    latencies: list[float] = []
    warm = max(WARM, 2 * callers)
    wanted = warm + calls

    async def caller() -> None:
        while len(ends) < wanted:
            start = clock()
            await call()
            end = clock()
            ends.append(end)
            latencies.append(end - start)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return figures(latencies[warm:wanted], ends[wanted - 1] - ends[warm - 1], made=len(ends))


class Arrivals:
    """Counts messages, and knows when the first and the last of a number of them arrived."""

    def __init__(self) -> None:
        self._count = self._expected = 0
        self._first = self._last = 0.0
        self._all_here = threading.Event()

    def expect(self, count: int) -> None:
        """Begin to count anew."""
        self._all_here.clear()
        self._count, self._expected = 0, count

    def arrived(self, _payload: Any) -> None:
        """Note one message."""
        self._count += 1
        if self._count == 1:
            self._first = time.perf_counter()
        if self._count == self._expected:
            self._last = time.perf_counter()
            self._all_here.set()

    def rate(self) -> dict[str, float]:
        """Wait for the last message and return how many arrived per second."""
        if not self._all_here.wait(PATIENCE):
            raise TimeoutError(f"{self._count} of {self._expected} messages arrived")
        return {"calls": self._count, "per_second": (self._count - 1) / (self._last - self._first)}

    async def expect_async(self, count: int) -> None:
        """Begin to count anew, on a loop."""
        self.expect(count)

    async def rate_async(self) -> dict[str, float]:
        """Wait for the last message, on a loop."""
        return await asyncio.to_thread(self.rate)
