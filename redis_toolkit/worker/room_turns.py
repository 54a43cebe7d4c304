"""Who hands a member its messages: a thread of the pool, or a task of the crew on an event loop.

Rules:

- One message at a time, in order, each in a context of its own. What a callback raises is logged.
- A callback with fields by name need not take those that are ours, which every message has.
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
from types import CoroutineType
from typing import Any

from redis_toolkit._core import loops
from redis_toolkit._core.contexts import Rest, begin
from redis_toolkit._core.flows.rooms import Page
from redis_toolkit.binding import Binding
from redis_toolkit.errors import PayloadMismatch, RedisToolkitError
from redis_toolkit.message import Gap, Message
from redis_toolkit.room_message import RESERVED, own_copy
from redis_toolkit.tracebacks import OF_HANDLER
from redis_toolkit.worker import forked, handling
from redis_toolkit.worker.bell import bell_of
from redis_toolkit.worker.room_crew import BATCH, Runner, crew_of
from redis_toolkit.worker.room_lane import Item, RoomLane
from redis_toolkit.worker.room_pool import RoomPool

__all__ = ["LoopTurns", "PoolTurns"]

logger = logging.getLogger("redis_toolkit")

_served: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, int] = weakref.WeakKeyDictionary()
"""Loops that run callbacks of rooms, and of how many members; not those that run handlers anyway."""


class _Callbacks:
    """What is called with messages and gaps."""

    def __init__(self, lane: RoomLane, binding: Binding, on_gap: Callable[[Gap], Any] | None) -> None:
        self._lane = lane
        self._binding = binding
        self._on_gap = on_gap
        self._bare = binding.bare
        fields = binding.fields
        self._unwanted = frozenset[str]() if fields is None else RESERVED - fields
        self._channel = lane.channels[0].decode("utf-8")

    def call(self, item: Item) -> Any:
        """Call what the item is for; of a coroutine function, return its coroutine."""
        if isinstance(item, Gap):
            self._lane.tell(item)
            return self._on_gap(item) if self._on_gap is not None else None
        if self._bare is not None:
            return self._bare(own_copy(item))
        message = own_copy(item)
        for name in self._unwanted:
            message.pop(name, None)
        return self._binding.call(Message(self._channel, message, id=item.get("id")))

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
                extra=OF_HANDLER,
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
                if not lane.rest():
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
        ended: called when its loop, or somebody else, has ended it; it must not wait for the lane.
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
        self._bell = bell_of(loop)
        self._crew = crew_of(loop)
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
            self._bell.ring(self._loop, self._begin)
        except RuntimeError:  # the loop has been closed
            if not self._lane.closed:
                self._ended()

    def _begin(self) -> None:
        if self._lane.closed:
            self._finish()
        else:
            self._crew.add(self)

    def _finish(self) -> None:
        """The loop runs no callback of this member any more: blocking calls on it are its own business."""
        if self._serving:
            self._serving = False
            _served[self._loop] -= 1
            if not _served[self._loop]:
                del _served[self._loop]
                loops.serving.discard(self._loop)

    def broken(self, error: BaseException | None) -> None:
        """End the membership: its task was cancelled (None), or has failed."""
        self._finish()
        if error is not None:
            self.failed(error)
        self._ended()

    async def turn(self, runner: Runner) -> None:
        """Hand out what waits: up to a batch, or until nothing is left when the callback waits."""
        lane = self._lane
        while not lane.closed:
            items = lane.take(BATCH)
            for item in items:
                if self._lane.closed:
                    break
                before = forked.generation
                rest = self._start(item, before, runner.task)
                if rest is not None:
                    runner.stay()
                    await self._carry_on(rest, before, runner.task)
                elif runner.task.cancelling():
                    raise asyncio.CancelledError  # the callback has cancelled its task
            runner.handled += len(items)
            if lane.rest():
                return
            if items and runner.is_free:
                runner.again(self)  # behind the others
                return
            if items:
                await asyncio.sleep(0)
            elif (after := lane.missing()) is not None:
                runner.stay()
                await self._fill(after)
        self._finish()

    async def _fill(self, after: str) -> None:
        try:
            self._lane.fill(await self._read(after))
        except RedisToolkitError as error:
            logger.debug("the log of room %r could not be read: %s", self._lane.room, error)
            self._lane.stall()

    def _start(self, item: Item, before: int, task: asyncio.Task[None]) -> Rest[Any] | None:
        """Begin a callback; returns what has to be awaited, or None when it has ended."""
        try:
            rest = begin(self._coroutine, item)
        except BaseException as error:
            self._raised(error, before, task)
            return None
        if rest is None and forked.generation != before:
            forked.end_fork(before)
        return rest

    async def _carry_on(self, rest: Rest[Any], before: int, task: asyncio.Task[None]) -> None:
        try:
            await rest
            if forked.generation != before:
                forked.end_fork(before)
        except BaseException as error:
            self._raised(error, before, task)

    def _raised(self, error: BaseException, before: int, task: asyncio.Task[None]) -> None:
        if isinstance(error, GeneratorExit) and not handling.is_running(task):
            raise error  # the loop is gone; any other, also `SystemExit`, would end it for all who are on it
        forked.end_fork(before, error)
        if isinstance(error, asyncio.CancelledError) and task.cancelling():
            raise error
        self.failed(error)

    def _coroutine(self, item: Item) -> Any:
        done = self.call(item)
        return done if type(done) is CoroutineType or asyncio.iscoroutine(done) else _nothing()


async def _nothing() -> None:
    """A callback that is no coroutine function has done it all."""
