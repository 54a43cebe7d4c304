"""Runs one job: from a claimed entry to its settlement, around one call of the handler.

Rules:

- Whatever the bytes or the handler do, a settlement comes of it: nothing is lost, and nothing runs for ever.
- Each call of a handler has a context of its own: a ``def`` handler gets one here, an ``async def`` one runs
  in the task of its own that its engine has made.
- What cannot be read, or fits no handler, is not tried again: it would be the same the next time.
- A task that was cancelled ends as that, whatever its handler makes of it, unless that was not told.
- No I/O here: engines claim and settle. (`CurrentTask.progress` is a call of the handler's.)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextvars import copy_context
from functools import partial
from typing import Any

from redis_toolkit._core.flow import Command
from redis_toolkit._core.flows.work import Claimed, Settlement
from redis_toolkit.jobs import Durable, Job
from redis_toolkit.strange import tamed
from redis_toolkit.task_context import running
from redis_toolkit.worker import forked, handling
from redis_toolkit.worker.answering import OVERHEAD, QUICK
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.ending import Ending
from redis_toolkit.worker.heartbeat import ServerClock
from redis_toolkit.worker.holdings import Holdings, Item
from redis_toolkit.worker.intake import Intake
from redis_toolkit.worker.task_view import describe, task_dict

__all__ = ["Performer"]


class Performer:
    """Reads, runs and ends the work of one source.

    Args:
        durable: the source and its jobs.
        worker: how this process is named in records and tasks.
        clock: the server's clock, for expiries.
        counters: where everything unusual is counted.
        holdings: where cancelled ids are known.
        consumer: this process's name in the group; None: as ``worker``.
        send_tracebacks: whether the error of a task, as its caller gets it, has the handler's traceback.

    Attributes:
        read: called with what was claimed, returns what is to be run; or the settlement of what is not:
            garbage, poison, expired, unknown, cancelled.
        learns: whether it notes how long ``async def`` handlers take.
    """

    def __init__(
        self,
        durable: Durable,
        worker: str,
        clock: ServerClock,
        counters: Counters,
        holdings: Holdings,
        *,
        consumer: str | None = None,
        send_tracebacks: bool = False,
    ) -> None:
        self._source = durable.source
        self._worker = worker
        self.learns = False
        self._pace: float | None = None
        self._paces: dict[Job, float] = {}
        self._ending = Ending(durable, worker, counters, send_tracebacks=send_tracebacks)
        intake = Intake(durable, clock, counters, holdings, self._ending)
        self.read: Callable[[Claimed], Item | Settlement] = intake.task if durable.is_queue else intake.event
        for kind, job in durable.jobs.items():  # what is done once is the group's, or the task's
            job.binding.scope = (kind if durable.is_queue else durable.source.group) or job.binding.name
        self._describe = partial(describe, durable.source, consumer or worker)

    def price(self) -> float | None:
        """Return the seconds that one more piece of quick work takes; None when not quick, or unknown."""
        pace = self._pace
        return None if pace is None or pace > QUICK else max(pace, OVERHEAD)

    def expected(self, item: Item) -> float | None:
        """Return the seconds that an item takes, by experience with its job; None before the first."""
        return self._paces.get(item.job)

    def perform(self, item: Item) -> Settlement:
        """Run a ``def`` handler; returns how it ended."""
        if item.cancelled or item.lost:
            return self._ending.unbegun(item)
        item.started = started = time.monotonic()
        before = forked.generation
        try:
            result = copy_context().run(self._call, item)
        except BaseException as error:
            forked.end_fork(before, error)
            return self._ending.failed(item, error)
        finally:
            self._learn(item.job, time.monotonic() - started)
        if forked.generation != before:
            forked.end_fork(before)
        return self._ending.done(item, result)

    async def aperform(self, item: Item) -> Settlement:
        """Run an ``async def`` handler, within its timeout; returns how it ended.

        It is awaited in a task of its own, whose context is the handler's. While the handler runs,
        ``item.interrupt`` cancels it, from any thread.

        Raises:
            asyncio.CancelledError: it was cancelled by its engine, which stops; not by a caller or a timeout.
        """
        if item.cancelled or item.lost:
            return self._ending.unbegun(item)
        item.started = time.monotonic()
        before, limit = forked.generation, item.job.policy.timeout
        task = asyncio.current_task()
        assert task is not None
        item.interrupt = partial(_interrupt, item, task)
        late = None
        try:
            if limit is None:
                result = await self._call(item)
            else:
                async with asyncio.timeout(limit) as late:
                    result = await self._call(item)
        except BaseException as error:
            error = tamed(error)
            if isinstance(error, GeneratorExit) and not handling.is_running(task):
                raise  # its loop is gone: nobody is left to settle anything
            forked.end_fork(before, error)
            return self._raised(item, error, task, late)
        finally:
            item.interrupt = None
            if self.learns:
                self._learn(item.job, time.monotonic() - item.started)
        if forked.generation != before:
            forked.end_fork(before)
        if item.told:
            _calm(task)
        return self._ending.done(item, result)

    def timed_out(self, item: Item) -> Settlement:
        """Return the settlement of an item whose thread goes on beyond its timeout."""
        return self._ending.failed(item, _too_late(item), "timeout")

    def failed(self, item: Item, error: BaseException) -> Settlement:
        """Return the settlement of an item whose handler was ended from outside."""
        return self._ending.failed(item, error)

    def after(
        self, counted: Iterable[Settlement], waiters: Iterable[tuple[bytes, list[str]]]
    ) -> list[Command]:
        """Return what to send once settlements have counted: replies to who waits, and announcements."""
        return self._ending.after(counted, waiters)

    # -- one call ---------------------------------------------------------------------------------

    def _call(self, item: Item) -> Any:
        """Call the handler, in the context that is its own."""
        job = item.job
        if item.fields is not None:
            running.set((self._describe, item))
            if job.as_task:
                item.message.data = task_dict(
                    self._source,
                    item.claimed,
                    item.fields,
                    item.message.data,
                    "processing",
                    worker_id=self._worker,
                    started_at=time.time(),
                )
        return job.binding.call(item.message, spread=item.spread)

    def _raised(
        self, item: Item, error: BaseException, task: asyncio.Task[Any], late: asyncio.Timeout | None
    ) -> Settlement:
        if isinstance(error, asyncio.CancelledError):
            if item.told:
                _calm(task)
            elif task.cancelling():
                raise error
        elif late is not None and late.expired() and isinstance(error, TimeoutError):
            why = _too_late(item)
            why.__cause__ = error.__cause__ or error
            return self._ending.failed(item, why, "timeout")
        return self._ending.failed(item, error)

    def _learn(self, job: Job, seconds: float) -> None:
        """Follow a longer duration at once and a shorter one slowly: a mistake upwards costs less."""
        known = self._pace
        self._pace = seconds if known is None or seconds > known else known + (seconds - known) * 0.2
        known = self._paces.get(job)
        self._paces[job] = seconds if known is None or seconds > known else known + (seconds - known) * 0.2


def _interrupt(item: Item, task: asyncio.Task[Any]) -> None:
    """Cancel a handler on its loop, from any thread."""
    try:
        task.get_loop().call_soon_threadsafe(_cancel, item, task)
    except RuntimeError:  # the loop has been closed: nothing runs on it any more
        return


def _cancel(item: Item, task: asyncio.Task[Any]) -> None:
    if item.interrupt is not None:  # else it has ended meanwhile
        item.told = True
        task.cancel()


def _calm(task: asyncio.Task[Any]) -> None:
    """Take back that a task was cancelled, as that has been heeded and what follows is the engine's."""
    if task.cancelling():
        task.uncancel()


def _too_late(item: Item) -> TimeoutError:
    limit = item.job.policy.timeout or 0.0
    return TimeoutError(f"an attempt may take {limit:g} s, and this one has taken longer")
