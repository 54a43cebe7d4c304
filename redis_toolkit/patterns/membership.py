"""`Membership`: one member of a `ChatRoom`, from the join until it leaves; and `Joining`, to be awaited.

Rules:

- It has either a callback or is iterated over, in a thread or on a loop.
- It lives until it is stopped, also when nobody keeps a reference to it; or until the process ends.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from redis_toolkit._core import loops
from redis_toolkit._core.flows import rooms
from redis_toolkit._core.flows.rooms import Page
from redis_toolkit.errors import ConfigurationError, RedisToolkitError
from redis_toolkit.message import Gap
from redis_toolkit.patterns.pending import Pending
from redis_toolkit.patterns.running import Stopping
from redis_toolkit.room_message import own_copy
from redis_toolkit.worker.bell import Bell, bell_of
from redis_toolkit.worker.room_lane import PAGE, Item, RoomLane

if TYPE_CHECKING:
    from redis_toolkit.app import App
    from redis_toolkit.worker.room_hub import RoomHub

__all__ = ["Joining", "Membership"]

logger = logging.getLogger("redis_toolkit")

BATCH = 64
"""Messages taken at once for who iterates."""
PATIENCE = 10.0
"""Seconds that leaving is waited for; a member whose leave got lost is taken out when its lease ends."""


class Membership(Stopping):
    """A user in a room, by one connection. `ChatRoom.join` makes it.

    Example:
        ```python
        with room.join("ann") as membership:
            for message in membership:
                print(message["user"], message["text"])
        ```
    """

    def __init__(
        self, app: App, hub: RoomHub, lane: RoomLane, on_gap: Callable[[Gap], Any] | None, *, called: bool
    ) -> None:
        self._app = app
        self._hub = hub
        self._lane = lane
        self._on_gap = on_gap
        self._called = called
        self._woken = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._awaited = asyncio.Event()
        self._bell = Bell()
        self._taken: deque[Item] = deque()
        self._watch: AsyncGenerator[None] | None = None
        if not called:
            lane.wake = self._wake_thread  # and so it lives as long as its lane

    @property
    def user(self) -> str:
        """Who is in the room."""
        return self._lane.own.user

    @property
    def room(self) -> str:
        """The id of the room."""
        return self._lane.room

    @property
    def joined_at(self) -> float:
        """When it joined, in seconds by the server's clock, as the ``timestamp`` of messages."""
        return (self._lane.own.since_ms or 0) / 1000

    @property
    def active(self) -> bool:
        """Whether it has not been stopped."""
        return not self._lane.closed

    def stop(self) -> None:
        """Leave, and close the subscription: nothing more is handed out. May be called again, and anywhere.

        What the server cannot be told now, it finds out by itself when the lease of the member ends.
        """
        done = self._hub.exit(self._lane)
        if done is not None:
            _await_quietly(done)

    async def astop(self) -> None:
        """Await what `stop` does."""
        done = self._hub.exit(self._lane)
        if done is not None:
            await asyncio.wait([asyncio.wrap_future(done)], timeout=PATIENCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.astop()

    def __repr__(self) -> str:
        return f"Membership({self.user!r} in {self.room!r}{'' if self.active else ', stopped'})"

    # -- iterating --------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self._refuse_called()
        loops.check_blocking("join")
        return self

    def __next__(self) -> dict[str, Any]:
        lane = self._lane
        if self._loop is not None:
            self._loop, lane.wake = None, self._wake_thread
        while not lane.closed:
            self._woken.clear()
            message = self._next_taken()
            if message is not None:
                return message
            after = lane.missing()
            if after is not None:
                try:
                    lane.fill(self._read(after))
                except RedisToolkitError as error:
                    self._failed(error)
            elif lane.rest():
                self._woken.wait()
        raise StopIteration

    def __aiter__(self) -> Self:
        self._refuse_called()
        return self

    async def __anext__(self) -> dict[str, Any]:
        lane, loop = self._lane, asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._awaited, lane.wake = loop, asyncio.Event(), self._wake_loop
            self._bell = bell_of(loop)
        while not lane.closed:
            self._awaited.clear()
            message = self._next_taken()
            if message is not None:
                return message
            after = lane.missing()
            if after is not None:
                try:
                    lane.fill(await self._aread(after))
                except RedisToolkitError as error:
                    self._failed(error)
            elif lane.rest():
                await self._awaited.wait()
        raise StopAsyncIteration

    def _wake_thread(self) -> None:
        self._woken.set()

    def _wake_loop(self) -> None:
        try:
            assert self._loop is not None
            self._bell.ring(self._loop, self._awaited.set)
        except RuntimeError:  # the loop has been closed: nobody takes it any more
            if not self._lane.closed:
                self._drop_soon()

    def _next_taken(self) -> dict[str, Any] | None:
        """Return the next message of those that are there; None when there is none."""
        taken = self._taken
        if not taken:
            taken.extend(self._lane.take(BATCH))
        while taken:
            message = self._message(taken.popleft())
            if message is not None:
                return message
        return None

    def _message(self, item: Item) -> dict[str, Any] | None:
        """Return a message; a gap is told, and is none."""
        if not isinstance(item, Gap):
            return own_copy(item)
        self._lane.tell(item)
        if self._on_gap is not None:
            self._on_gap(item)
        return None

    def _refuse_called(self) -> None:
        if self._called:
            raise ConfigurationError(
                "this membership has a callback, which gets the messages: join without on_message to iterate"
            )

    def _failed(self, error: RedisToolkitError) -> None:
        logger.debug("the log of room %r could not be read: %s", self.room, error)
        self._lane.stall()

    # -- how --------------------------------------------------------------------------------------

    def _read(self, after: str) -> Page:
        with self._hub.reading:
            return self._app._driver.run(rooms.read(self.room, self.user, after, PAGE))

    async def _aread(self, after: str) -> Page:
        return await self._app._async_driver.run(rooms.read(self.room, self.user, after, PAGE))

    def _drop(self) -> None:
        """Leave without waiting for it, as the loop ends on which it was."""
        self._hub.exit(self._lane)

    def _drop_soon(self) -> None:
        """Leave in another thread: who calls this, to wake somebody, holds the lock of the lane."""
        self._hub.pool.submit(self._drop)

    async def _until_loop_ends(self) -> AsyncGenerator[None]:
        """Leave when the loop ends: `asyncio.run` closes the loop's generators last."""
        try:
            yield
        finally:
            self._drop()

    async def _watch_loop(self) -> None:
        self._watch = self._until_loop_ends()
        await anext(self._watch)


def _await_quietly(done: Future[None]) -> None:
    try:
        done.result(PATIENCE)
    except TimeoutError:
        logger.debug("leaving takes long")


class Joining(Pending[Membership]):
    """A join that has not begun: to be awaited, or used in ``async with`` or ``async for``."""

    async def __aiter__(self) -> AsyncGenerator[dict[str, Any]]:
        async with self as membership:
            async for message in membership:
                yield message
