"""Runs flows on asyncio, for any number of coroutines on two connections.

Rules:

- What is open, and who waits for what, belongs to a loop and ends with it (`async_hub.py`): an app may
  be used from one loop after another.
- A first try is bare. Only when it failed, and may be repeated, is the retrier entered.
- Cancelling a caller at any await frees its place; a reply that comes later is dropped.
"""

from __future__ import annotations

import asyncio
import copy
import time
import weakref
from collections.abc import AsyncGenerator
from typing import Any, TypeVar

from redis.exceptions import NoScriptError

from redis_toolkit._core.async_hub import AsyncHub
from redis_toolkit._core.connection import Connections
from redis_toolkit._core.flow import REFUSED, Call, Deadline, Exchange, ExchangeMany, Flow, by_sha, by_text
from redis_toolkit._core.recovery import Failed, describe, partly, retrying_async, sort
from redis_toolkit.errors import RedisToolkitError
from redis_toolkit.settings import Settings

__all__ = ["AsyncDriver"]

T = TypeVar("T")


class AsyncDriver:
    """Runs flows for any number of coroutines, on whatever loop they run.

    Args:
        connections: where connections come from.
        settings: the app's durations.
    """

    def __init__(self, connections: Connections, settings: Settings) -> None:
        self._connections = connections
        self._settings = settings
        self._hubs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncHub] = (
            weakref.WeakKeyDictionary()
        )

    async def run(self, flow: Flow[T]) -> T:
        """Carry out the steps of a flow and return its result; raises what the flow raises."""
        try:
            step = next(flow)
            while True:
                try:
                    answer = await self._perform(step)
                except Exception as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    async def close(self) -> None:
        """Close what the running loop has open. Whoever needs a connection afterwards gets a new one."""
        hub = self._hubs.pop(asyncio.get_running_loop(), None)
        if hub is not None:
            await hub.aclose()
            if hub.end is not None:
                await hub.end.aclose()
        self._forget_ended()

    async def _until_loop_ends(self, hub: AsyncHub) -> AsyncGenerator[None]:
        """Close a hub when its loop ends: `asyncio.run` closes the loop's generators last."""
        try:
            yield
        finally:
            if self._hubs.get(asyncio.get_running_loop()) is hub:
                del self._hubs[asyncio.get_running_loop()]
            await hub.aclose()

    def _forget_ended(self) -> None:
        """Let go of what loops had open that ended without `close`; a hub keeps its loop alive."""
        for reference in self._hubs.keyrefs():
            loop = reference()
            if loop is not None and loop.is_closed():
                self._hubs.pop(loop, None)

    async def _perform(self, step: Call | Exchange | ExchangeMany) -> Any:
        """Try once, on what is open; only when that fails, or nothing is, is there more to it."""
        if isinstance(step, ExchangeMany):
            return await self._many(step)
        now = time.monotonic()
        if step.deadline is not None:
            deadline = step.deadline.begin(now)
        else:
            deadline = now + self._settings.command_timeout
        hub = self._hubs.get(asyncio.get_running_loop())
        first: Failed | None = None
        if hub is not None and hub.is_ready(inbox=not isinstance(step, Call)):
            try:
                if isinstance(step, Exchange):
                    outcome = await hub.exchange(step.request, deadline)
                    return outcome if outcome is REFUSED else step.read(outcome)
                return await _call(hub, step, deadline)
            except Failed as failure:
                first = failure
        return await self._patiently(step, deadline, first)

    async def _patiently(self, step: Call | Exchange, deadline: float, first: Failed | None) -> Any:
        """Try, if nothing was tried yet; where that is safe, try again until the deadline.

        It is tried once only if the server was never there.
        """
        repeatable = isinstance(step, Call) and step.repeatable

        async def once() -> Any:
            hub = await self._connected(deadline, inbox=not isinstance(step, Call))
            if isinstance(step, Call):
                return await _call(hub, step, deadline)
            outcome = await hub.exchange(step.request, deadline)
            return outcome if outcome is REFUSED else step.read(outcome)

        try:
            try:
                if first is None:
                    return await once()
                raise first
            except Failed as failure:
                hopeless = not failure.passes(repeatable=repeatable) or not self._connections.reached
                if hopeless or time.monotonic() >= deadline:
                    raise
            return await retrying_async(deadline, repeatable=repeatable)(once)
        except Failed as failure:
            # A copy: all who waited on a lost connection share the failure, and each adds a traceback.
            raise copy.copy(failure.error) from failure.__cause__

    async def _connected(self, deadline: float, *, inbox: bool) -> AsyncHub:
        loop = asyncio.get_running_loop()
        hub = self._hubs.get(loop)
        if hub is None:
            self._forget_ended()
            hub = self._hubs[loop] = AsyncHub(self._connections, loop)
            hub.end = self._until_loop_ends(hub)
            await anext(hub.end)
        await hub.connect(deadline, inbox=inbox)
        return hub

    async def _many(self, step: ExchangeMany) -> list[Any]:
        """Run a window of exchanges: as many coroutines as fit, each taking the next request."""
        results: list[Any] = [None] * len(step.requests)
        following = iter(range(len(step.requests)))

        async def work() -> None:
            for place in following:
                one = Exchange(step.requests[place], step.read, Deadline(step.timeout_ms))
                try:
                    results[place] = await self._perform(one)
                except RedisToolkitError as error:
                    results[place] = error

        async with asyncio.TaskGroup() as group:
            for _ in range(min(step.window, len(results))):
                group.create_task(work())
        return results


async def _call(hub: AsyncHub, step: Call, deadline: float) -> list[Any]:
    """Carry out a call on connections that are there."""
    replies = await hub.call([by_sha(command) for command in step.commands], deadline)
    for reply in replies:
        if isinstance(reply, Exception):
            return await _with_errors(hub, step, replies, deadline)
    return replies


async def _with_errors(hub: AsyncHub, step: Call, replies: list[Any], deadline: float) -> list[Any]:
    """Send those scripts by their text that the server lacks; raise what failed otherwise."""
    missing = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if missing:
        again = await hub.call([by_text(step.commands[place]) for place in missing], deadline)
        for place, reply in zip(missing, again, strict=True):
            replies[place] = reply
    some = any(not isinstance(reply, Exception) for reply in replies)
    for command, reply in zip(step.commands, replies, strict=True):
        if isinstance(reply, Failed):
            failure, cause = Failed(reply.fate, reply.error), None
        elif isinstance(reply, Exception):
            failure, cause = sort(reply, sent=True, where=hub.where, doing=describe(command)), reply
        else:
            continue
        raise (partly(failure, hub.where) if some else failure) from cause
    return replies
