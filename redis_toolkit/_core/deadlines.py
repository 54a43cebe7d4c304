"""Deadlines of futures on an event loop: one timer for all of them.

Rules:

- The timer knows futures and times, nothing of what they are for; a future that is discarded is
  forgotten at once, so neither payloads nor cancelled callers are kept alive.
- It fires for the earliest deadline it knew when it was set. Most futures are done by then, and cost it
  nothing but a look; it is then set for the earliest of those that still wait.
- When the loop stood still past a deadline, what came in time and was not read yet is read first.
- A future hears at most `SLACK` late, but for one rule: looking takes up to 5 % of the time, so among
  100,000 that wait and end one by one some hear a little later.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

from redis_toolkit._core import loops

__all__ = ["Deadlines"]

SLACK = 0.001
"""Seconds by which a deadline may come earlier than the timer that is set, without setting another."""
SHARE = 20
"""How many times as long as it took to look the timer waits before it looks again."""
LONGEST_PAUSE = 0.25
LATE = 0.1
"""Seconds after which the timer fires so late that the loop has to read its sockets first."""


class Deadlines:
    """Ends futures of one loop with a `TimeoutError` when their time has come.

    Args:
        loop: the loop of the futures.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[asyncio.Future[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._fires = math.inf
        self._rests_until = -math.inf

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, done: asyncio.Future[Any], deadline: float) -> None:
        """End a future at a deadline (`time.monotonic` seconds), unless it is discarded before."""
        self._waiting[done] = deadline
        if deadline < self._fires and (deadline := max(deadline, self._rests_until)) < self._fires:
            self._set(deadline, time.monotonic())

    def discard(self, done: asyncio.Future[Any]) -> None:
        """Forget a future."""
        self._waiting.pop(done, None)

    def close(self) -> None:
        """Forget all."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _set(self, deadline: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires = deadline - SLACK
        self._timer = self._loop.call_later(max(deadline - now, 0), self._fire)

    def _fire(self) -> None:
        if time.monotonic() - self._fires > LATE:  # the loop stood still: what was in time may not be read
            loops.after_reading(self._loop, self._look)
        else:
            self._look()

    def _look(self) -> None:
        now = time.monotonic()
        for done in [done for done, deadline in self._waiting.items() if deadline <= now]:
            del self._waiting[done]
            if not done.done():
                done.set_exception(TimeoutError("no reply by the deadline"))
        self._timer, self._fires = None, math.inf
        if self._waiting:
            earliest, ended = min(self._waiting.values()), time.monotonic()
            pause = min(SHARE * (ended - now), LONGEST_PAUSE)
            self._rests_until = ended + pause
            self._set(max(earliest, self._rests_until), ended)
