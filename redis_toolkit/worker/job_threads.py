"""Threads that run the ``def`` jobs of a source whose engine is on the event loop.

Rules:

- They are daemons, so that a handler that hangs keeps no program alive, and are started when needed.
- A thread that is free gets an item; of quick work it gets many, as to wake a thread takes longer than such
  an item does. When one of these turns out not to be quick, the others are taken back.
- All is asked for and told on the loop; only the handler runs in a thread, with a context of its own.
- A handler that takes longer than its timeout is abandoned: its item is over, another thread takes the
  place of its own, and what it returns at last is dropped. With as many such threads as there may be, a new
  process would be better.
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

__all__ = ["QUICK_SECONDS", "JobThreads"]

logger = logging.getLogger("redis_toolkit")

QUICK_SECONDS = 0.010
"""Seconds of quick work that one thread gets at once; when they take longer, other threads get the rest."""


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
        self._abandoned: list[threading.Thread] = []
        self._free: list[_JobThread] = []
        self._over: deque[tuple[_JobThread, Item, Settlement]] = deque()
        self._waiting: deque[Item] = deque()
        self._looking: asyncio.TimerHandle | None = None
        self._handed = 0
        self._told = False

    @property
    def load(self) -> int:
        """How many items run or wait."""
        return self._handed + len(self._waiting)

    @property
    def room(self) -> int:
        """How many items would begin at once; less than 0 when some wait already."""
        return self._count - self._busy - len(self._waiting)

    @property
    def _busy(self) -> int:
        return len(self._threads) - len(self._free)

    @property
    def abandoned(self) -> int:
        """How many threads run a handler whose timeout is over; from any thread."""
        return sum(one.is_alive() for one in self._abandoned)

    @property
    def wants_recycling(self) -> bool:
        """Whether as many threads are abandoned as there may be: a new process would be better."""
        return self.abandoned >= self._count

    def runs(self, runner: object) -> bool:
        """Return whether this is one of the threads."""
        return any(one.thread is runner for one in list(self._threads))

    def add(self, items: Iterable[Item]) -> None:
        """Begin these when there are threads for them."""
        self._waiting.extend(items)
        self._begin()

    def _begin(self) -> None:
        while self._waiting and self._busy < self._count:
            price = self._performer.price()
            most = 1 if price is None else max(int(QUICK_SECONDS / price), 1)
            self._hand(self._free.pop() if self._free else self._new(), most)

    def _hand(self, thread: _JobThread, most: int) -> None:
        """Give a thread what it runs next: several items, if none of them has a timeout."""
        self._loop = loop = asyncio.get_running_loop()
        item = self._waiting.popleft()
        some, timeout = [item], item.job.policy.timeout
        if timeout is not None:
            thread.timer = loop.call_later(timeout, self._late, thread, item)
        while self._waiting and len(some) < most and timeout is None:
            if self._waiting[0].job.policy.timeout is not None:
                break
            some.append(self._waiting.popleft())
        if len(some) > 1 and self._looking is None:
            self._looking = loop.call_later(QUICK_SECONDS, self._look)
        thread.handed.update(some)
        self._handed += len(some)
        thread.batch.extend(some)
        thread.work.put(True)

    def _look(self) -> None:
        """Take back what waits behind work that was thought to be quick, for threads that are free."""
        self._looking = None
        self._waiting.extendleft(reversed(self._take_back()))
        self._begin()

    def _take_back(self) -> list[Item]:
        """Take back what has been handed to threads and has not begun."""
        found: list[Item] = []
        for thread in self._threads:
            while thread.batch:
                try:
                    item = thread.batch.popleft()
                except IndexError:  # it has just been begun
                    break
                thread.handed.discard(item)
                found.append(item)
            if not thread.handed and thread not in self._free:
                self._rest(thread)
        self._handed -= len(found)
        return found

    def _new(self) -> _JobThread:
        thread = _JobThread(self._run)
        self._threads.add(thread)
        thread.thread.start()
        return thread

    def _run(self, me: _JobThread) -> None:
        """Run what this thread is given, until it is told to end."""
        handling.begin()
        batch, over = me.batch, self._over
        while me.work.get():
            while batch:
                try:
                    item = batch.popleft()
                except IndexError:  # it was taken back
                    break
                try:
                    outcome = self._performer.perform(item)
                except BaseException as error:  # the loop has to hear of it, whatever it was
                    outcome = self._performer.failed(item, error)
                over.append((me, item, outcome))
                del item, outcome
                if not self._told:
                    self._told = True
                    assert self._loop is not None
                    try:
                        self._loop.call_soon_threadsafe(self._collect)
                    except RuntimeError:  # it has been closed: nobody is left to be told
                        return

    def _collect(self) -> None:
        self._told = False  # before looking: what comes after that is told again
        while self._over:
            thread, item, outcome = self._over.popleft()
            if item not in thread.handed:  # it was abandoned
                continue
            thread.handed.remove(item)
            self._handed -= 1
            self._rest(thread)
            self._ended(item, outcome)
        self._begin()

    def _rest(self, thread: _JobThread) -> None:
        """Note that a thread is free, when it has nothing left to do."""
        if thread.handed:
            return
        if thread.timer is not None:
            thread.timer.cancel()
            thread.timer = None
        self._free.append(thread)

    def _late(self, thread: _JobThread, item: Item) -> None:
        """Abandon a thread whose handler has taken too long."""
        if item not in thread.handed:
            return
        self._counters.add("abandoned")
        logger.error(
            "%s runs %s for longer than its timeout of %g s: its thread is abandoned, there are %d such",
            item.job.binding.name,
            item.id,
            item.job.policy.timeout,
            self.abandoned + 1,
        )
        self._abandon(thread)
        self._abandoned = [*(one for one in self._abandoned if one.is_alive()), thread.thread]
        self._ended(item, self._performer.timed_out(item))
        self._begin()

    def _abandon(self, thread: _JobThread) -> list[Item]:
        """Do without a thread; returns what it runs."""
        left = list(thread.handed)
        thread.handed.clear()
        self._handed -= len(left)
        if thread.timer is not None:
            thread.timer.cancel()
        thread.work.put(False)
        self._threads.discard(thread)
        return left

    def drain(self) -> list[Item]:
        """Begin no more; returns what waited."""
        waiting = [*self._take_back(), *self._waiting]
        self._waiting.clear()
        if self._looking is not None:
            self._looking.cancel()
        return waiting

    async def end(self, deadline: float, asker: object = None) -> bool:
        """Wait for what runs until a deadline (monotonic seconds); what is late is given up.

        Args:
            deadline: monotonic seconds.
            asker: a thread that is not waited for.

        Returns:
            Whether all ended in time.
        """

        def left() -> list[_JobThread]:
            return [one for one in self._threads if one.handed and one.thread is not asker]

        late = await left_at(deadline, left)
        for thread in late:
            for item in self._abandon(thread):
                self._ended(item, None)
        return not late

    def close(self) -> None:
        """Let the threads end; those that still run one when it is over."""
        for thread in self._threads:
            thread.work.put(False)
        for thread in self._free:
            thread.thread.join()


class _JobThread:
    """One thread, what it is given, and what the loop has not heard the end of."""

    __slots__ = ("batch", "handed", "thread", "timer", "work")

    def __init__(self, run: Callable[[_JobThread], None]) -> None:
        self.work: SimpleQueue[bool] = SimpleQueue()
        self.batch: deque[Item] = deque()
        self.handed: set[Item] = set()
        self.timer: asyncio.TimerHandle | None = None
        self.thread = threading.Thread(target=run, args=(self,), name="rt-job", daemon=True)
