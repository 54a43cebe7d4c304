"""Runs flows on asyncio: one connection for commands and one inbox for replies, for all callers.

Rules:

- Replies to all requests of a loop arrive in one list, the inbox, which one blocking pop watches.
  Each caller has a future, found by the id of its request.
- A new inbox key for each connection: a reply that was popped on a lost connection is gone, so its
  caller hears `OutcomeUnknown` at once instead of waiting.
- Cancelling a caller at any await frees its place; a reply that comes later is dropped.
- What belongs to a loop ends with it: an app may be used from one loop after another.
"""

from __future__ import annotations

import asyncio
import copy
import secrets
import time
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from redis.exceptions import NoScriptError, ResponseError

from redis_toolkit import keys
from redis_toolkit._core.async_link import AsyncLink
from redis_toolkit._core.connection import Connections
from redis_toolkit._core.flow import (
    REFUSED,
    Call,
    Exchange,
    ExchangeMany,
    Flow,
    Outgoing,
    ScriptCall,
    by_sha,
    by_text,
)
from redis_toolkit._core.recovery import Failed, Fate, retrying_async, sort
from redis_toolkit.errors import RedisToolkitError, RequestTimeout
from redis_toolkit.settings import Settings
from redis_toolkit.wire import Reply, reply_id

__all__ = ["AsyncDriver"]

T = TypeVar("T")
INBOX_BLOCK = 2.0
"""Seconds that one pop on the inbox waits on the server."""
INBOX_MARGIN = 5.0
"""Seconds beyond that after which the inbox connection counts as dead."""
INBOX_BATCH = 1000


class AsyncDriver:
    """Runs flows for any number of coroutines, on whatever loop they run.

    Args:
        connections: where connections come from.
        settings: the app's durations.
    """

    def __init__(self, connections: Connections, settings: Settings) -> None:
        self._connections = connections
        self._settings = settings
        self._hubs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Hub] = weakref.WeakKeyDictionary()

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
        self._forget_ended()

    def _forget_ended(self) -> None:
        """Let go of what loops had open that ended without `close`; a hub keeps its loop alive."""
        for reference in self._hubs.keyrefs():
            loop = reference()
            if loop is not None and loop.is_closed():
                self._hubs.pop(loop, None)

    async def _perform(self, step: Call | Exchange | ExchangeMany) -> Any:
        if isinstance(step, Call):
            deadline = time.monotonic() + self._settings.command_timeout
            if step.deadline is not None:
                deadline = step.deadline.begin(time.monotonic())
            return await self._patiently(
                partial(self._call, step, deadline), deadline, repeatable=step.repeatable
            )
        if isinstance(step, Exchange):
            deadline = step.deadline.begin(time.monotonic())
            return await self._patiently(
                partial(self._exchange, step.request, step.read, deadline), deadline, repeatable=False
            )
        return await self._many(step)

    async def _patiently(self, once: Callable[[], Awaitable[T]], deadline: float, *, repeatable: bool) -> T:
        """Try once; where that is safe, try again until the deadline, if the server was ever there."""
        try:
            try:
                return await once()
            except Failed as failure:
                passing = failure.fate is Fate.NOT_EXECUTED or (repeatable and failure.fate is Fate.UNKNOWN)
                if not passing or not self._connections.reached or time.monotonic() >= deadline:
                    raise
            result: T = await retrying_async(deadline, repeatable=repeatable)(once)
            return result
        except Failed as failure:
            # A copy: all who waited on a lost connection share the failure, and each adds a traceback.
            raise copy.copy(failure.error) from failure.__cause__

    async def _hub(self, deadline: float) -> _Hub:
        loop = asyncio.get_running_loop()
        hub = self._hubs.get(loop)
        if hub is None:
            self._forget_ended()
            hub = self._hubs[loop] = _Hub(self._connections, loop)
        await hub.connect(deadline)
        return hub

    async def _call(self, step: Call, deadline: float) -> list[Any]:
        hub = await self._hub(deadline)
        replies = await hub.call([by_sha(command) for command in step.commands], deadline)
        missing = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if missing:
            again = await hub.call([by_text(step.commands[place]) for place in missing], deadline)
            for place, reply in zip(missing, again, strict=True):
                replies[place] = reply
        for reply in replies:
            if isinstance(reply, Failed):
                raise reply
            if isinstance(reply, ResponseError):
                raise sort(reply, sent=True, where=hub.where) from reply
        return replies

    async def _exchange(self, request: Outgoing, read: Callable[[bytes], Reply], deadline: float) -> Any:
        hub = await self._hub(deadline)
        outcome = await hub.exchange(request, deadline)
        return outcome if outcome is REFUSED else read(outcome)

    async def _many(self, step: ExchangeMany) -> list[Any]:
        """Run a window of exchanges: as many coroutines as fit, each taking the next request."""
        results: list[Any] = [None] * len(step.requests)
        following = iter(range(len(step.requests)))

        async def work() -> None:
            for place in following:
                deadline = time.monotonic() + step.timeout_ms / 1000
                once = partial(self._exchange, step.requests[place], step.read, deadline)
                try:
                    results[place] = await self._patiently(once, deadline, repeatable=False)
                except RedisToolkitError as error:
                    results[place] = error

        async with asyncio.TaskGroup() as group:
            for _ in range(min(step.window, len(results))):
                group.create_task(work())
        return results


class _Hub:
    """What one loop has open: the two connections, and who waits for which reply."""

    def __init__(self, connections: Connections, loop: asyncio.AbstractEventLoop) -> None:
        self.where = connections.url
        self._connections = connections
        self._loop = loop
        self._client = secrets.token_hex(8)
        self._generation = 0
        self._inbox_key = ""
        self._commands: AsyncLink | None = None
        self._inbox: AsyncLink | None = None
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._connecting = asyncio.Lock()
        self._watchdog: asyncio.TimerHandle | None = None

    async def connect(self, deadline: float) -> None:
        """See that both connections are there.

        Raises:
            Failed: not by the deadline.
        """
        if self._ready():
            return
        try:
            async with asyncio.timeout_at(self._loop.time() + deadline - time.monotonic()), self._connecting:
                if self._commands is None or self._commands.lost is not None:
                    self._commands = await AsyncLink.open(self._connections, deadline)
                if self._inbox is None or self._inbox.lost is not None:
                    self._inbox = await AsyncLink.open(self._connections, deadline)
                    self._generation += 1
                    self._inbox_key = keys.inbox(self._client, self._generation)
                    self._watch_inbox()
                self.where = self._commands.where
        except TimeoutError as error:
            raise sort(error, sent=False, where=self.where) from error

    def _ready(self) -> bool:
        return (
            self._commands is not None
            and self._commands.lost is None
            and self._inbox is not None
            and self._inbox.lost is None
        )

    async def call(self, commands: list[Any], deadline: float) -> list[Any]:
        """Send commands and return their replies; error replies and `Failed` are among them."""
        link = self._commands
        assert link is not None
        await link.writable(deadline)
        done = self._loop.create_future()
        replies: list[Any] = []

        def take(reply: Any) -> None:
            replies.append(reply)
            if len(replies) == len(commands) and not done.done():
                done.set_result(replies)

        link.send(commands, [take] * len(commands))
        try:
            async with asyncio.timeout_at(self._loop.time() + deadline - time.monotonic()):
                return list(await done)
        except TimeoutError as error:
            link.suspect()
            raise sort(error, sent=True, where=self.where) from error

    async def exchange(self, request: Outgoing, deadline: float) -> Any:
        """Send a request and wait for the body of its reply, or `REFUSED`.

        Raises:
            RequestTimeout: none by the deadline.
            Failed: refused by the server, or a connection was lost.
        """
        link = self._commands
        assert link is not None
        await link.writable(deadline)
        left = deadline - time.monotonic()
        script = request.build(self._inbox_key, max(int(left * 1000), 1))
        done = self._waiting[request.id] = self._loop.create_future()
        timer = self._loop.call_later(max(left, 0), _time_out, done, request)
        link.send((by_sha(script),), (partial(self._accepted, done, script),))
        try:
            return await done
        except RequestTimeout:
            link.suspect()
            raise
        finally:
            timer.cancel()
            self._waiting.pop(request.id, None)

    async def aclose(self) -> None:
        """Close both connections; whoever waits hears that the outcome is unknown."""
        if self._watchdog is not None:
            self._watchdog.cancel()
        for link in (self._commands, self._inbox):
            if link is not None:
                await link.aclose()

    def _accepted(self, done: asyncio.Future[Any], script: ScriptCall, reply: Any) -> None:
        """Take the reply of the script that sends a request."""
        if reply == 1 or done.done():
            return
        if isinstance(reply, Failed):
            done.set_exception(reply)
        elif isinstance(reply, NoScriptError) and self._commands is not None:
            self._commands.send((by_text(script),), (partial(self._accepted, done, script),))
        elif isinstance(reply, ResponseError):
            done.set_exception(sort(reply, sent=True, where=self.where))
        else:
            done.set_result(REFUSED)

    # -- the inbox --------------------------------------------------------------------------------

    def _watch_inbox(self) -> None:
        link = self._inbox
        if link is None or link.lost is not None:
            return
        commands = (("BLPOP", self._inbox_key, INBOX_BLOCK), ("LPOP", self._inbox_key, INBOX_BATCH))
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._watchdog = self._loop.call_later(INBOX_BLOCK + INBOX_MARGIN, link.close)
        link.send(commands, (self._popped, self._popped_more))

    def _popped(self, reply: Any) -> None:
        if isinstance(reply, Failed | Exception):
            self._inbox_lost(reply)
        elif reply is not None:
            self._arrived(reply[1])

    def _popped_more(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            return
        for body in reply or ():
            self._arrived(body)
        self._watch_inbox()

    def _arrived(self, body: bytes) -> None:
        done = self._waiting.get(reply_id(body) or "")
        if done is not None and not done.done():
            done.set_result(body)

    def _inbox_lost(self, error: Exception) -> None:
        """Every reply that is on its way is lost with the inbox's connection."""
        failure = error if isinstance(error, Failed) else sort(error, sent=True, where=self.where)
        if self._inbox is not None:
            self._inbox.close(failure)
        waiting, self._waiting = self._waiting, {}
        for done in waiting.values():
            if not done.done():
                done.set_exception(Failed(failure.fate, failure.error))


def _time_out(done: asyncio.Future[Any], request: Outgoing) -> None:
    if not done.done():
        done.set_exception(
            RequestTimeout(
                f"no reply to request {request.id} on {request.channel!r} by the deadline; it may still run"
            )
        )
