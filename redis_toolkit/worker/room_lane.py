"""A room lane: what one member of a room has not been given yet.

Rules:

- Hearing a message never waits: the reader of the connection must go on.
- Ids only grow. What is not newer than what was heard before is left out: so nothing comes twice.
- A lane that is behind (the connection was cut, or it had too much to hold) reads the log after the last
  message that was taken from it. What is published from then on is put aside, and follows once the log has
  been read to its end. A slow member costs no more than a full lane.
- After a cut it waits until the room has told its last id: if that is known, nothing was missed.
- Whether its own user comes, goes or types, a member does not hear.
- What the log has lost by then is one `Gap`, at its place.
- What has no id (typing, and what was published by hand) is handed out as it comes, and not read again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from redis_toolkit import keys
from redis_toolkit._core.flows.rooms import Connected, Entry, Here, Kept, Page
from redis_toolkit.errors import DecodeError
from redis_toolkit.message import Gap
from redis_toolkit.room_message import FIRST, Id, before, id_of, read_entry, text_of_id, whose_presence
from redis_toolkit.settings import Settings
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.room_hearing import RoomHearing

__all__ = ["PAGE", "Item", "Mark", "RoomLane"]

logger = logging.getLogger("redis_toolkit")

PAGE = 200
"""Messages read at once from the log."""
MOST = 1000
"""Messages that may wait for one member. More are in the log, where they cost nothing."""
QUIET = 10.0
"""Seconds between two log lines about the gaps of one member."""
MOST_BYTES = 16 * 1024 * 1024

Item = dict[str, Any] | Gap
_Waiting = tuple[Id | None, Item, int]
Mark = tuple[Id, list[_Waiting] | None]
"""The last id that was put into a lane, and what it had put aside then."""


class RoomLane:
    """What waits for one member.

    Args:
        room: the room.
        kept: what is kept of it.
        own: the connection of the member.
        settings: how many messages, and how many bytes, may wait.
        counters: where is counted what cannot be read.

    Attributes:
        hearing: reads what is heard; whoever has the lane subscribed sets it.
        asked: whether the room was asked to let its user in: else there is nothing to leave.
        wake: called, from any thread, when there is something to take and nobody looks.
    """

    def __init__(
        self,
        room: str,
        kept: Kept,
        own: Connected,
        settings: Settings,
        counters: Counters,
    ) -> None:
        self.room = room
        self.kept = kept
        self.own = own
        self.channels = (keys.room_channel(room).encode(), keys.room_user_channel(room, own.user).encode())
        self.asked = False
        self.wake: Callable[[], None] = _nobody
        self.hearing: RoomHearing
        self._closed = False
        self._counters = counters
        self._max_payload = settings.max_payload
        self._most = min(settings.lane_messages, MOST)
        self._most_bytes = min(settings.lane_bytes, MOST_BYTES)
        self._items: deque[_Waiting] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self._idle = True
        self._behind = True
        self._aside: list[_Waiting] | None = []  # what came while the log was read; None: too much
        self._reading = self._aside  # what has come since the log is read
        self._stalled = True  # until it has begun
        self._cut = False
        self._begun = False
        self._seen = FIRST  # the last one that was put here
        self._taken = FIRST  # the last one that was taken
        self._told = 0.0
        self._known: Id | None = None  # of the log that it was then
        self._reported = FIRST  # what is lost after this one has been told
        self._since, self._reason = time.time(), ""

    # -- what comes in ----------------------------------------------------------------------------

    def hear(self, channel: bytes, body: bytes) -> None:
        """Take a message that was published."""
        hearing = self.hearing
        if hearing.body is not body:
            hearing.read(channel, body)
        heard = hearing.heard
        if heard is None:
            hearing.count(self._counters)
            return
        entry = heard[0]
        with self._lock:
            if self._closed:
                return
            if entry is not None:
                if self._behind:
                    self._put_aside(heard)
                    return
                if entry <= self._seen:
                    return
                self._seen = entry
            if hearing.presence == self.own.user:
                return
            self._items.append(heard)
            self._bytes += heard[2]
            if len(self._items) > self._most or self._bytes > self._most_bytes:
                self._overflow()
            if self._idle:
                self._call()

    def _put_aside(self, heard: _Waiting) -> None:
        if self._aside is not None:
            self._aside.append(heard)
            if len(self._aside) > self._most:
                self._aside = None

    def begin(self, here: Here, entries: list[Entry], since: Id | None) -> None:
        """Begin, once joined: after the last messages before that, or with all those after an id."""
        with self._lock:
            last = id_of(here.last) if here.last else FIRST
            self._seen = self._taken = last if since is None else min(since, last)
            if entries:
                self._seen = self._taken = before(id_of(entries[0][0].decode("ascii")))
                for entry in entries:
                    self._read(entry)
                self._seen = last
            self._since, self._reason = time.time(), "not all that was said since then is kept"
            self._stalled, self._begun = self._cut, True
            if since is not None and since > last:
                self._lose("the room has no such message: it has lost what it kept, or the id was made up")
            if since is None:
                self._catch_up()
            self._call()

    def cut(self, since: float, reason: str) -> None:
        """Note that it hears nothing since a time (wall-clock seconds), and until it is `back`."""
        with self._lock:
            self._cut = self._stalled = True
        self.fall_behind(since, reason)

    def back(self) -> None:
        """Note that it hears again, and put aside what that is, until the room has told its last id."""
        with self._lock:
            self._cut = False
            if self._behind:
                self._aside = []

    def fall_behind(self, since: float, reason: str, seen: Id | None = None) -> None:
        """Note that messages may have been missed since a time (wall-clock seconds).

        Args:
            since: the time.
            reason: what happened.
            seen: the last id that was put here before that, if some may have been since.
        """
        with self._lock:
            self._aside = None
            if seen is not None or not self._behind:
                self._known = seen
            if self._begun and not self._behind:
                self._behind = True
                self._since, self._reason = since, reason
                self._call()

    @property
    def seen(self) -> Id:
        """The last id that was put here."""
        return self._seen

    @property
    def mark(self) -> Mark:
        """What is to be known before a room is asked for its last id."""
        return self._seen, self._aside

    def compare(self, last: str, mark: Mark) -> None:
        """Compare the last id of the log with what had been heard before it was asked for.

        If it is less, it is another log. If it is the same, nothing was missed before what was put aside;
        else the log is read. Who was cut off meanwhile waits for the next time.
        """
        (seen, aside), newest = mark, id_of(last) if last else FIRST
        if newest < seen:
            self.fall_behind(time.time(), "the server has lost what it kept of the room", seen)
            self.unstall()
            return
        with self._lock:
            if aside is self._aside:
                if aside is not None and self._behind and self._begun and newest <= self._seen:
                    self._reading = aside
                    self._catch_up()
                    self._call()
                self._unstall()

    def _overflow(self) -> None:
        self._items.clear()
        self._bytes = 0
        self._behind, self._aside = True, None
        self._seen = self._taken
        self._since = time.time()
        self._reason = f"{self.own.user!r} was too slow for what is kept of the room"

    def tell(self, gap: Gap) -> None:
        """Log a gap, of several only the first for a while."""
        quiet = gap.ended - self._told < QUIET
        if not quiet:
            self._told = gap.ended
        logger.log(
            logging.DEBUG if quiet else logging.WARNING,
            "messages of room %r may be missing for %r: %s",
            self.room,
            self.own.user,
            gap.reason,
        )

    # -- what goes out ----------------------------------------------------------------------------

    def take(self, most: int) -> list[Item]:
        """Return some of what waits, in order."""
        with self._lock:
            waiting, some = self._items, []
            for _ in range(min(most, len(waiting))):
                entry, item, size = waiting.popleft()
                some.append(item)
                self._bytes -= size
                if entry is not None:
                    self._taken = entry
            return some

    def missing(self) -> str | None:
        """Return the id after which the log has to be read now; None when there is no need."""
        with self._lock:
            if self._items or not self._behind or self._stalled or self._closed:
                return None
            self._aside = self._reading = []
            return text_of_id(self._seen)

    def fill(self, page: Page) -> None:
        """Take what was read after the id that `missing` gave."""
        with self._lock:
            if self._closed or not self._behind:
                return
            first = id_of(page.first) if page.first else None
            last = id_of(page.last) if page.last else FIRST
            if self._has_lost(first, last):
                self._lose(self._reason)
            for entry in page.entries:
                self._read(entry)
            if page.complete:
                self._seen = last if last < self._seen else max(self._seen, last)
                self._catch_up()

    def _lose(self, reason: str) -> None:
        gap = Gap((keys.room_channel(self.room),), self._since, time.time(), reason)
        self._items.append((None, gap, 0))
        self._since = time.time()

    def _has_lost(self, first: Id | None, last: Id) -> bool:
        """Return whether the log may have lost something after what was seen."""
        known, self._known = self._known, None
        seen = known if known is not None and known > self._reported else self._seen
        # The log is another one, and the one before is gone; or it begins behind what was seen.
        lost = last < seen or (last > seen and (first is None or before(first) > seen))
        if lost and seen != FIRST:
            self._reported = seen
            return True
        return False

    def _catch_up(self) -> None:
        """The log has been read to its end: go on with what came meanwhile."""
        if self._aside is None or self._aside is not self._reading:
            return  # too much came, or some was missed: the log has more by now
        self._behind, aside = False, self._aside
        for waiting in aside:
            self._add(*waiting)

    def stall(self) -> None:
        """Do not read the log until `unstall`: that failed."""
        with self._lock:
            self._stalled = True

    def unstall(self) -> None:
        """Read the log, if that is needed."""
        with self._lock:
            self._unstall()

    def _unstall(self) -> None:
        if self._stalled and self._begun and not self._cut:
            self._stalled = False
            self._call()

    def rest(self) -> bool:
        """Return whether there is nothing to do; then it wakes somebody when there is."""
        with self._lock:
            self._idle = not (self._items or (self._behind and not self._stalled) or self._closed)
            return self._idle

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._closed

    def abandon(self) -> None:
        """End it in a forked child, where somebody may have held its lock."""
        self._closed = True

    def close(self) -> bool:
        """Hand out nothing any more; returns whether it was open."""
        with self._lock:
            was_open, self._closed = not self._closed, True
            self._items.clear()
            self._call()
            return was_open

    def _call(self) -> None:
        if self._idle and (self._items or (self._behind and not self._stalled) or self._closed):
            self._idle = False
            self.wake()

    def _add(self, id: Id | None, message: Item, size: int) -> None:
        """Put a message behind the others, unless it is known, or tells that its own user is there or not."""
        if id is not None:
            if id <= self._seen:
                return
            self._seen = id
        if isinstance(message, dict) and whose_presence(message) == self.own.user:
            return
        self._items.append((id, message, size))
        self._bytes += size

    def _read(self, entry: Entry) -> None:
        text = entry[0].decode("ascii")
        try:
            message = read_entry(*entry, self._max_payload)
        except DecodeError as error:
            self._counters.add("undecodable")
            self.hearing.unreadable(self.room, error)
        else:
            self._add(id_of(text), message, len(entry[1]))


def _nobody() -> None:
    """Nobody takes from it yet."""
