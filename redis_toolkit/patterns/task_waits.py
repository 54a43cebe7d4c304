"""Who waits for which task on an event loop: one wait for each task, however many coroutines await it.

Rules:

- Replies that arrive on a loop are told apart by the id of their task. So the first coroutine that waits
  for an id leads: it runs the wait, and the others get its outcome. When it gives up, another one leads.
- Two queues may have tasks of one id, where callers chose it. The second such wait gets connections of
  its own.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from redis_toolkit._core.async_driver import AsyncDriver
from redis_toolkit._core.connection import Connections
from redis_toolkit._core.flow import Flow
from redis_toolkit.errors import RequestTimeout
from redis_toolkit.settings import Settings
from redis_toolkit.wire import Reply

__all__ = ["TaskWaits", "waits_of"]

Begin: TypeAlias = Callable[[int], Flow[Reply]]
"""Makes the flow that waits, given its timeout in ms."""


@dataclass(eq=False, slots=True)
class _Leading:
    """A wait that is being run, and who else wants its outcome: None means that there was none."""

    queue: str
    followers: list[asyncio.Future[Reply | None]] = field(default_factory=list)


class TaskWaits:
    """The waits of all loops that use one driver.

    Args:
        driver: runs them.
    """

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = weakref.ref(driver)
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Leading]] = (
            weakref.WeakKeyDictionary()
        )

    async def wait(
        self,
        queue: str,
        task_id: str,
        begin: Begin,
        timeout_ms: int,
        connections: Connections,
        settings: Settings,
    ) -> Reply:
        """Wait for the end of a task, together with others.

        Raises:
            RequestTimeout: it has not ended after ``timeout_ms``.
            RedisToolkitError: as the wait itself.
        """
        loop = asyncio.get_running_loop()
        waits = self._loops.setdefault(loop, {})
        end = loop.time() + timeout_ms / 1000
        while (left_ms := round((end - loop.time()) * 1000)) > 0:
            leading = waits.get(task_id)
            if leading is None:
                return await self._lead(waits, queue, task_id, begin(left_ms))
            if leading.queue != queue:
                return await _apart(AsyncDriver(connections, settings), begin(left_ms))
            reply = await _follow(leading, loop, end)
            if reply is not None:
                return reply
        raise RequestTimeout(f"task {task_id} of queue {queue!r} has not ended after {timeout_ms / 1000:g} s")

    async def _lead(self, waits: dict[str, _Leading], queue: str, task_id: str, flow: Flow[Reply]) -> Reply:
        driver = self._driver()
        assert driver is not None  # who calls has it
        leading = waits[task_id] = _Leading(queue)
        reply: Reply | None = None
        try:
            reply = await driver.run(flow)
            return reply
        finally:
            del waits[task_id]
            for follower in leading.followers:
                if not follower.done():
                    follower.set_result(reply)


async def _follow(leading: _Leading, loop: asyncio.AbstractEventLoop, end: float) -> Reply | None:
    """Return the outcome of a wait that another coroutine runs; None if it has none by the end."""
    outcome: asyncio.Future[Reply | None] = loop.create_future()
    leading.followers.append(outcome)

    def give_up() -> None:
        if not outcome.done():
            outcome.set_result(None)

    timer = loop.call_at(end, give_up)
    try:
        return await outcome
    finally:
        timer.cancel()


async def _apart(driver: AsyncDriver, flow: Flow[Reply]) -> Reply:
    try:
        return await driver.run(flow)
    finally:
        await driver.close()


_waits: weakref.WeakKeyDictionary[AsyncDriver, TaskWaits] = weakref.WeakKeyDictionary()


def waits_of(driver: AsyncDriver) -> TaskWaits:
    """Return the waits of a driver; apps that are siblings share theirs."""
    found = _waits.get(driver)
    if found is None:
        found = _waits.setdefault(driver, TaskWaits(driver))
    return found
