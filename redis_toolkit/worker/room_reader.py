"""The one subscribed connection of a process for all its rooms, and the thread that reads it.

Rules:

- A member joins when its subscriptions are confirmed; what is asked for is confirmed in the order of asking.
- The reader never waits for a member: it puts messages into lanes. A message is read once, for all of them.
- Silence is not health: after ``ping_interval`` seconds without a byte the server is pinged, and after
  as long again the connection is given up.
- A connection that was cut is made again; then every lane is behind, and reads the log.
- What the server refuses to one member is that member's error while it joins; later it is asked for again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future

from redis_toolkit._core.connection import NOTHING, Connections, Link
from redis_toolkit._core.flow import Command
from redis_toolkit._core.recovery import Failed, Fate, describe, pause_of_the_cut, reconnecting, sort
from redis_toolkit.errors import DecodeError, OutcomeUnknown, ServerUnreachable
from redis_toolkit.room_message import Id, read_published
from redis_toolkit.settings import Settings
from redis_toolkit.worker.heartbeat import ServerClock
from redis_toolkit.worker.room_lane import RoomLane
from redis_toolkit.worker.trouble import Trouble

__all__ = ["RoomReader"]

logger = logging.getLogger("redis_toolkit")

CHUNK = 500
"""Names per SUBSCRIBE command."""
AHEAD_MS = 60_000
"""How far an id may be ahead of the server's clock: others were made up by somebody."""
FULL_DISK = "MISCONF"
"""How a server refuses a PING that cannot write to its disk. It is alive, and subscribes and publishes."""


class RoomReader:
    """Hears rooms.

    Args:
        connections: where its connection comes from.
        settings: ping interval, reconnect cap and size limit.
        clock: the server's clock.
        unreadable: told of what cannot be read: the channel and why.
        back: called when everything is subscribed again.
    """

    def __init__(
        self,
        connections: Connections,
        settings: Settings,
        clock: ServerClock,
        unreadable: Callable[[str, DecodeError], None],
        back: Callable[[], None],
    ) -> None:
        self._connections = connections
        self._settings = settings
        self._clock = clock
        self._unreadable = unreadable
        self._back = back
        self._lanes: dict[bytes, tuple[RoomLane, ...]] = {}
        self._confirmed: set[bytes] = set()
        self._asked: deque[dict[bytes, None]] = deque()
        self._pending: dict[bytes, int] = {}
        self._refused: set[bytes] = set()
        self._waiting: dict[RoomLane, Future[None]] = {}
        self._link: Link | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._cut: tuple[float, str] | None = None
        self._failure: Exception | None = None
        self._heard = time.time()
        self._newest = 0
        self._trouble = Trouble("not subscribed to rooms", "subscribed to rooms again")
        self._thread = threading.Thread(target=self._run, name="rt-room-reader", daemon=True)

    def start(self) -> None:
        """Start its thread."""
        self._thread.start()

    def add(self, lane: RoomLane) -> Future[None]:
        """Let a lane hear its channels; returns what is done once they are subscribed."""
        confirmed: Future[None] = Future()
        with self._lock:
            if self._stopping.is_set():
                confirmed.set_exception(self._failure or ServerUnreachable("the rooms are being left"))
                return confirmed
            for channel in lane.channels:
                self._lanes[channel] = (*self._lanes.get(channel, ()), lane)
            missing = [channel for channel in lane.channels if channel not in self._confirmed]
            if not missing and self._link is not None:
                confirmed.set_result(None)
                return confirmed
            self._waiting[lane] = confirmed
            if self._link is not None:
                self._ask(self._link, missing)
        return confirmed

    def remove(self, lane: RoomLane) -> None:
        """Let a lane hear nothing any more."""
        gone = []
        with self._lock:
            waiting = self._waiting.pop(lane, None)
            for channel in lane.channels:
                others = tuple(one for one in self._lanes.get(channel, ()) if one is not lane)
                if others:
                    self._lanes[channel] = others
                elif self._lanes.pop(channel, None):
                    self._confirmed.discard(channel)
                    self._refused.discard(channel)
                    gone.append(channel)
            if self._link is not None and gone:
                self._send(self._link, [("UNSUBSCRIBE", *gone)])
        if waiting is not None and waiting.set_running_or_notify_cancel():
            waiting.set_exception(ServerUnreachable(f"room {lane.room!r} was left before it was joined"))

    @property
    def connected(self) -> bool:
        """Whether it hears all that it should, as far as is known."""
        return self._link is not None and self._cut is None

    def ask_again(self) -> None:
        """Ask once more for what was refused."""
        with self._lock:
            if self._link is not None and self._refused:
                for channel in list(self._refused):
                    self._ask(self._link, [channel])

    def stop(self, timeout: float = 0.0) -> None:
        """End the thread, and wait up to ``timeout`` seconds for that."""
        self._stopping.set()
        with self._lock:
            if self._link is not None:
                self._send(self._link, [("UNSUBSCRIBE",), ("PING",)])
        if timeout and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    # -- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._connect()
        except Exception as error:  # those who join raise it
            self._end(error.error if isinstance(error, Failed) else error)
            return
        while not self._stopping.is_set():
            try:
                self._read()
            except Failed as failure:
                self._lose(failure)
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        with self._lock:
            self._failure = error
            self._stopping.set()
            link, self._link = self._link, None
            waiting, self._waiting = list(self._waiting.values()), {}
        if link is not None:
            link.close()
        for confirmed in waiting:
            if error is not None and confirmed.set_running_or_notify_cancel():
                confirmed.set_exception(error)
            else:
                confirmed.cancel()

    def _lose(self, failure: Failed) -> None:
        with self._lock:
            link, self._link = self._link, None
            self._reset()
        if link is not None:
            link.close()
        if self._stopping.is_set():
            return
        self._cut = self._cut or (self._heard, failure.why)
        for lane in self._all():
            lane.stall()
            lane.fall_behind(*self._cut)
        self._trouble.tell(failure)
        cap = self._settings.reconnect_cap
        if self._stopping.wait(pause_of_the_cut(cap)):
            return
        try:
            reconnecting(cap, self._stopping, self._trouble.tell)(self._connect)
        except Failed as error:
            logger.debug("stopped while not subscribed: %s", error)

    def _connect(self) -> None:
        link = self._connections.dedicated()
        with self._lock:
            if self._stopping.is_set():
                link.close()
                return
            self._link = link
            self._reset()
            self._refused.clear()
            names = list(self._lanes)
            commands: list[Command] = []
            for start in range(0, len(names), CHUNK):
                some = names[start : start + CHUNK]
                self._note(some)
                commands.append(("SUBSCRIBE", *some))
            try:
                link.send([*commands, ("PING",)])
            except Failed:
                self._link = None
                raise

    def _all(self) -> Iterable[RoomLane]:
        with self._lock:
            return {lane for lanes in self._lanes.values() for lane in lanes}

    def _reset(self) -> None:
        self._confirmed.clear()
        self._asked.clear()
        self._pending.clear()

    def _note(self, channels: list[bytes]) -> None:
        """Note what one command asks for: the server answers in this order."""
        self._asked.append(dict.fromkeys(channels))
        for channel in channels:
            self._pending[channel] = self._pending.get(channel, 0) + 1

    def _answered(self, channel: bytes) -> bool:
        """Note that a command is answered; returns whether none is left that asks for this channel."""
        self._pending[channel] = self._pending.get(channel, 1) - 1
        if self._pending[channel]:
            return False
        del self._pending[channel]
        return True

    def _ask(self, link: Link, channels: list[bytes]) -> None:
        """Subscribe to some channels; the lock is held."""
        self._note(channels)
        self._send(link, [("SUBSCRIBE", *channels)])

    @staticmethod
    def _send(link: Link, commands: list[Command | bytes]) -> None:
        try:
            link.send(commands)
        except Failed as failure:
            logger.debug("the reader notices as well, and subscribes anew: %s", failure)

    def _read(self) -> None:
        """Read until the connection is lost (`Failed`), or until stopped."""
        link, interval, asked = self._link, self._settings.ping_interval, False
        if link is None:
            return
        lanes = self._lanes
        while True:
            reply = link.poll(interval)
            if reply is NOTHING:
                if asked:
                    error = OutcomeUnknown(f"{link.where} gave no sign of life for {2 * interval:g} s")
                    raise Failed(Fate.UNKNOWN, error)
                asked = True
                link.send([("PING",)])
                continue
            asked = False
            self._heard = time.time()
            if isinstance(reply, list):
                kind = reply[0]
                if kind == b"message":
                    hearing = lanes.get(reply[1])
                    if hearing:
                        self._hand_on(hearing, reply[1], reply[2])
                elif kind == b"subscribe":
                    self._confirm(reply[1])
            elif isinstance(reply, Exception) and not str(reply).startswith(FULL_DISK):
                self._refuse(sort(reply, sent=False, where=link.where, doing=self._doing()))
            if self._stopping.is_set():
                return

    def _hand_on(self, hearing: tuple[RoomLane, ...], channel: bytes, body: bytes) -> None:
        try:
            entry, message = read_published(body, self._settings.max_payload)
        except DecodeError as error:
            self._unreadable(channel.decode("utf-8", "backslashreplace"), error)
            return
        if entry is not None:
            entry = self._believed(entry)
        size = len(body)
        for lane in hearing:
            lane.hear(entry, message, size)

    def _believed(self, id: Id) -> Id | None:
        """Return an id, unless it is from a time to come: it would keep out all that is said until then."""
        if id[0] > self._newest:
            now = self._clock.now_ms()
            if now is not None and id[0] > max(now, self._newest) + AHEAD_MS:
                return None
            self._newest = id[0]
        return id

    def _confirm(self, channel: bytes) -> None:
        done: list[Future[None]] = []
        missed: tuple[RoomLane, ...] = ()
        with self._lock:
            if self._asked:
                self._asked[0].pop(channel, None)
                if not self._asked[0]:
                    self._asked.popleft()
            if self._answered(channel) and channel in self._lanes:
                self._confirmed.add(channel)
                if channel in self._refused:
                    self._refused.discard(channel)
                    missed = self._lanes[channel]
                for lane in self._lanes[channel]:
                    if lane in self._waiting and self._confirmed.issuperset(lane.channels):
                        done.append(self._waiting.pop(lane))
        for confirmed in done:
            if confirmed.set_running_or_notify_cancel():
                confirmed.set_result(None)
        for lane in missed:
            lane.fall_behind(self._heard, "the room could not be heard for some time")
        self._look_back()

    def _look_back(self) -> None:
        """See whether a connection that was cut is whole again."""
        with self._lock:
            whole = self._cut is not None and not self._asked
        if whole:
            self._come_back()

    def _come_back(self) -> None:
        """All is subscribed again: what was published meanwhile is in the log."""
        cut, self._cut = self._cut or (self._heard, ""), None
        self._trouble.over()
        for lane in self._all():
            lane.fall_behind(*cut)
            lane.unstall()
        self._back()

    def _refuse(self, failure: Failed) -> None:
        """Take a refusal: of one channel it is told to those who join it; of several, each is asked for."""
        failed: list[Future[None]] = []
        with self._lock:
            names = list(self._asked.popleft()) if self._asked else []
            link = self._link
            for channel in names:
                self._answered(channel)
            if len(names) > 1 and link is not None:
                for channel in names:
                    self._ask(link, [channel])
                return
            for channel in names:
                self._refused.add(channel)
                for lane in self._lanes.get(channel, ()):
                    if lane in self._waiting:
                        failed.append(self._waiting.pop(lane))
        for confirmed in failed:
            if confirmed.set_running_or_notify_cancel():
                confirmed.set_exception(failure.error)
        self._look_back()
        self._trouble.tell(failure)

    def _doing(self) -> str:
        with self._lock:
            return describe(("SUBSCRIBE", *(self._asked[0] if self._asked else ())))
