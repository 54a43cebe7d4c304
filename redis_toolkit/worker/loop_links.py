"""The two connections of an engine on the event loop: one for claims, which may block, one for all else.

Rules: a reply or a settlement never waits behind a blocking claim. When one connection is lost, the other
goes on. One that owes a reply for too long counts as dead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from redis_toolkit._core.async_link import AsyncLink
from redis_toolkit._core.connection import Connections
from redis_toolkit._core.recovery import Failed
from redis_toolkit.settings import Settings
from redis_toolkit.worker.kept_link import KeptLink

__all__ = ["LoopLinks"]

MARGIN = 5.0
"""Seconds beyond its block after which a connection counts as dead that owes a reply."""
TICK = 1.0


class LoopLinks:
    """Keeps both connections open, from `start` to `stop`.

    Args:
        connections: where they come from.
        settings: how long a claim blocks, and the reconnect cap.
        may_claim: called with each new connection for claims.
        may_send: called with each new connection for the rest.
        log: called with each failure.

    Attributes:
        claims: the connection for claims.
        rest: the other one.
    """

    def __init__(
        self,
        connections: Connections,
        settings: Settings,
        may_claim: Callable[[AsyncLink], None],
        may_send: Callable[[AsyncLink], None],
        log: Callable[[Failed], None],
    ) -> None:
        self._block = settings.block
        self._may_claim = may_claim
        self._claim_id: int | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self.claims = KeptLink(connections, settings.reconnect_cap, self._opened, log)
        self.rest = KeptLink(connections, settings.reconnect_cap, may_send, log)

    async def start(self) -> None:
        """Connect, and keep connected from then on.

        Raises:
            RedisToolkitError: the server cannot be reached.
        """
        try:
            await self.rest.start()
            await self.claims.start()
        except Failed as failure:
            await self.rest.stop()
            raise failure.error from failure.__cause__
        self._watch()

    def unblock(self) -> None:
        """Wake a claim that blocks; without the right to, it ends with its slice."""
        link = self.rest.link
        if self._claim_id is not None and link is not None:
            link.send([("CLIENT", "UNBLOCK", self._claim_id)], [_ignore])

    async def stop(self) -> None:
        """Close both for good."""
        self.unwatch()
        await self.claims.stop()
        await self.rest.stop()

    def unwatch(self) -> None:
        """Leave nothing on the loop, which may end."""
        if self._watchdog is not None:
            self._watchdog.cancel()

    def _opened(self, link: AsyncLink) -> None:
        self._claim_id = None  # an id of a server that has gone may be another's now
        link.send([("CLIENT", "ID")], [self._identified])
        self._may_claim(link)

    def _identified(self, reply: Any) -> None:
        self._claim_id = reply if isinstance(reply, int) else None

    def _watch(self) -> None:
        """Look once in a while whether a connection is dead: silent, though it owes a reply."""
        self.unwatch()
        self._watchdog = asyncio.get_running_loop().call_later(TICK, self._watch)
        for kept, patience in ((self.claims, self._block + MARGIN), (self.rest, MARGIN)):
            if kept.link is not None:
                kept.link.suspect(patience)


def _ignore(_reply: Any) -> None:
    """Take a reply that says nothing new."""
