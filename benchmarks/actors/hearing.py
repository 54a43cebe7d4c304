"""Counts the messages that members of rooms hear, and how long each was on its way."""

from __future__ import annotations

import asyncio
import time
from typing import Any

__all__ = ["Hearing"]

PATIENCE = 40.0
LOOK = 0.01


class Hearing:
    """What all members of one process have heard; called from any thread.

    A message tells in ``sent`` when it was due, on the clock that all processes of a machine share; those
    without it, such as joins, do not count.
    """

    def __init__(self) -> None:
        self.wanted = 0
        self._latencies: list[float] = []
        self._last = 0.0

    @property
    def count(self) -> int:
        """How many were heard."""
        return len(self._latencies)

    def forget(self) -> None:
        """Begin to count anew."""
        self._latencies = []

    async def begin(self) -> None:
        """Begin to count anew."""
        self.forget()

    def arrived(self, message: dict[str, Any]) -> None:
        """Note one message."""
        sent = message.get("sent")
        if sent is not None:
            self._last = now = time.perf_counter()
            self._latencies.append(now - sent)

    async def wait(self) -> None:
        """Wait until all that are expected were heard, or for too long."""
        for _ in range(int(PATIENCE / LOOK)):
            if self.count >= self.wanted:
                return
            await asyncio.sleep(LOOK)

    async def figures(self, count: int) -> dict[str, float]:
        """Wait for a number of messages; return how many came, when the last one did, and percentiles."""
        self.wanted = count
        await self.wait()
        ordered = sorted(self._latencies) or [0.0]
        return {
            "heard": self.count,
            "last": self._last,
            "p50_ms": ordered[len(ordered) // 2] * 1e3,
            "p99_ms": ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)] * 1e3,
        }
