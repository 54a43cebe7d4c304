"""`UserNotificationClient`: one device of a user, connected until it is stopped.

Rules:

- It is subscribed, and the server has confirmed that, before its constructor returns.
- Its handlers get each notification once and in order, also what came while the connection was cut. What they
  got stays unread until somebody marks it as read.
- Channels are exact names, whatever characters a user id has.
"""

from __future__ import annotations

import asyncio
import atexit
import datetime
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from redis_toolkit import keys
from redis_toolkit._core import loops
from redis_toolkit._core.flows.notifications import BROADCAST, channel_of, position
from redis_toolkit.app import App
from redis_toolkit.binding import Binding
from redis_toolkit.errors import ServerUnreachable
from redis_toolkit.message import Gap
from redis_toolkit.misspelt import by_name
from redis_toolkit.patterns.client_lane import (
    Callbacks,
    ClientLane,
    ClientLoopLane,
    client_settings,
)
from redis_toolkit.patterns.door import Door
from redis_toolkit.patterns.inbox import Inbox
from redis_toolkit.patterns.notice import KEEP, MAX_AGE
from redis_toolkit.patterns.pending import Pending
from redis_toolkit.patterns.reception import Reception
from redis_toolkit.patterns.running import Stopping, sibling
from redis_toolkit.patterns.user_name import checked_user
from redis_toolkit.worker import handling
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.lane import Lane
from redis_toolkit.worker.loop_thread import LoopThread
from redis_toolkit.worker.subscriber import Subscriber
from redis_toolkit.worker.subscribers import enter, leave

__all__ = ["UserNotificationClient"]

logger = logging.getLogger("redis_toolkit")

STUCK_SECONDS = 5.0
"""Seconds beyond the grace period after which a loop that does not answer counts as blocked."""


@dataclass(frozen=True, slots=True)
class _Living:
    """What a connected client has."""

    lane: Lane
    door: Door
    subscriber: Subscriber


class UserNotificationClient(Stopping):
    """Hears the notifications of one user, in the background; returns once it is subscribed.

    Handlers are ``def`` or ``async def``, with parameters as in `App.on`: one parameter gets the notification
    as a dict, with ``id`` and ``timestamp``. They are called one at a time, in order. What they got stays
    unread until `mark_read`.

    Args:
        user_id: whose; text or a whole number.
        on_personal: gets what is sent to this user.
        on_broadcast: gets what is sent to everybody.
        on_read: is told what one of the user's devices, this one too, has marked as read: a dict with
            ``ids``, a list, and ``all``, whether it was all of them.
        on_gap: called with a `Gap` when notifications may be missing, which is when the server has lost them,
            or has dropped them before they were read. A connection that was cut is none.
        catch_up: whether handlers get first what is unread already.
        app: whose server is used; or
        url: the server; see `App`.
        max_age: seconds, or a ``timedelta``, for which notifications are kept; as `NotificationSystem` says.

    Raises:
        ConfigurationError: the user or a handler cannot be.
        RedisToolkitError: the server cannot be reached or refuses.

    ``async def`` handlers run on a loop of the client's own; with `aconnect` on the one that awaits it.

    Example:
        ```python
        with UserNotificationClient("ada", on_personal=lambda n: print(n["text"])) as client:
            print(client.unread_count())
        ```
    """

    _stopped = False

    @by_name
    def __init__(
        self,
        user_id: str | int,
        on_personal: Callable[..., Any] | None = None,
        on_broadcast: Callable[..., Any] | None = None,
        *,
        on_read: Callable[..., Any] | None = None,
        on_gap: Callable[[Gap], Any] | None = None,
        catch_up: bool = False,
        app: App | None = None,
        url: str | None = None,
        max_age: float | datetime.timedelta = MAX_AGE,
    ) -> None:
        self._prepare(user_id, on_personal, on_broadcast, on_read, on_gap, app, url, max_age)
        if self._bindings:
            loops.check_blocking("UserNotificationClient", "UserNotificationClient.aconnect")
        self._connect(catch_up)

    @classmethod
    @by_name
    def aconnect(
        cls,
        user_id: str | int,
        on_personal: Callable[..., Any] | None = None,
        on_broadcast: Callable[..., Any] | None = None,
        *,
        on_read: Callable[..., Any] | None = None,
        on_gap: Callable[[Gap], Any] | None = None,
        catch_up: bool = False,
        app: App | None = None,
        url: str | None = None,
        max_age: float | datetime.timedelta = MAX_AGE,
    ) -> Pending[Self]:
        """Await a client whose ``async def`` handlers run on the running loop; else as the constructor.

        Example:
            ```python
            client = await UserNotificationClient.aconnect("ada", forward)  # until astop()

            async with UserNotificationClient.aconnect("ada", forward) as client: ...
            ```
        """
        client = cls.__new__(cls)
        client._prepare(user_id, on_personal, on_broadcast, on_read, on_gap, app, url, max_age)
        return Pending(partial(client._aconnect, catch_up), "UserNotificationClient.aconnect()")

    # -- reading ----------------------------------------------------------------------------------

    @by_name
    def unread(self, limit: int = 100, *, after: str | None = None) -> list[dict[str, Any]]:
        """Return what this user has not read, oldest first; see `NotificationSystem.unread`."""
        return self._app._run("unread", self._inbox.unread(self.user_id, limit, after))

    @by_name
    async def aunread(self, limit: int = 100, *, after: str | None = None) -> list[dict[str, Any]]:
        """Await what `unread` does: the same parameters, results and errors."""
        return await self._app._async_driver.run(self._inbox.unread(self.user_id, limit, after))

    def unread_count(self) -> int:
        """Return how many notifications this user has not read, broadcasts too."""
        return self._app._run("unread_count", self._inbox.count(self.user_id))

    async def aunread_count(self) -> int:
        """Await what `unread_count` does: the same parameters, results and errors."""
        return await self._app._async_driver.run(self._inbox.count(self.user_id))

    def mark_read(self, *ids: Any) -> int:
        """Mark notifications as read, for all devices of this user; see `NotificationSystem.mark_read`."""
        return self._app._run("mark_read", self._inbox.mark_read(self.user_id, ids))

    async def amark_read(self, *ids: Any) -> int:
        """Await what `mark_read` does: the same parameters, results and errors."""
        return await self._app._async_driver.run(self._inbox.mark_read(self.user_id, ids))

    def mark_all_read(self) -> int:
        """Mark all that this user has now as read; see `NotificationSystem.mark_all_read`."""
        return self._app._run("mark_all_read", self._inbox.mark_all_read(self.user_id))

    async def amark_all_read(self) -> int:
        """Await what `mark_all_read` does: the same parameters, results and errors."""
        return await self._app._async_driver.run(self._inbox.mark_all_read(self.user_id))

    # -- living -----------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether its subscription is confirmed, as far as is known."""
        living = self._living
        if living is None or self._stopped or self._pid != os.getpid():
            return False
        return living.subscriber.has(living.door)

    @property
    def counters(self) -> dict[str, int]:
        """What went another way than the usual one: ``gaps``, ``undecodable`` (what is no notification),
        ``mismatched`` (what did not fit its handler), ``failed`` (handlers that raised)."""
        return self._counters.snapshot()

    def stop(self) -> None:
        """Unsubscribe; what has arrived gets the grace period to be handled. May be called again, and by a
        handler too. What is not handled stays unread."""
        with self._lock:
            again = self._stopped
            self._stopped = True
        living = self._living
        if again or living is None or self._pid != os.getpid():
            return
        atexit.unregister(self.stop)
        leave(living.subscriber, living.door)
        running = asyncio._get_running_loop()
        grace = 0.0 if running is not None and running is self._loop else self._app.settings.grace
        deadline = time.monotonic() + grace
        living.lane.stop(deadline)
        runner = handling.current()
        if self._own_loop is not None and isinstance(runner, asyncio.Task) and living.lane.runs(runner):
            close = partial(Context().run, self._close, self._own_loop, {runner})
            threading.Thread(target=close, name="rt-stop", daemon=True).start()
        elif self._own_loop is not None:
            self._close(self._own_loop)
        self._app._connections.close()

    def __repr__(self) -> str:
        state = "connected" if self.connected else "not connected"
        return f"<{type(self).__name__} of {self.user_id!r} on {self._app!r}, {state}>"

    def _close(self, own: LoopThread, askers: set[asyncio.Task[Any]] | None = None) -> None:
        """End the loop of its own, when the handler that asked for it has ended."""
        grace = self._app.settings.grace
        until = time.monotonic() + grace + STUCK_SECONDS
        if askers:
            loops.run_on(own.loop, asyncio.wait(askers, timeout=grace), until)
        own.stop(until, self._app._async_driver.close())

    def _prepare(
        self,
        user_id: str | int,
        on_personal: Callable[..., Any] | None,
        on_broadcast: Callable[..., Any] | None,
        on_read: Callable[..., Any] | None,
        on_gap: Callable[[Gap], Any] | None,
        app: App | None,
        url: str | None,
        max_age: float | datetime.timedelta,
    ) -> None:
        """Check what was given, and connect to nothing yet."""
        self.user_id = checked_user(user_id)
        self._app = sibling(app, url)
        self._inbox = Inbox(self._app._calls.wire_of(None), KEEP, max_age)
        if on_gap is not None:
            self._app.on_gap(on_gap)
        given = {
            channel_of(self.user_id): on_personal,
            BROADCAST: on_broadcast,
            keys.notification_events(self.user_id): on_read,
        }
        self._bindings = {name: Binding(one, self._app) for name, one in given.items() if one is not None}
        self._counters = Counters()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._living: _Living | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._own_loop: LoopThread | None = None

    async def _aconnect(self, catch_up: bool) -> Self:
        try:
            await loops.in_thread(self._connect, catch_up, asyncio.get_running_loop())
        except asyncio.CancelledError:  # raised once it is connected
            await loops.in_thread(self.stop)
            raise
        return self

    def _connect(self, catch_up: bool, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Subscribe; what comes from then on is heard."""
        if not self._bindings:
            return
        app, channels, settings = self._app, list(self._bindings), self._app.settings
        reception = Reception(
            self.user_id,
            self._inbox,
            frozenset(channels),
            self._counters,
            self._report,
            settings.reconnect_cap,
        )
        lane = self._new_lane(Callbacks(self._bindings), reception, loop)
        door = Door(tuple(name.encode("utf-8") for name in channels), lane)
        subscriber, confirmed = enter(app._connections, settings, door)
        self._living = _Living(lane, door, subscriber)
        atexit.register(self.stop)
        try:
            _wait(confirmed, settings.connect_timeout + settings.command_timeout, app._connections.where)
            if not catch_up:
                reception.begin(app._driver.run(position(self.user_id)))
        except BaseException:
            self.stop()
            raise
        door.begin(missed=catch_up)

    def _new_lane(
        self, callbacks: Callbacks, reception: Reception, loop: asyncio.AbstractEventLoop | None
    ) -> Lane:
        driver, settings = self._app._driver, client_settings(self._app.settings)
        handler = callbacks.handler(self._app._calls.wire_of(None))
        if not callbacks.is_async:
            lane = ClientLane(handler, settings, self._report, self._counters)
            return lane.receive(reception, driver)
        if loop is None:
            self._own_loop = LoopThread()
            self._own_loop.start()
            loop = self._own_loop.loop
        self._loop = loop
        loop_lane = ClientLoopLane(handler, settings, self._report, self._counters, loop)
        return loop_lane.receive(reception, driver)

    def _report(self, gap: Gap) -> None:
        self._counters.add("gaps")
        logger.warning("gap in the notifications of %r: %s", self.user_id, gap.reason)
        self._app._report(gap)


def _wait(confirmed: Future[None], timeout: float, where: str) -> None:
    """Wait until a subscription is confirmed.

    Raises:
        RedisToolkitError: it was refused, or there is no connection in time.
    """
    try:
        confirmed.result(timeout)
    except TimeoutError as error:
        if confirmed.done():
            raise
        raise ServerUnreachable(f"not subscribed within {timeout:g} s: {where} does not answer") from error
