"""What is heard in rooms: read once, for all members of the process who get it.

Rules:

- It is used by one thread, which reads the connection. That hands a message to one member after the other.
- An id from a time to come is none: it would keep out all that is said until then.
- What cannot be read is counted once for each app, and a log line now and then tells of it.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from redis_toolkit.errors import DecodeError, one_line
from redis_toolkit.room_message import Id, read_published, whose_presence
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.heartbeat import ServerClock

__all__ = ["RoomHearing"]

logger = logging.getLogger("redis_toolkit")

Heard = tuple[Id | None, dict[str, Any], int]
AHEAD_MS = 60_000
"""How far an id may be ahead of the server's clock: others were made up by somebody."""
QUIET = 10.0
"""Seconds between two log lines about what cannot be read."""


class RoomHearing:
    """Reads what was published.

    Args:
        clock: the server's clock.
        max_payload: bytes of a message, at most.

    Attributes:
        body: the message that was read last, as it came.
        heard: its id or None, what it says, and its bytes; None if it cannot be read.
        presence: who comes, goes or types by it, if that is what it tells.
    """

    def __init__(self, clock: ServerClock, max_payload: int) -> None:
        self._clock = clock
        self._limit = max_payload
        self.body = b""
        self.heard: Heard | None = None
        self.presence: object = None
        self._counted: list[Counters] = []
        self._newest = 0
        self._lock = threading.Lock()
        self._unread = 0
        self._said = -QUIET

    def read(self, channel: bytes, body: bytes) -> None:
        """Read a message."""
        self.body, self.heard, self.presence = body, None, None
        try:
            entry, message = read_published(body, self._limit)
        except DecodeError as error:
            self._counted = []
            self.unreadable(channel.decode("utf-8", "backslashreplace"), error)
            return
        if entry is not None and entry[0] > self._newest and not self._is_sane(entry):
            entry = None
        self.heard = (entry, message, len(body))
        self.presence = whose_presence(message)

    def count(self, counters: Counters) -> None:
        """Count that the last message could not be read, once for all who count there."""
        if counters not in self._counted:
            self._counted.append(counters)
            counters.add("undecodable")

    def unreadable(self, where: str, error: DecodeError) -> None:
        """Say now and then what cannot be read; from any thread."""
        with self._lock:
            self._unread += 1
            now = time.monotonic()
            if now - self._said < QUIET:
                return
            self._said, count, self._unread = now, self._unread, 0
        logger.warning(
            "dropped %d message%s on %r: %s", count, "s"[: count != 1], where, one_line(str(error))
        )

    def _is_sane(self, id: Id) -> bool:
        now = self._clock.now_ms()
        if now is not None and id[0] > max(now, self._newest) + AHEAD_MS:
            return False
        self._newest = id[0]
        return True
