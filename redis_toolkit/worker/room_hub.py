"""All that a process has of the rooms on one server: its members, a connection for beats, a few threads.

Rules:

- It begins with the first member, and ends with the last one. Callbacks that run then get the grace period.
- Members hear over the one subscribed connection that the process has.
- At exit, whoever is still there leaves.
- In a forked child, the memberships of the parent have ended, without a word to the server.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for

from redis_toolkit._core.connection import Connections
from redis_toolkit.settings import Settings
from redis_toolkit.worker import subscribers
from redis_toolkit.worker.heartbeat import ServerClock
from redis_toolkit.worker.loop_thread import LoopThread
from redis_toolkit.worker.room_hearing import RoomHearing
from redis_toolkit.worker.room_lane import RoomLane
from redis_toolkit.worker.room_pool import RoomPool
from redis_toolkit.worker.room_presence import RoomPresence

__all__ = ["RoomHub", "enter", "exit_all", "give_up", "lanes_of"]

LAST_SECONDS = 2.0
"""Seconds that leaving may take at exit."""


class RoomHub:
    """The members of one process on one server.

    Args:
        connections: where connections come from.
        settings: durations and limits.

    Attributes:
        lanes: of all members.
        pool: threads for ``def`` callbacks.
        reading: held while a thread of the pool reads a log, so that they need one connection in all.
    """

    def __init__(self, connections: Connections, settings: Settings) -> None:
        self.connections = connections
        self.settings = settings
        self.lanes: set[RoomLane] = set()
        self.pool = RoomPool()
        self.reading = threading.Lock()
        self.clock = ServerClock()
        self.hearing = RoomHearing(self.clock, settings.max_payload)
        self._loop: LoopThread | None = None
        self._lock = threading.Lock()
        self._started = False
        self._leaves = False
        self.presence = RoomPresence(connections, settings, self.clock, self._ends)

    def start(self) -> None:
        """Start its threads, which may be asked for again.

        In a thread, as Ctrl-C, which the main thread gets, must not come in between: members of a hub with
        half of its threads would be lost.
        """
        if not self._started:
            starting = threading.Thread(target=self._start, name="rt-room-start", daemon=True)
            starting.start()
            starting.join()

    def _start(self) -> None:
        with self._lock:
            if not self._started:
                self.presence.start()
                self._started = True

    def add(self, lane: RoomLane) -> Future[None]:
        """Let a lane hear its room; returns what is done once it is subscribed."""
        found, confirmed = subscribers.enter(self.connections, self.settings, lane)
        found.watching.add(self.presence.beat_soon)
        if lane.closed:  # somebody has stopped it meanwhile
            subscribers.remove(lane)
        return confirmed

    def exit(self, lane: RoomLane) -> Future[None] | None:
        """End a lane, and leave; returns what is done when the room knows, or None if it had ended before."""
        if lane.closed and lane not in self.lanes:  # until then all of this is done again: Ctrl-C may come
            return None
        lane.close()
        subscribers.remove(lane)
        done = self.presence.remove(lane)
        with _lock:
            self.lanes.discard(lane)
        self.presence.look()
        return done

    def keep(self, lane: RoomLane) -> None:
        """Keep a lane in its room, which it has joined; at exit it leaves."""
        self.presence.add(lane)
        if lane.closed:  # somebody has stopped it meanwhile
            self.presence.remove(lane)
        if not self._leaves:
            self._leaves = True  # before the embedded server ends, which was started by now
            atexit.unregister(_leave)
            atexit.register(_leave)

    def loop(self) -> LoopThread:
        """Return a loop for ``async def`` callbacks of who has none."""
        with self._lock:
            if self._loop is None:
                self._loop = LoopThread()
                self._loop.start()
            return self._loop

    def _ends(self) -> bool:
        """End if nobody is left; returns whether it does."""
        with _lock:
            if self.lanes:
                return False
            if _hubs.get((self.connections, self.settings)) is self:
                del _hubs[self.connections, self.settings]
        subscribers.end_unused(self.presence.beat_soon)
        self.pool.close()
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            grace = self.settings.grace
            loop.stop(time.monotonic() + grace, _others_end(grace))
        return True


async def _others_end(grace: float) -> None:
    """Let callbacks finish: one of them may be the one that has left."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=grace)


_hubs: dict[tuple[Connections, Settings], RoomHub] = {}
_lock = threading.Lock()


def enter(connections: Connections, settings: Settings, lane: RoomLane) -> RoomHub:
    """Return the hub of this process for a server, with one more lane in it."""
    with _lock:
        hub = _hubs.get((connections, settings))
        if hub is None:
            hub = _hubs[connections, settings] = RoomHub(connections, settings)
        hub.lanes.add(lane)
        lane.hearing = hub.hearing
    hub.start()
    return hub


def give_up(lane: RoomLane) -> None:
    """End a lane whose join has failed at any point, also on its way into a hub."""
    with _lock:
        hubs = [hub for hub in _hubs.values() if lane in hub.lanes]
    for hub in hubs:
        hub.start()
        hub.exit(lane)


def lanes_of(connections: Connections, room: str, user: str) -> list[tuple[RoomHub, RoomLane]]:
    """Return the lanes of a user in a room, in this process."""
    with _lock:
        hubs = [hub for (known, _), hub in _hubs.items() if known is connections]
        return [
            (hub, lane) for hub in hubs for lane in hub.lanes if lane.room == room and lane.own.user == user
        ]


def exit_all(lanes: Iterable[tuple[RoomHub, RoomLane]]) -> list[Future[None]]:
    """End lanes; returns what is done when their rooms know."""
    ended = [hub.exit(lane) for hub, lane in lanes]
    return [done for done in ended if done is not None]


def _leave() -> None:
    """At exit: leave all rooms."""
    with _lock:
        everyone = [(hub, lane) for hub in _hubs.values() for lane in hub.lanes]
    if everyone:
        wait_for(exit_all(everyone), timeout=LAST_SECONDS)


def _forget() -> None:
    """In a forked child: the threads are the parent's, and so are the connections."""
    global _lock
    _lock = threading.Lock()
    for hub in _hubs.values():
        for lane in hub.lanes:
            lane.abandon()
        hub.lanes.clear()
    _hubs.clear()


os.register_at_fork(after_in_child=_forget)
