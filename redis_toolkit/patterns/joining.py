"""`Entrance`: how a user gets into a `ChatRoom`, in a thread or on a loop.

Rules:

- First the subscription is confirmed, then the join is announced, then the history is read: what is said in
  between is heard, and left out where the history has it.
- A join that fails leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from redis_toolkit._core.flow import Flow
from redis_toolkit._core.flows import rooms
from redis_toolkit._core.flows.rooms import Connected, Entry, Here, Kept
from redis_toolkit._core.ids import new_id
from redis_toolkit.app import App
from redis_toolkit.binding import Binding, is_async
from redis_toolkit.errors import ConfigurationError, RedisToolkitError, ServerUnreachable
from redis_toolkit.message import Gap
from redis_toolkit.patterns.membership import Membership
from redis_toolkit.room_message import Id
from redis_toolkit.worker import room_hub
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.room_hub import RoomHub
from redis_toolkit.worker.room_lane import RoomLane
from redis_toolkit.worker.room_turns import LoopTurns, PoolTurns

__all__ = ["Entrance"]


class Entrance:
    """A join, checked and ready.

    Args:
        app: whose server and settings are used.
        room: the room.
        kept: what is kept of it.
        user: who joins.
        counters: where is counted what cannot be read.
        on_message: the callback, or None.
        on_gap: called with gaps, or None.
        history: how many of the last messages to begin with.
        since: the id after which to begin, or None.
        metadata: said of the user, as JSON.
    """

    def __init__(
        self,
        app: App,
        room: str,
        kept: Kept,
        user: str,
        counters: Counters,
        on_message: Callable[..., Any] | None,
        on_gap: Callable[[Gap], Any] | None,
        *,
        history: int,
        since: Id | None,
        metadata: bytes,
    ) -> None:
        self._app = app
        self._room = room
        self._kept = kept
        self._user = user
        self._counters = counters
        self._binding = None if on_message is None else Binding(on_message, app)
        self._on_gap = on_gap
        self._history = history
        self._since = since
        self._metadata = metadata
        self._lane: RoomLane | None = None
        if on_gap is not None and is_async(on_gap) and not (self._binding and self._binding.is_async):
            raise ConfigurationError("on_gap is an async def, and on_message is none: write it as def")

    def enter(self) -> Membership:
        """Join, and wait until that is done."""
        try:
            membership, confirmed, until = self._begin(None)
            try:
                confirmed.result(max(until - time.monotonic(), 0))
            except TimeoutError as error:
                raise self._late(error) from error
            sent = time.monotonic()
            self._end(membership, sent, *self._app._driver.run(self._join(membership)))
            if not membership.active:
                self._app._driver.run(self._leave(membership))
        except BaseException:
            self._give_up()
            raise
        return membership

    async def aenter(self) -> Membership:
        """Join, on the running loop."""
        try:
            membership, confirmed, until = self._begin(asyncio.get_running_loop())
            try:
                async with asyncio.timeout(max(until - time.monotonic(), 0)):
                    await asyncio.wrap_future(confirmed)
            except TimeoutError as error:
                raise self._late(error) from error
            await membership._watch_loop()
            sent = time.monotonic()
            self._end(membership, sent, *await self._app._async_driver.run(self._join(membership)))
            if not membership.active:
                await self._app._async_driver.run(self._leave(membership))
        except BaseException:
            self._give_up()
            raise
        return membership

    def _begin(self, loop: asyncio.AbstractEventLoop | None) -> tuple[Membership, Future[None], float]:
        until = time.monotonic() + self._app.settings.command_timeout
        own = Connected(self._user, new_id(), self._metadata)
        lane = self._lane = RoomLane(self._room, self._kept, own, self._app.settings, self._counters)
        self._hub = hub = room_hub.enter(self._app._connections, self._app.settings, lane)
        membership = Membership(self._app, hub, lane, self._on_gap, called=self._binding is not None)
        self._give_turns(membership, hub, lane, loop)
        return membership, hub.add(lane), until

    def _give_turns(
        self, membership: Membership, hub: RoomHub, lane: RoomLane, loop: asyncio.AbstractEventLoop | None
    ) -> None:
        binding = self._binding
        if binding is None:
            return
        if binding.is_async:
            loop = loop or asyncio._get_running_loop() or hub.loop().loop
            turns = LoopTurns(lane, binding, self._on_gap, loop, membership._aread, membership._drop_soon)
            lane.wake = turns.wake
        else:
            lane.wake = PoolTurns(lane, binding, self._on_gap, hub.pool, membership._read).wake

    def _join(self, membership: Membership) -> Any:
        lease_ms = int(self._app.settings.lease * 1000)
        membership._lane.asked = True
        return rooms.join(self._room, self._kept, lease_ms, membership._lane.own, self._history)

    def _leave(self, membership: Membership) -> Flow[None]:
        """Leave again: somebody has stopped it meanwhile, and that leave may have come before the join."""
        return rooms.leave([(self._room, self._kept, [membership._lane.own])])

    def _end(self, membership: Membership, sent: float, here: Here, entries: list[Entry]) -> None:
        lane = membership._lane
        if self._hub.clock.now_ms() is None:
            self._hub.clock.update(here.now, sent, time.monotonic())
        lane.own.since_ms = here.now
        self._hub.keep(lane)
        lane.begin(here, entries, self._since)

    def _give_up(self) -> None:
        """Leave nothing behind of a join that failed, or was interrupted anywhere."""
        if self._lane is not None:
            room_hub.give_up(self._lane)

    def _late(self, error: TimeoutError) -> RedisToolkitError:
        if isinstance(error, RedisToolkitError):
            return error
        where = self._app._connections.where
        return ServerUnreachable(f"{where} did not confirm the subscription to room {self._room!r} in time")
