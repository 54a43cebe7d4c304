"""The heartbeat: says at short intervals that this process serves its channels, and keeps the time.

Rules:

- Its own thread and its own connection: neither a busy handler nor a blocking claim delays it.
- A beat every quarter of a lease, answered within a quarter of a lease.
- Expiries are on the server's clock. Processes do not compare wall clocks: each beat refreshes the
  offset between the server's clock and this process's monotonic one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from redis_toolkit._core.connection import Connections
from redis_toolkit._core.flows import serving
from redis_toolkit._core.recovery import Failed
from redis_toolkit._core.sync_driver import LinkDriver
from redis_toolkit.settings import Settings
from redis_toolkit.worker.beating import beat_until
from redis_toolkit.worker.trouble import Trouble

__all__ = ["Heartbeat", "ServerClock"]

logger = logging.getLogger("redis_toolkit")


class ServerClock:
    """The server's clock, as this process knows it."""

    def __init__(self) -> None:
        self._offset_ms: float | None = None

    def update(self, server_ms: int, sent: float, received: float) -> None:
        """Note what the server's clock showed between two monotonic times (seconds)."""
        self._offset_ms = server_ms - (sent + received) / 2 * 1000

    def now_ms(self) -> int | None:
        """Return what it shows now, or None while that is unknown."""
        offset_ms = self._offset_ms
        return None if offset_ms is None else int(time.monotonic() * 1000 + offset_ms)

    def seconds_until(self, server_ms: int) -> float:
        """Return how far a time on the server's clock is ahead; 0 while the clock is unknown."""
        if self._offset_ms is None:
            return 0.0
        return (server_ms - self._offset_ms) / 1000 - time.monotonic()

    def has_passed(self, server_ms: int) -> bool:
        """Return whether a time on the server's clock has passed; False while the clock is unknown."""
        return self._offset_ms is not None and time.monotonic() * 1000 + self._offset_ms > server_ms


class Heartbeat:
    """Keeps a process registered as a server of its channels.

    Args:
        process: the process's name in the registries.
        connections: where its connection comes from.
        settings: the lease.
        clock: what it keeps in time with the server.
        channels: exact channels served.
        globs: globs served.
    """

    def __init__(
        self,
        process: str,
        connections: Connections,
        settings: Settings,
        clock: ServerClock,
        channels: Sequence[str],
        globs: Sequence[str],
    ) -> None:
        self._process = process
        self._clock = clock
        self._channels, self._globs = list(channels), list(globs)
        self._lease_ms = int(settings.lease * 1000)
        self._interval = settings.lease / 4
        self._driver = LinkDriver(connections, timeout=self._interval)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rt-heartbeat", daemon=True)

    def start(self) -> None:
        """Register, then go on in the background.

        Raises:
            RedisToolkitError: the server cannot be reached or refuses.
        """
        try:
            self._beat()
        except Failed as failure:
            self._withdraw()  # some of them may have been made
            raise failure.error from failure.__cause__
        self._thread.start()

    def stop(self) -> int:
        """Take the registrations back; returns how many requests wait on the channels."""
        self._stopping.set()
        self._thread.join(timeout=2 * self._interval)
        return self._withdraw()

    def _withdraw(self) -> int:
        names = [*self._channels, *self._globs]
        try:
            try:
                return self._driver.run(serving.withdraw(self._process, names))
            except Failed:  # its connection may have been cut since the last beat: once more, on a new one
                return self._driver.run(serving.withdraw(self._process, names))
        except Failed as failure:
            logger.warning("registrations of %s stay until their lease ends: %s", self._process, failure)
            return 0
        finally:
            self._driver.close()

    def _beat(self) -> None:
        sent = time.monotonic()
        server_ms = self._driver.run(serving.beat(self._process, self._channels, self._globs, self._lease_ms))
        self._clock.update(server_ms, sent, time.monotonic())

    def _run(self) -> None:
        trouble = Trouble("the heartbeat failed", "the heartbeat works again")
        beat_until(self._stopping, self._beat, self._interval, trouble)
