"""A lane whose handler is ``async def``: its messages are awaited on an event loop, in order.

The reader's side is that of every lane: putting never waits. The loop is woken once for a batch. Once a
handler has been seen to set a `ContextVar`, each message gets a context of its own; others cost less.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context

from redis_toolkit._core.contexts import begin
from redis_toolkit.message import Gap
from redis_toolkit.routing import Handler
from redis_toolkit.settings import Settings
from redis_toolkit.strange import tamed
from redis_toolkit.worker import forked, handling
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.lane import Item, Lane

__all__ = ["LoopLane"]


class LoopLane(Lane):
    """The waiting messages of one ``async def`` handler.

    Args:
        handler: who gets them.
        settings: how many, and how many bytes, may wait.
        report: called with the `Gap` of each episode of overflow.
        counters: where dropped and unreadable messages are counted.
        loop: where the handler runs.
    """

    def __init__(
        self,
        handler: Handler,
        settings: Settings,
        report: Callable[[Gap], None],
        counters: Counters,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(handler, settings, report, counters)
        self._loop = loop
        self._pumps: set[asyncio.Task[None]] = set()
        self._called = 0
        self._apart = False

    def _call_thread(self) -> None:
        """Wake the loop, unless as many pumps as may run have been called."""
        if self._called < (self.handler.concurrency or 1):
            self._called += 1
            try:
                self._loop.call_soon_threadsafe(self._begin)
            except RuntimeError:  # the loop has been closed: nobody is left to handle it
                self._items.clear()

    def _begin(self, clean: Context | None = None) -> None:
        context = copy_context() if clean is None else clean.copy()
        pump = self._loop.create_task(self._pump(context), context=context)
        self._pumps.add(pump)
        pump.add_done_callback(self._ended)

    def runs(self, runner: object) -> bool:
        """Return whether this task runs the lane's handler."""
        return runner in self._pumps

    async def _pump(self, mine: Context) -> None:
        handling.begin(self._loop)
        clean = mine.copy()
        while True:
            with self._changed:
                batch, gap = self._take_some()
                if not batch:
                    self._called -= 1
                    self._changed.notify_all()
            self._report_overflow(gap)
            if not batch:
                return
            await self._handle_all(batch, mine, clean)
            if mine != clean:
                self._begin(clean)  # in place of this one
                return
            await asyncio.sleep(0)  # a handler that never waits would leave the loop to nobody else

    async def _handle_all(self, batch: list[Item], mine: Context, clean: Context) -> None:
        left = deque(batch)
        try:
            while left:
                item = left.popleft()
                if not self._abandoned:
                    await self._handle_async(*item)
                if not self._apart and mine != clean:
                    self._apart = True
                    return
        finally:
            if left:
                self._give_back(left)
            self._done(batch)

    def _give_back(self, left: deque[Item]) -> None:
        """Let another pump handle, in order, what a cancelled one has taken."""
        with self._changed:
            if not self._abandoned:
                self._items.extendleft(reversed(left))
                self._bytes += sum(len(item[2]) for item in left)

    def _ended(self, pump: asyncio.Task[None]) -> None:
        """Call another pump in place of one that was cancelled, as a handler may do to its own task."""
        self._pumps.discard(pump)
        if pump.cancelled():
            with self._changed:
                self._called -= 1
                if self._items:
                    self._call_thread()

    async def _handle_async(self, channel: bytes, glob: bytes | None, body: bytes) -> None:
        before, task = forked.generation, asyncio.current_task()
        try:
            if self._apart:
                rest = begin(self.handler.binding.call, self._message(channel, glob, body))
                if rest is not None:
                    await rest
            else:
                await self.handler.binding.call(self._message(channel, glob, body))
            if forked.generation != before:
                forked.end_fork(before)
        except asyncio.CancelledError as error:
            forked.end_fork(before, error)
            if not self._abandoned:
                self._failed(channel, error)
            if task is not None and task.cancelling():
                raise
        except BaseException as error:
            error = tamed(error)
            if isinstance(error, GeneratorExit) and not handling.is_running(task):
                raise  # the loop is gone: nobody is left to handle anything
            forked.end_fork(before, error)
            self._failed(channel, error)

    def _is_alive(self) -> bool:
        return self._loop.is_running()

    def stop(self, deadline: float) -> bool:
        """As every lane does; what is left at the deadline is cancelled."""
        ended = super().stop(deadline)
        asker = handling.current()
        if not self._loop.is_closed():
            for pump in [pump for pump in list(self._pumps) if not self.runs(asker)]:
                self._loop.call_soon_threadsafe(pump.cancel)
        return ended
