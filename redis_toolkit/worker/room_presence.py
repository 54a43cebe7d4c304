"""Who of this process is in which room: says so at short intervals, and takes out who is lost.

Rules:

- Its own thread and its own connection, for all rooms; a beat every third of a lease.
- Beats and leaves are sent by this thread only: no beat can bring back who has left.
- Whoever has members in a room looks after it. After a beat that failed or was slow, nobody is taken out for
  some time: the others, too, could not say that they are there.
- Each beat compares the last id of each room with what its members have heard. So does the one after a cut,
  and only those read the log who have missed something.
- Who was taken out meanwhile, as this process was stopped or the server has lost everything, joins again with
  the next beat, and reads what was missed.
- It ends when nobody is left.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from redis_toolkit._core.connection import Connections
from redis_toolkit._core.flows import rooms
from redis_toolkit._core.flows.rooms import Connected, Here, Kept
from redis_toolkit._core.recovery import Failed, Fate
from redis_toolkit._core.sync_driver import LinkDriver
from redis_toolkit.settings import Settings
from redis_toolkit.worker.heartbeat import ServerClock
from redis_toolkit.worker.room_lane import Mark, RoomLane
from redis_toolkit.worker.trouble import Trouble

__all__ = ["RoomPresence"]

logger = logging.getLogger("redis_toolkit")

SLOW = 1.0
"""Seconds after which an answer shows that the server, or the way there, stood still."""

_Place = tuple[str, Kept]


class RoomPresence:
    """Keeps the members of this process in their rooms.

    Args:
        connections: where its connection comes from.
        settings: the lease.
        clock: what it keeps in time with the server.
        alone: asked when nobody is left: whether it may end.
    """

    def __init__(
        self,
        connections: Connections,
        settings: Settings,
        clock: ServerClock,
        alone: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._alone = alone
        self._lease_ms = int(settings.lease * 1000)
        self._interval = settings.lease / 3
        self._driver = LinkDriver(connections, timeout=max(self._interval, SLOW))
        self._rooms: dict[_Place, list[RoomLane]] = {}
        self._leaving: deque[tuple[RoomLane, Future[None]]] = deque()
        self._lock = threading.Lock()
        self._due = time.monotonic() + self._interval
        self._trusted = time.monotonic()
        self._wake = threading.Event()
        self._trouble = Trouble("rooms could not be told who is there", "rooms are told who is there again")
        self._thread = threading.Thread(target=self._run, name="rt-room-presence", daemon=True)

    def start(self) -> None:
        """Start its thread."""
        self._thread.start()

    def add(self, lane: RoomLane) -> None:
        """Keep a member, who has joined, in the room."""
        with self._lock:
            self._rooms.setdefault((lane.room, lane.kept), []).append(lane)

    def remove(self, lane: RoomLane) -> Future[None]:
        """Take a member out; returns what is done when the room knows."""
        done: Future[None] = Future()
        with self._lock:
            place = (lane.room, lane.kept)
            lanes = self._rooms.get(place, [])
            if lane in lanes:
                lanes.remove(lane)
            if not lanes:
                self._rooms.pop(place, None)
            self._leaving.append((lane, done))
        self._wake.set()
        return done

    def beat_soon(self) -> None:
        """Beat now instead of later."""
        self._due = 0.0
        self._wake.set()

    def look(self) -> None:
        """See whether anybody is left."""
        self._wake.set()

    def join(self, timeout: float) -> None:
        """Wait for the end of the thread."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    # -- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._wake.wait(max(self._due - time.monotonic(), 0))
            self._wake.clear()
            self._leave()
            if time.monotonic() >= self._due:
                self._beat_or_tell()
            with self._lock:
                empty = not self._rooms and not self._leaving
            if empty and self._alone():
                self._driver.close()
                return

    def _beat_or_tell(self) -> None:
        pause = self._interval
        self._due = time.monotonic() + pause  # first: who wants one soon may say so from now on
        try:
            self._beat_all()
            self._trouble.over()
        except Failed as failure:
            self._distrust()
            if failure.fate is not Fate.REFUSED:
                pause = min(0.5, pause)
            self._trouble.tell(failure)
            self._due = min(self._due, time.monotonic() + pause)

    def _distrust(self) -> None:
        self._trusted = time.monotonic() + 2 * self._interval

    def _beat_all(self) -> None:
        with self._lock:
            places = [(*place, list(lanes)) for place, lanes in self._rooms.items()]
        for start in range(0, len(places), rooms.CHUNK):
            chunk = places[start : start + rooms.CHUNK]
            try:
                self._beat(chunk)
            except Failed as failure:
                if failure.fate is not Fate.REFUSED:
                    raise
                self._apart(chunk)

    def _apart(self, chunk: list[tuple[str, Kept, list[RoomLane]]]) -> None:
        """Beat for each room by itself, as one is refused: that reads its log. Raises the last refusal."""
        refusal: Failed | None = None
        for place in chunk:
            try:
                self._beat([place])
            except Failed as failure:
                if failure.fate is not Fate.REFUSED:
                    raise
                refusal = failure
                for lane in place[-1]:
                    lane.unstall()
        if refusal is not None:
            raise refusal

    def _beat(self, chunk: list[tuple[str, Kept, list[RoomLane]]]) -> None:
        sent = time.monotonic()
        beats = [(room, kept, [lane.own for lane in lanes]) for room, kept, lanes in chunk]
        marks = [[lane.mark for lane in lanes] for _, _, lanes in chunk]
        heard = self._driver.run(rooms.beat(beats, self._lease_ms))
        received = time.monotonic()
        if received - sent > SLOW:
            self._distrust()
        else:
            self._clock.update(heard[-1].now, sent, received)
        for (_, _, lanes), before, here in zip(chunk, marks, heard, strict=True):
            self._compare(lanes, before, here)
        if received >= self._trusted:
            lapsed = [(room, kept) for (room, kept, _), here in zip(chunk, heard, strict=True) if here.lapsed]
            self._driver.run(rooms.sweep(lapsed))

    def _compare(self, lanes: list[RoomLane], marks: list[Mark], here: Here) -> None:
        """See who had been taken out, and whether the log is still the one that was heard."""
        for lane, before, entry in zip(lanes, marks, here.announced, strict=True):
            if entry:
                logger.warning(
                    "%r was taken for lost in room %r, and has joined again", lane.own.user, lane.room
                )
                since = time.time() - 2 * self._interval
                lane.fall_behind(since, "the room took this member for lost, or has lost all", before[0])
                lane.unstall()
            else:
                lane.compare(here.last, before)

    def _leave(self) -> None:
        """Take out who leaves."""
        with self._lock:
            leaving = list(self._leaving)
            self._leaving.clear()
        if not leaving:
            return
        places: dict[_Place, list[Connected]] = {}
        for lane in [lane for lane, _ in leaving if lane.asked]:
            places.setdefault((lane.room, lane.kept), []).append(lane.own)
        everyone = [(*place, some) for place, some in places.items()]
        try:
            try:
                self._driver.run(rooms.leave(everyone))  # of nobody, that asks nothing
            except Failed as failure:  # its connection may have been cut since the last beat
                if failure.fate is Fate.REFUSED:
                    raise
                self._driver.run(rooms.leave(everyone))
        except Failed as failure:
            logger.warning("members stay in their rooms until their lease ends: %s", failure)
        finally:
            for _, done in leaving:
                if done.set_running_or_notify_cancel():
                    done.set_result(None)
