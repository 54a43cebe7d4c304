"""`QueueControl`: looks after a queue, each call in two forms, to wait for and to await.

Rules: an ``a``-twin has its parameters, its results and its errors; a test compares the signatures. What is
asked is a flow, made once for both.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from redis_toolkit._core import loops
from redis_toolkit._core.flow import Deadline, Flow
from redis_toolkit._core.flows import leases, tasks
from redis_toolkit._core.flows.work import Source
from redis_toolkit.app import App
from redis_toolkit.dead_letters import DeadLetter, dead_letter, requeued
from redis_toolkit.errors import ConfigurationError, DecodeError, RedisToolkitError, RequestTimeout
from redis_toolkit.patterns.queue_stats import QueueStats
from redis_toolkit.patterns.task_handle import wait_ms
from redis_toolkit.settings import check_whole
from redis_toolkit.task_envelope import read_task
from redis_toolkit.wire import Wire

__all__ = ["QueueControl"]

T = TypeVar("T")
FIRST_LOOK, LAST_LOOK = 0.02, 0.5
"""Seconds between two looks of `QueueControl.join`, growing from the one to the other."""
PAGE = 500
LOOK_MS = 500
"""How long a look may take that only says why somebody has waited in vain."""
MARK = "unique"
"""What is in the body of each task that holds a unique key."""


class QueueControl:
    """A queue, as who looks after it sees it. A `TaskQueue` is one that tasks are submitted to.

    Args:
        name: its name.
        priorities: highest first.
        app: whose server and codec are used.
        result_ttl_ms: how long ends are kept.
    """

    def __init__(self, name: str, priorities: tuple[str, ...], app: App, result_ttl_ms: int) -> None:
        self.name = name
        self.priorities = priorities
        self.app = app
        self._source: Source = tasks.queue_source(name, priorities)
        self._wire: Wire = app._calls.wire_of(None)
        self._result_ttl_ms = result_ttl_ms

    # -- all of it --------------------------------------------------------------------------------

    def pause(self) -> None:
        """Let no worker take a task any more; what runs goes on, and tasks can be submitted.

        Raises:
            RedisToolkitError: the server cannot be reached or refuses.
        """
        self._run("pause", leases.pause(self._source))

    async def apause(self) -> None:
        """Await what `pause` does."""
        await self._arun(leases.pause(self._source))

    def resume(self) -> None:
        """Let workers take tasks again.

        Raises:
            RedisToolkitError: the server cannot be reached or refuses.
        """
        self._run("resume", leases.resume(self._source))

    async def aresume(self) -> None:
        """Await what `resume` does."""
        await self._arun(leases.resume(self._source))

    def purge(self) -> int:
        """Remove every task that no worker has taken; returns how many.

        What waits for the end of one of them hears `TaskUnknown` within ten seconds. Dead letters stay.

        Raises:
            RedisToolkitError: the server cannot be reached or refuses; some may have been removed.
        """
        return self._run("purge", self._purge())

    async def apurge(self) -> int:
        """Await what `purge` does."""
        return await self._arun(self._purge())

    def stats(self) -> QueueStats:
        """Return what the queue holds now, all counted at one moment.

        Raises:
            RedisToolkitError: the server cannot be reached or refuses.
        """
        return self._run("stats", self._stats())

    async def astats(self) -> QueueStats:
        """Await what `stats` does."""
        return await self._arun(self._stats())

    def join(self, timeout: float | datetime.timedelta | None = None) -> None:
        """Wait until no task is ready, delayed or running.

        Args:
            timeout: seconds, or a timedelta, to wait at most; None waits without end.

        Raises:
            RequestTimeout: there still are some; also the builtin ``TimeoutError``.

        It looks every half second (at first more often): for something to tell when a queue is empty, every
        end of a task would have to look whether it is the last one.
        """
        loops.check_blocking("join")
        for pause in self._looks(timeout):
            if not self.app._driver.run(self._stats()).pending:
                return
            time.sleep(pause)

    async def ajoin(self, timeout: float | datetime.timedelta | None = None) -> None:
        """Await what `join` does: the same parameters, results and errors."""
        for pause in self._looks(timeout):
            if not (await self._arun(self._stats())).pending:
                return
            await asyncio.sleep(pause)

    # -- dead letters -----------------------------------------------------------------------------

    def dead(self, limit: int = 100, after: str = "0-0") -> list[DeadLetter]:
        """Return tasks that were given up, the oldest first (``XRANGE``).

        Args:
            limit: how many at most.
            after: the ``entry`` of the letter behind which to go on.

        Raises:
            RedisToolkitError: the server cannot be reached or refuses.

        Example:
            ``queue.retry_dead([letter for letter in queue.dead() if letter.reason == "timeout"])``
        """
        return self._run("dead", self._dead(limit, after))

    async def adead(self, limit: int = 100, after: str = "0-0") -> list[DeadLetter]:
        """Await what `dead` does."""
        return await self._arun(self._dead(limit, after))

    def retry_dead(self, ids: Iterable[str | DeadLetter] | None = None) -> int:
        """Put dead letters back into the queue, as first attempts; returns how many.

        One that is none, or none any more because somebody else has put it back, does not count.

        Args:
            ids: what `dead` returned, or the ``entry`` of each, or the ids of their tasks; all of them
                if none are named.

        Raises:
            StoreFull: the server is out of memory; those before it were put back.
            RedisToolkitError: the server cannot be reached or refuses.
        """
        return self._run("retry_dead", self._retry_dead(_listed(ids)))

    async def aretry_dead(self, ids: Iterable[str | DeadLetter] | None = None) -> int:
        """Await what `retry_dead` does: the same parameters, results and errors."""
        return await self._arun(self._retry_dead(_listed(ids)))

    # -- how --------------------------------------------------------------------------------------

    def _run(self, name: str, flow: Flow[T]) -> T:
        return self.app._run(name, flow)

    async def _arun(self, flow: Flow[T]) -> T:
        return await self.app._async_driver.run(flow)

    def _stats(self) -> Flow[QueueStats]:
        found = yield from tasks.stats(self._source, self.priorities)
        count = found.counters.get
        return QueueStats(
            ready=found.ready,
            running=found.running,
            delayed=found.later,
            dead=found.dead,
            paused=found.paused,
            consumers=found.consumers,
            done=count("done", 0),
            failed=count("dead", 0) + count("failed", 0),
            cancelled=count("cancelled", 0),
            expired=count("expired", 0),
            retried=count("later", 0),
        )

    def _why_waiting(self) -> Flow[str]:
        """Return what to add to the error of a wait that was in vain: something, when no worker is there."""
        try:
            found = yield from tasks.stats(self._source, self.priorities, Deadline(LOOK_MS))
        except RedisToolkitError:
            return ""  # it is about the wait, whose own error says enough
        if found.consumers:
            return "; the queue is paused" if found.paused else ""
        return f": no worker serves queue {self.name!r} (stats().consumers is 0)"

    def _looks(self, timeout: float | datetime.timedelta | None) -> Iterator[float]:
        """Yield the seconds until each next look, until the timeout.

        Raises:
            RequestTimeout: it is over.
        """
        end = time.monotonic() + wait_ms(timeout) / 1000
        pause = FIRST_LOOK
        while True:
            left = end - time.monotonic()
            yield min(pause, max(left, 0))
            if left <= 0:
                raise RequestTimeout(f"queue {self.name!r} is not empty after {timeout} s")
            pause = min(pause * 1.5, LAST_LOOK)

    def _purge(self) -> Flow[int]:
        removed, bodies = yield from tasks.purge(self._source, MARK)
        locks = []
        for body in bodies:
            try:
                task = read_task(self._wire, body)
            except DecodeError:
                continue  # not one of ours: it holds nothing
            if task.unique:
                locks.append((task.unique, task.id))
        for start in range(0, len(locks), PAGE):
            yield from tasks.unlock(self.name, locks[start : start + PAGE])
        return removed

    def _dead(self, limit: int, after: str) -> Flow[list[DeadLetter]]:
        check_whole("limit", limit)
        letters = yield from leases.dead(self._source, limit, after)
        return [dead_letter(letter, self._payload) for letter in letters]

    def _payload(self, body: bytes) -> Any:
        return read_task(self._wire, body).data

    def _retry_dead(self, wanted: list[str | DeadLetter] | None) -> Flow[int]:
        if wanted is None:
            return (yield from requeued(self._source, None))
        texts = {one for one in wanted if isinstance(one, str)}
        ids = {one.encode("utf-8", "replace") for one in texts}
        entries = [one.entry for one in wanted if isinstance(one, DeadLetter)]
        after = "0-0"
        while ids:
            page = yield from leases.dead(self._source, PAGE, after)
            entries += [
                letter.entry for letter in page if letter.fields.get("id") in ids or letter.entry in texts
            ]
            if len(page) < PAGE:
                break
            after = page[-1].entry
        return (yield from requeued(self._source, entries))


def _listed(ids: Iterable[str | DeadLetter] | None) -> list[str | DeadLetter] | None:
    """Return the dead letters that a caller names.

    Raises:
        ConfigurationError: one is named otherwise than by its task's id or a `DeadLetter`.
    """
    if ids is None:
        return None
    if isinstance(ids, str | DeadLetter) or not isinstance(ids, Iterable):
        raise ConfigurationError("dead letters come as a list of them: for one, write [letter]")
    found = list(ids)
    for one in found:
        if not isinstance(one, str | DeadLetter):
            raise ConfigurationError(f"{ascii(one)[:80]} is neither a task's id nor a DeadLetter")
    return found
