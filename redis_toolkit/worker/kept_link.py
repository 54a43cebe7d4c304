"""A connection on an event loop that is opened again whenever it is lost.

Rules: it is opened by one task, and only by that; a new task replaces one that a handler has cancelled. Who
uses it hears of each new one, before any other code can. The pause between attempts grows with the losses
in a row, as for every long-lived reader.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from redis_toolkit._core.async_link import AsyncLink
from redis_toolkit._core.connection import Connections
from redis_toolkit._core.recovery import Failed, pause, reconnecting_async

__all__ = ["KeptLink"]

logger = logging.getLogger("redis_toolkit")

CONNECT_SECONDS = 5.0


class KeptLink:
    """Keeps one connection open, from `start` to `stop`.

    Args:
        connections: where it comes from.
        cap: seconds that reconnecting waits at most between two attempts.
        opened: called with each new connection.
        log: called with each failure.

    Attributes:
        link: the connection; None while there is none, or it is lost.
        reachable: whether the last attempt to open one succeeded.
    """

    def __init__(
        self,
        connections: Connections,
        cap: float,
        opened: Callable[[AsyncLink], None],
        log: Callable[[Failed], None],
    ) -> None:
        self._connections = connections
        self._cap = cap
        self._opened = opened
        self._log = log
        self._failures = 0
        self.reachable = True
        self._stopped = False
        self._lost: asyncio.Event | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._link: AsyncLink | None = None

    @property
    def link(self) -> AsyncLink | None:
        link = self._link
        if link is not None and link.lost is not None:
            self.fail(link.lost)
            return None
        return link

    async def start(self) -> None:
        """Connect, and keep connected from then on.

        Raises:
            Failed: the server cannot be reached.
        """
        self._lost = asyncio.Event()
        await self._open()
        self._begin()

    def worked(self) -> None:
        """Say that the connection has been of use: its next loss is the first in a row."""
        self._failures = 0

    def fail(self, failure: Failed) -> None:
        """Give the connection up and open another."""
        assert self._lost is not None
        if not self._lost.is_set() and not self._stopped:
            self._lost.set()
            if self._link is not None:
                self._link.close(failure)
            self._log(failure)

    async def stop(self) -> None:
        """Close it for good."""
        self._stopped = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        if self._link is not None:
            await self._link.aclose()

    def _begin(self) -> None:
        self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="rt-kept-link")
        self._keeper.add_done_callback(self._ended)

    def _ended(self, keeper: asyncio.Task[None]) -> None:
        """Begin again: a handler may have cancelled every task of its loop."""
        error = None if keeper.cancelled() else keeper.exception()
        if error is not None and not self._stopped:
            logger.error("a connection could not be opened again, trying once more", exc_info=error)
        if not self._stopped:
            self._begin()

    async def _keep(self) -> None:
        assert self._lost is not None
        while True:
            await self._lost.wait()
            await asyncio.sleep(pause(self._failures, self._cap))
            self._failures += 1
            again = reconnecting_async(self._cap, lambda: self._stopped, self._log)
            await again(self._open)

    async def _open(self) -> None:
        assert self._lost is not None
        link, self._link = self._link, None
        if link is not None:
            await link.aclose()
        try:
            link = await AsyncLink.open(self._connections, time.monotonic() + CONNECT_SECONDS)
        except Failed:
            self.reachable = False
            raise
        self._link, self.reachable = link, True
        self._lost.clear()
        self._opened(link)
