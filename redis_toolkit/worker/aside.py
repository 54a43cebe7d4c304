"""Commands on a pooled connection, for a thread whose own is taken by a busy leader or a blocking claim."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from redis_toolkit._core.connection import Connections
from redis_toolkit._core.flow import Command
from redis_toolkit._core.flows import serving
from redis_toolkit._core.recovery import Failed, describe, sort
from redis_toolkit.worker.answering import Delivery
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.undelivered import instead_of

__all__ = ["Aside"]

logger = logging.getLogger("redis_toolkit")

TIMEOUT = 5.0
"""Seconds that the server may take for replies and what stands for them."""


class Aside:
    """Sends what cannot wait for a thread's own connection.

    Args:
        connections: whose pool it uses.
        counters: where undelivered replies are counted.
    """

    def __init__(self, connections: Connections, counters: Counters) -> None:
        self._connections = connections
        self._counters = counters

    def call(self, commands: Sequence[Command], timeout: float = TIMEOUT) -> list[Any]:
        """Send commands; returns their replies, error replies among them.

        Raises:
            Failed: the server was not reached within ``timeout`` seconds, or the connection was cut.
        """
        deadline = time.monotonic() + timeout
        link = self._connections.acquire(deadline)
        replies = link.call(commands, deadline)
        self._connections.release(link)
        return replies

    def send(self, replies: Sequence[Delivery]) -> None:
        """Deliver replies.

        Raises:
            Failed: as `call`.
        """
        pairs = serving.push_replies(replies)
        outcomes = self.call([command for pair in pairs for command in pair])
        self.refused(
            [
                (push, pushed)
                for (push, _), pushed in zip(pairs, outcomes[::2], strict=True)
                if isinstance(pushed, Exception)
            ]
        )

    def refused(self, pushes: Sequence[tuple[Command, Exception]]) -> None:
        """Count replies that the server refuses; tell their callers where that is possible."""
        for push, why in pushes:
            self._counters.add("undelivered", len(push) - 2)
            failure = sort(why, sent=True, where=self._connections.where, doing=describe(push[:2]))
            logger.warning("%d replies were not delivered: %s", len(push) - 2, failure)
        commands = [command for push, why in pushes for command in instead_of(push, why)]
        if not commands:
            return
        try:
            outcomes = self.call(commands)
        except Failed as failure:
            outcomes = [failure]
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                logger.warning("callers could not be told of it: %s", outcome)
