"""Who hands a member its messages: a thread of the pool, or a task on an event loop.

Rules:

- One message at a time, in order, each in a context of its own. What a callback raises is logged.
- When the lane is behind, who hands it out also reads the log. A read that fails is tried again when the
  server has answered a beat.
- A task that is cancelled from outside ends the membership: its loop ends, or somebody wants that.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any

from redis_toolkit._core import loops
from redis_toolkit._core.contexts import begin
from redis_toolkit._core.flows.rooms import Page
from redis_toolkit.binding import Binding
from redis_toolkit.errors import PayloadMismatch, RedisToolkitError
from redis_toolkit.message import Gap, Message
from redis_toolkit.room_message import own_copy
from redis_toolkit.worker import forked
from redis_toolkit.worker.room_lane import Item, RoomLane
from redis_toolkit.worker.room_pool import RoomPool

__all__ = ["LoopTurns", "PoolTurns"]

logger = logging.getLogger("redis_toolkit")

BATCH = 64
"""Messages of one turn, at most: then others have theirs."""


_served: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, int] = weakref.WeakKeyDictionary()
"""Loops that run callbacks of rooms, and of how many members; not those that run handlers anyway."""


class _Callbacks:
    """What is called with messages and gaps."""

    def __init__(self, lane: RoomLane, binding: Binding, on_gap: Callable[[Gap], Any] | None) -> None:
        self._lane = lane
        self._binding = binding
        self._on_gap = on_gap
        self._channel = lane.channels[0].decode("utf-8")

    def call(self, item: Item) -> Any:
        """Call what the item is for; of a coroutine function, return its coroutine."""
        if isinstance(item, Gap):
            self._lane.tell(item)
            return self._on_gap(item) if self._on_gap is not None else None
        return self._binding.call(Message(self._channel, own_copy(item), id=item.get("id")))

    def failed(self, error: BaseException) -> None:
        """Log what a callback raised."""
        if isinstance(error, PayloadMismatch):
            logger.warning("dropped a message of room %r: %s", self._lane.room, error)
        else:
            logger.error(
                "callback %s failed on a message of room %r",
                self._binding.name,
                self._lane.room,
                exc_info=error,
            )


class PoolTurns(_Callbacks):
    """Hands a member its messages in threads of the pool.

    Args:
        lane: what waits for the member.
        binding: the ``def`` callback.
        on_gap: called with each gap, or None.
        pool: the threads.
        read: reads the log after an id.
    """

    def __init__(
        self,
        lane: RoomLane,
        binding: Binding,
        on_gap: Callable[[Gap], Any] | None,
        pool: RoomPool,
        read: Callable[[str], Page],
    ) -> None:
        super().__init__(lane, binding, on_gap)
        self._pool = pool
        self._read = read

    def wake(self) -> None:
        """Ask for a turn."""
        self._pool.submit(self.turn)

    def turn(self) -> None:
        """Hand out what waits, up to a batch."""
        lane = self._lane
        while not lane.closed:
            items = lane.take(BATCH)
            for item in items:
                if self._lane.closed:
                    return
                self._handle(item)
            if items:
                self.wake()  # behind the others
                return
            after = lane.missing()
            if after is None:
                if lane.rest():
                    return
                continue
            try:
                lane.fill(self._read(after))
            except RedisToolkitError as error:
                logger.debug("the log of room %r could not be read: %s", lane.room, error)
                lane.stall()

    def _handle(self, item: Item) -> None:
        before = forked.generation
        try:
            copy_context().run(self.call, item)
            if forked.generation != before:
                forked.end_fork(before)
        except BaseException as error:
            forked.end_fork(before, error)
            self.failed(error)


class LoopTurns(_Callbacks):
    """Hands a member its messages on an event loop.

    Args:
        lane: what waits for the member.
        binding: the ``async def`` callback, or a ``def`` one that never waits.
        on_gap: called with each gap, or None.
        loop: where.
        read: reads the log after an id.
        ended: called when its loop, or somebody else, has ended it.
    """

    def __init__(
        self,
        lane: RoomLane,
        binding: Binding,
        on_gap: Callable[[Gap], Any] | None,
        loop: asyncio.AbstractEventLoop,
        read: Callable[[str], Awaitable[Page]],
        ended: Callable[[], None],
    ) -> None:
        super().__init__(lane, binding, on_gap)
        self._loop = loop
        self._read = read
        self._ended = ended
        self._pump: asyncio.Task[None] | None = None
        self._serving = loop not in loops.serving
        if self._serving:
            _served[loop] = _served.get(loop, 0) + 1
            loops.serving.add(loop)
        elif loop in _served:
            _served[loop] += 1
            self._serving = True

    def wake(self) -> None:
        """Ask for a turn."""
        try:
            self._loop.call_soon_threadsafe(self._begin)
        except RuntimeError:  # the loop has been closed
            if not self._lane.closed:
                self._ended()

    def _begin(self) -> None:
        if self._lane.closed:
            self._finish()
        else:
            self._pump = self._loop.create_task(self._turns())
            self._pump.add_done_callback(self._done)

    def _finish(self) -> None:
        """The loop runs no callback of this member any more: blocking calls on it are its own business."""
        if self._serving:
            self._serving = False
            _served[self._loop] -= 1
            if not _served[self._loop]:
                del _served[self._loop]
                loops.serving.discard(self._loop)

    def _done(self, pump: asyncio.Task[None]) -> None:
        if self._lane.closed or pump.cancelled():
            self._finish()
        if pump.cancelled():
            self._ended()
        elif pump.exception() is not None:
            self.failed(pump.exception() or RuntimeError())
            self._ended()

    async def _turns(self) -> None:
        lane = self._lane
        while not lane.closed:
            items = lane.take(BATCH)
            for item in items:
                if self._lane.closed:
                    return
                await self._handle(item)
            if items:
                await asyncio.sleep(0)  # a callback that never waits would leave the loop to nobody else
                continue
            after = lane.missing()
            if after is None:
                if lane.rest():
                    return
                continue
            try:
                lane.fill(await self._read(after))
            except RedisToolkitError as error:
                logger.debug("the log of room %r could not be read: %s", lane.room, error)
                lane.stall()

    async def _handle(self, item: Item) -> None:
        before, task = forked.generation, asyncio.current_task()
        try:
            rest = begin(self._call_async, item)
            if rest is not None:
                await rest
            if forked.generation != before:
                forked.end_fork(before)
        except asyncio.CancelledError as error:
            forked.end_fork(before, error)
            if task is not None and task.cancelling():
                raise
            self.failed(error)
        except Exception as error:
            forked.end_fork(before, error)
            self.failed(error)

    async def _call_async(self, item: Item) -> None:
        done = self.call(item)
        if asyncio.iscoroutine(done):
            await done
