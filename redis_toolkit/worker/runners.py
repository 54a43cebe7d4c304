"""Tasks on the event loop that run items of work, each one item after another.

Rules:

- At most as many items are begun as there are places; those that wait are begun in order.
- A task is not made for each item: one that has ended an item takes the next, and while an item waits for
  something another task goes on with the rest. After `SLICE` the loop gets its turn.
- Inside a handler `asyncio.current_task` is the task that runs it, and cancelling that cancels the handler. A
  task that was cancelled, by whoever it was, ends with its item; another takes its place.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from typing import TypeVar

from redis_toolkit._core.contexts import Rest
from redis_toolkit._core.flows.work import Settlement
from redis_toolkit.worker import handling
from redis_toolkit.worker.holdings import Item
from redis_toolkit.worker.performing import Performer

__all__ = ["Ended", "Runners", "left_at"]

logger = logging.getLogger("redis_toolkit")

T = TypeVar("T")
SLICE = 0.001
"""Seconds for which a task takes one item after another before the loop gets its turn."""
LOOK = 0.01
CANCEL_SECONDS = 1.0
"""Seconds that a cancelled handler has to end, before it is given up."""

Ended = Callable[[Item, Settlement | None], None]
"""Called with an item and how it ended; None when it was cancelled, but not by a caller or a timeout."""


async def left_at(deadline: float, left: Callable[[], list[T]]) -> list[T]:
    """Wait until nothing is left; returns what is at a deadline (monotonic seconds)."""
    while True:
        found = left()
        if not found or time.monotonic() >= deadline:
            return found
        await asyncio.sleep(LOOK)


class Runners:
    """Runs items, up to ``places`` at once.

    Args:
        places: how many.
        performer: runs one.
        ended: called when one has ended.
        turn: called before the loop gets its turn in the middle of many items.
    """

    def __init__(
        self, places: int, performer: Performer, ended: Ended, turn: Callable[[], None] = lambda: None
    ) -> None:
        self.places = places
        self.perform = performer.aperform
        self.failed = performer.failed
        self.ended = ended
        self.turn = turn
        self.waiting: deque[Item] = deque()
        self.resting: list[_Runner] = []
        self.called: _Runner | None = None
        self.busy = 0
        self._tasks: dict[asyncio.Task[None], _Runner] = {}
        self._context: Context | None = None
        self.closed = False

    @property
    def load(self) -> int:
        """How many items run or wait."""
        return self.busy + len(self.waiting)

    def runs(self, runner: object) -> bool:
        """Return whether this is one of the tasks."""
        return runner in self._tasks

    def add(self, items: Iterable[Item]) -> None:
        """Begin these when there are places."""
        self.waiting.extend(items)
        self.call()

    def call(self) -> None:
        """See to it that one task more takes items, if some wait and there is a place for one."""
        if self.called is not None or not self.waiting or self.busy >= self.places:
            return
        if self.resting:
            self.called = self.resting.pop()
            self.called.wake()
        else:
            self.called = runner = _Runner(self)
            if self._context is None:
                self._context = copy_context()
            task = asyncio.get_running_loop().create_task(runner.run(), context=self._context.copy())
            runner.task = task
            self._tasks[task] = runner
            task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[None]) -> None:
        """Replace a task that has ended, as one does that was cancelled."""
        runner = self._tasks.pop(task)
        if runner in self.resting:
            self.resting.remove(runner)
        if self.called is runner:
            self.called = None
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a task that runs handlers ended", exc_info=error)
        self.call()

    async def end(self, deadline: float, asker: object = None) -> bool:
        """Wait for what runs; what is late is cancelled, and given up a second later.

        Args:
            deadline: monotonic seconds.
            asker: a task that is not waited for.

        Returns:
            Whether all ended in time.
        """

        def left() -> list[_Runner]:
            runners = list(self._tasks.values())
            return [one for one in runners if one.item is not None and one.task is not asker]

        late = await left_at(deadline, left)
        for runner in late:
            runner.stop()
        stubborn = await left_at(
            time.monotonic() + CANCEL_SECONDS, lambda: [one for one in left() if one in late]
        )
        for runner in stubborn:
            runner.give_up()
        return not late

    def drain(self) -> list[Item]:
        """Begin no more, and let each task end with what it runs; returns what waited."""
        self.closed = True
        waiting = list(self.waiting)
        self.waiting.clear()
        for runner in self.resting:
            runner.wake()
        return waiting

    async def close(self) -> None:
        """Wait until the tasks have ended, but for those that were given up."""
        ending = [task for task, runner in self._tasks.items() if not runner.given_up]
        if ending:
            await asyncio.wait(ending)


class _Runner:
    """One task, and the item that it runs."""

    __slots__ = ("_crew", "_loop", "_rest", "_stopped", "given_up", "item", "task")

    def __init__(self, crew: Runners) -> None:
        self._crew = crew
        self._loop = asyncio.get_running_loop()
        self._rest: asyncio.Future[None] | None = None
        self._stopped = False
        self.given_up = False
        self.item: Item | None = None
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Take items as long as there are any; then rest until called."""
        handling.begin()
        crew, task = self._crew, asyncio.current_task()
        assert task is not None
        while True:
            if crew.called is self:
                crew.called = None
            until = time.monotonic() + SLICE
            while crew.waiting and crew.busy < crew.places:
                if time.monotonic() >= until:
                    crew.turn()
                    break
                if await self._run_next():
                    until = time.monotonic() + SLICE
                if task.cancelling():
                    return
            if crew.closed:
                return
            crew.call()
            self._rest = self._loop.create_future()
            crew.resting.append(self)
            await self._rest

    async def _run_next(self) -> bool:
        """Run an item; returns whether it has waited for something."""
        crew, waited = self._crew, False
        item = crew.waiting.popleft()
        crew.busy += 1
        self.item = item
        if crew.called is None:
            crew.call()
        outcome: Settlement | None
        run, coroutine = copy_context().run, crew.perform(item)
        try:
            awaited = run(coroutine.send, None)
            waited = True
            outcome = await Rest(run, coroutine, awaited)
        except StopIteration as ended:
            outcome = ended.value
        except GeneratorExit:  # the loop is gone: nobody is left to be told
            raise
        except asyncio.CancelledError:
            outcome = None
        except BaseException as error:
            outcome = crew.failed(item, error)
        if self._stopped and outcome is not None and outcome.outcome.state not in ("ok", "done"):
            outcome = None  # it failed because it was cancelled
        crew.busy -= 1
        if self.item is item:  # else it was given up
            self.item = None
            crew.ended(item, outcome)
        return waited

    def wake(self) -> None:
        """Let it take items again."""
        if self._rest is not None and not self._rest.done():
            self._rest.set_result(None)

    def stop(self) -> None:
        """Cancel what it runs, as the engine stops."""
        self._stopped = True
        if self.task is not None:
            self.task.cancel()

    def give_up(self) -> None:
        """Say that what it runs is over, though it goes on."""
        item, self.item = self.item, None
        self.given_up = True
        if item is not None:
            self._crew.ended(item, None)
