"""What one event loop has open: a connection for commands, an inbox for replies, and who waits for which.

Rules:

- Replies to all requests of a loop arrive in one list, the inbox, which one blocking pop watches.
  Each caller has a future, found by the id of its request.
- A new inbox key for each connection: a reply that was popped on a lost connection is gone, so its
  caller hears `OutcomeUnknown` at once instead of waiting. What had not left by then is sent again.
- Cancelling a caller at any await frees its place; a reply that comes later is dropped.
- A connection that is silent while it owes something is closed: within 10 s, whoever waits.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any, TypeGuard

from redis.exceptions import NoScriptError

from redis_toolkit import keys
from redis_toolkit._core.async_link import AsyncLink, Receiver
from redis_toolkit._core.connection import Connections
from redis_toolkit._core.deadlines import Deadlines
from redis_toolkit._core.flow import REFUSED, Command, Outgoing, ScriptCall, by_sha, by_text
from redis_toolkit._core.recovery import Failed, describe, partly, sort
from redis_toolkit.errors import PermissionDenied, StoreFull
from redis_toolkit.wire import reply_id

__all__ = ["AsyncHub"]

INBOX_BLOCK = 2.0
"""Seconds that one pop on the inbox waits on the server."""
INBOX_BATCH = 1000
PATIENCE = 5.0
"""Seconds after which a connection counts as dead that owes a reply and sends nothing, beyond what its
command may block."""
TICK = 1.0


class AsyncHub:
    """The connections of one loop: one for commands, and once there is a request, one for replies.

    Args:
        connections: where they come from.
        loop: the loop it is used on, by all its coroutines.
    """

    def __init__(self, connections: Connections, loop: asyncio.AbstractEventLoop) -> None:
        self.where = connections.where
        self._connections = connections
        self._loop = loop
        self._client = secrets.token_hex(8)
        self._generation = 0
        self._inbox_key = ""
        self._commands: AsyncLink | None = None
        self._inbox: AsyncLink | None = None
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._orphans: set[asyncio.Future[Any]] = set()  # sent, not answered, and without an inbox by now
        self._inbox_failure: Failed | None = None
        self._deadlines = Deadlines(loop)
        self._connecting = asyncio.Lock()
        self._watchdog: asyncio.TimerHandle | None = None
        self._closed = False
        self.end: AsyncGenerator[None] | None = None  # closed when the loop ends

    async def connect(self, deadline: float, *, inbox: bool = True) -> None:
        """See that its connections are there, by a deadline (monotonic seconds).

        Args:
            deadline: by when.
            inbox: whether the inbox is needed too: a program that makes no requests never has one.

        Raises:
            Failed: not by then.
        """
        if self.is_ready(inbox=inbox):
            return
        try:
            async with asyncio.timeout_at(self._loop.time() + deadline - time.monotonic()), self._connecting:
                if self._commands is None or self._commands.lost is not None:
                    self._commands = await self._open(deadline)
                if inbox and (self._inbox is None or self._inbox.lost is not None):
                    self._inbox = await self._open(deadline)
                    self._generation += 1
                    self._inbox_key = keys.inbox(self._client, self._generation)
                    self._watch_inbox(self._inbox)
                self.where = self._commands.where
                if self._watchdog is None:
                    self._watch()
        except TimeoutError as error:
            raise sort(error, sent=False, where=self.where, advise=not self._connections.reached) from error

    async def _open(self, deadline: float) -> AsyncLink:
        """Return a new connection, unless the hub has been closed: then nobody would close it."""
        link = None if self._closed else await AsyncLink.open(self._connections, deadline)
        if link is None or self._closed:
            if link is not None:
                await link.aclose()
            raise sort(ConnectionError("closed"), sent=False, where=self.where)
        return link

    def is_ready(self, *, inbox: bool = True) -> bool:
        """Return whether its connections are there, as far as is known; the inbox if that is asked for."""
        commands, replies = self._commands, self._inbox
        if commands is None or commands.lost is not None:
            return False
        return not inbox or (replies is not None and replies.lost is None)

    async def call(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        """Send commands and return their replies; error replies and `Failed` are among them.

        Raises:
            Failed: not all of them by the deadline (monotonic seconds).
        """
        link = self._commands
        if link is None or link.paused:
            link = await self._writable(deadline, inbox=False)
        done = self._loop.create_future()
        take = partial(_take, done, [], len(commands))
        link.send(commands, (take,) * len(commands))
        self._deadlines.add(done, deadline)
        try:
            replies: list[Any] = await done
        except TimeoutError as error:
            link.suspect()
            raise sort(error, sent=True, where=self.where) from error
        finally:
            self._deadlines.discard(done)
        return replies

    async def exchange(self, request: Outgoing, deadline: float) -> Any:
        """Send a request and wait for the body of its reply, or `REFUSED`.

        Raises:
            RequestTimeout: none by the deadline.
            Failed: refused by the server, or a connection was lost.
        """
        link = self._commands
        if link is None or link.paused:
            link = await self._writable(deadline, inbox=True)
        script = request.build(self._inbox_key, max(int((deadline - time.monotonic()) * 1000), 1))
        done = self._waiting[request.id] = self._loop.create_future()
        link.send((by_sha(script),), (partial(self._accepted, link, done, script),))
        self._deadlines.add(done, deadline)
        try:
            return await done
        except TimeoutError:
            link.suspect()
            raise request.timeout() from None
        finally:
            self._deadlines.discard(done)
            self._waiting.pop(request.id, None)

    async def aclose(self) -> None:
        """Close both connections; whoever waits hears what became of it."""
        self._closed = True
        if self._watchdog is not None:
            self._watchdog.cancel()
        for link in (self._commands, self._inbox):
            if link is not None:
                await link.aclose()
        self._deadlines.close()

    async def _writable(self, deadline: float, *, inbox: bool) -> AsyncLink:
        """Return the connection for commands once its peer takes more; with the inbox, if needed.

        Raises:
            Failed: not by the deadline, or a connection was lost meanwhile; nothing was sent.
        """
        link = self._commands
        if link is not None:
            await link.writable(deadline)
        if link is None or not self.is_ready(inbox=inbox):
            raise sort(ConnectionError("the connection was lost"), sent=False, where=self.where)
        return link

    def _accepted(self, link: AsyncLink, done: asyncio.Future[Any], script: ScriptCall, reply: Any) -> None:
        """Take the reply of the script that sends a request."""
        if self._orphans and done in self._orphans:
            self._orphans.discard(done)
            if reply == 1 and self._inbox_failure is not None:
                reply = self._inbox_failure
            elif isinstance(reply, NoScriptError) and self._inbox_is_forbidden():
                self._orphans.add(done)  # the script will be refused as well: a new inbox is of no use
            elif isinstance(reply, NoScriptError):
                reply = sort(ConnectionError("the inbox was lost"), sent=False, where=self.where)
        if reply == 1 or done.done():
            return
        if isinstance(reply, Failed):
            done.set_exception(Failed(reply.fate, reply.error))
        elif isinstance(reply, NoScriptError):
            link.send((by_text(script),), (partial(self._accepted, link, done, script),))
        elif isinstance(reply, Exception):
            done.set_exception(sort(reply, sent=True, where=self.where, doing=describe(script)))
        else:
            done.set_result(REFUSED)

    def _inbox_is_forbidden(self) -> bool:
        """Return whether any inbox would be refused like the last one: for want of rights, or a full disk."""
        lost = self._inbox_failure
        return lost is not None and isinstance(lost.error, PermissionDenied | StoreFull)

    # -- the inbox --------------------------------------------------------------------------------

    def _watch_inbox(self, link: AsyncLink) -> None:
        """Ask for replies: the next one to come, and what is there by then."""
        commands = (("BLPOP", self._inbox_key, INBOX_BLOCK), ("LPOP", self._inbox_key, INBOX_BATCH))
        link.send(commands, (partial(self._popped, link), partial(self._popped_more, link)))

    def _popped(self, link: AsyncLink, reply: Any) -> None:
        if isinstance(reply, Exception):
            self._inbox_lost(link, reply)
        elif reply is not None:
            if type(reply) is not list or len(reply) != 2:
                self._inbox_lost(link, ConnectionError("an answer to BLPOP that is none"))
                return
            self._arrived(link, reply[1])

    def _popped_more(self, link: AsyncLink, reply: Any) -> None:
        if isinstance(reply, Exception):
            self._inbox_lost(link, reply)
            return
        if type(reply) is not list and reply is not None:
            self._inbox_lost(link, ConnectionError("an answer to LPOP that is none"))
            return
        if link.lost is None:
            self._watch_inbox(link)
        for body in reply or ():
            self._arrived(link, body)

    def _arrived(self, link: AsyncLink, body: Any) -> None:
        if type(body) is not bytes:
            self._inbox_lost(link, ConnectionError("a reply that is no text"))
            return
        done = self._waiting.get(reply_id(body) or "")
        if done is not None and not done.done():
            done.set_result(body)

    def _inbox_lost(self, link: AsyncLink, error: Exception) -> None:
        """Every reply that is on its way is lost with the inbox's connection.

        What the pop was refused for says nothing of the requests. Of those that the server has taken, the
        outcome is unknown; those whose script is not answered yet wait for what the server says to it.
        """
        if link is not self._inbox:
            return
        doing = describe(("BLPOP", self._inbox_key, 0)) + ", the reply to a request that was sent,"
        failure = (
            error if isinstance(error, Failed) else sort(error, sent=True, where=self.where, doing=doing)
        )
        link.close(failure)
        self._inbox_failure = failure = partly(failure, self.where)
        if self._commands is not None:
            again = sort(ConnectionError("the inbox was lost"), sent=False, where=self.where)
            for one in self._commands.recall():
                one(failure if self._inbox_is_forbidden() and self._is_request(one) else again)
            self._orphans |= {one.args[1] for one in self._commands.owed() if self._is_request(one)}
        waiting, self._waiting = self._waiting, {}
        for done in waiting.values():
            if not done.done() and done not in self._orphans:
                done.set_exception(Failed(failure.fate, failure.error))

    def _is_request(self, receiver: Receiver) -> TypeGuard[partial[None]]:
        return isinstance(receiver, partial) and receiver.func == self._accepted

    def _watch(self) -> None:
        """Look once in a while whether a connection is dead: silent, though it owes a reply."""
        for link, patience in ((self._commands, PATIENCE), (self._inbox, INBOX_BLOCK + PATIENCE)):
            if link is not None:
                link.suspect(patience)
        self._watchdog = self._loop.call_later(TICK, self._watch)


def _take(done: asyncio.Future[Any], replies: list[Any], count: int, reply: Any) -> None:
    """Take one of the replies to a call."""
    replies.append(reply)
    if len(replies) == count and not done.done():
        done.set_result(replies)
