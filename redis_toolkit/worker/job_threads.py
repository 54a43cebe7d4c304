"""Threads that run the ``def`` jobs of a source whose engine is on the event loop.

Rules:

- They are daemons, so that a handler that hangs keeps no program alive, and are started when needed.
- What runs is bound to a thread that was free; the rest waits here, in order, and can be given back.
- All is asked for and told on the loop; only the handler runs in a thread, with a context of its own.
- A handler that takes longer than its timeout is abandoned: its item is over, another thread takes the
  place of its own, and what it returns at last is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from queue import SimpleQueue

from redis_toolkit._core.flows.work import Settlement
from redis_toolkit.worker import handling
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.holdings import Item
from redis_toolkit.worker.performing import Performer
from redis_toolkit.worker.runners import Ended, left_at

__all__ = ["JobThreads"]

logger = logging.getLogger("redis_toolkit")


class JobThreads:
    """Runs items in up to ``count`` threads.

    Args:
        count: how many.
        performer: runs one.
        counters: where abandoned handlers are counted.
        ended: called on the loop when an item has ended; with None when it was given up.
    """

    def __init__(self, count: int, performer: Performer, counters: Counters, ended: Ended) -> None:
        self._count = count
        self._performer = performer
        self._counters = counters
        self._ended = ended
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: set[_JobThread] = set()
        self._free: list[_JobThread] = []
        self._over: deque[tuple[_JobThread, Item, Settlement]] = deque()
        self.waiting: deque[Item] = deque()

    @property
    def load(self) -> int:
        """How many items run or wait."""
        return self._running + len(self.waiting)

    @property
    def room(self) -> int:
        """How many items would begin at once; less than 0 when some wait already."""
        return self._count - self._running - len(self.waiting)

    @property
    def _running(self) -> int:
        return len(self._threads) - len(self._free)

    def runs(self, runner: object) -> bool:
        """Return whether this is one of the threads."""
        return any(one.thread is runner for one in list(self._threads))

    def add(self, items: Iterable[Item]) -> None:
        """Begin these when there are threads for them."""
        self.waiting.extend(items)
        self._begin()

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        while self.waiting and self._running < self._count:
            item = self.waiting.popleft()
            thread = self._free.pop() if self._free else self._new()
            thread.item = item
            timeout = item.job.policy.timeout
            if timeout is not None:
                thread.timer = self._loop.call_later(timeout, self._late, thread, item)
            thread.work.put(item)

    def _new(self) -> _JobThread:
        thread = _JobThread(self._run)
        self._threads.add(thread)
        thread.thread.start()
        return thread

    def _run(self, me: _JobThread) -> None:
        """Run what this thread is given, until that is None or it was abandoned."""
        handling.begin()
        while (item := me.work.get()) is not None:
            try:
                outcome = self._performer.perform(item)
            except BaseException as error:  # the loop has to hear of it, whatever it was
                outcome = self._performer.failed(item, error)
            first = not self._over
            self._over.append((me, item, outcome))
            if first:
                assert self._loop is not None
                try:
                    self._loop.call_soon_threadsafe(self._collect)
                except RuntimeError:  # it has been closed: nobody is left to be told
                    return
            del item

    def _collect(self) -> None:
        while self._over:
            thread, item, outcome = self._over.popleft()
            if thread.item is not item:  # it was abandoned
                continue
            thread.rest()
            self._free.append(thread)
            self._ended(item, outcome)
        self._begin()

    def _late(self, thread: _JobThread, item: Item) -> None:
        """Abandon a thread whose handler has taken too long."""
        if thread.item is not item:
            return
        self._counters.add("abandoned")
        logger.warning(
            "%s runs %s for longer than its timeout of %g s: its thread is left behind, and replaced",
            item.job.binding.name,
            item.id,
            item.job.policy.timeout,
        )
        self._abandon(thread)
        self._ended(item, self._performer.timed_out(item))
        self._begin()

    def drain(self) -> list[Item]:
        """Begin no more; returns what waited."""
        waiting = list(self.waiting)
        self.waiting.clear()
        return waiting

    def _abandon(self, thread: _JobThread) -> None:
        thread.rest()
        thread.work.put(None)
        self._threads.discard(thread)

    async def end(self, deadline: float, asker: object = None) -> bool:
        """Wait for what runs until a deadline (monotonic seconds); what is late is given up.

        Args:
            deadline: monotonic seconds.
            asker: a thread that is not waited for.

        Returns:
            Whether all ended in time.
        """

        def left() -> list[_JobThread]:
            return [one for one in self._threads if one.item is not None and one.thread is not asker]

        late = await left_at(deadline, left)
        for thread in late:
            item = thread.item
            assert item is not None
            self._abandon(thread)
            self._ended(item, None)
        return not late

    def close(self) -> None:
        """Let the threads end; those that still run one when it is over."""
        for thread in self._threads:
            thread.work.put(None)
        for thread in self._free:
            thread.thread.join()


class _JobThread:
    """One thread, what it is told, and what it runs."""

    __slots__ = ("item", "thread", "timer", "work")

    def __init__(self, run: Callable[[_JobThread], None]) -> None:
        self.work: SimpleQueue[Item | None] = SimpleQueue()
        self.item: Item | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.thread = threading.Thread(target=run, args=(self,), name="rt-job", daemon=True)

    def rest(self) -> None:
        """Note that its item is over."""
        self.item = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
