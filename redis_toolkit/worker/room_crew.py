"""The tasks that hand messages of rooms to ``async def`` callbacks on one event loop.

Rules:

- One task, the free one, gives all members that have messages their turns. A callback that never waits costs
  no task.
- A task whose callback waits stays with that member until nothing is left for it; another one becomes the
  free one. So nobody waits for a slow member.
- A task that is cancelled ends the membership that it was with; the free one, those that had a turn coming.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from typing import Protocol

__all__ = ["BATCH", "Crew", "Runner", "crew_of"]

BATCH = 64
"""Messages of one turn, at most, and of all turns until the loop has its own."""


class Turns(Protocol):
    """What a crew does for one member."""

    async def turn(self, runner: Runner) -> None:
        """Hand out what waits, up to a batch."""

    def broken(self, error: BaseException | None) -> None:
        """End the membership: its task was cancelled (None), or has failed."""


class Crew:
    """The tasks of one loop, and the members who wait for a turn; used on that loop only."""

    def __init__(self) -> None:
        self.ready: deque[Turns] = deque()
        self.free: Runner | None = None

    def add(self, turns: Turns) -> None:
        """Give a member a turn, behind the others."""
        self.ready.append(turns)
        self.look()

    def look(self) -> None:
        """See to it that somebody is there for those who wait."""
        if self.free is None and self.ready:
            self.free = Runner(self)


class Runner:
    """One task, which begins as the free one.

    Args:
        crew: whose.

    Attributes:
        task: the task.
        handled: messages since the loop had its turn.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._current: Turns | None = None
        self.handled = 0
        self.task = asyncio.get_running_loop().create_task(self._run())
        self.task.add_done_callback(self._done)

    @property
    def is_free(self) -> bool:
        """Whether it is the one that gives the next turn."""
        return self._crew.free is self

    def stay(self) -> None:
        """Stay with this member: its callback waits. Another one takes care of the others."""
        if self._crew.free is self:
            self._crew.free = None
            self._crew.look()

    def again(self, turns: Turns) -> None:
        """Give a member another turn, behind the others."""
        self._crew.ready.append(turns)

    async def _run(self) -> None:
        crew, ready = self._crew, self._crew.ready
        while ready and crew.free is self:
            self._current = ready.popleft()
            await self._current.turn(self)
            self._current = None
            if self.handled >= BATCH:
                self.handled = 0
                await asyncio.sleep(0)  # callbacks that never wait would leave the loop to nobody else
        if crew.free is self:
            crew.free = None

    def _done(self, task: asyncio.Task[None]) -> None:
        crew = self._crew
        if crew.free is self:
            crew.free = None
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            ended = [self._current] if self._current is not None else list(crew.ready)
            if self._current is None:
                crew.ready.clear()
            for turns in ended:
                turns.broken(error)
        crew.look()


_crews: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Crew] = weakref.WeakKeyDictionary()


def crew_of(loop: asyncio.AbstractEventLoop) -> Crew:
    """Return the crew of a loop."""
    return _crews.setdefault(loop, Crew())
