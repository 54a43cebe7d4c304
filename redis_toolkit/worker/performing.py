"""Runs one job: from a claimed entry to its settlement, around one call of the handler.

Rules:

- Whatever the bytes or the handler do, a settlement comes of it: nothing is lost, and nothing runs for ever.
- Each call of a handler has a context of its own.
- No I/O here: engines claim and settle.
"""

from __future__ import annotations

from collections.abc import Iterable

from redis_toolkit._core.flow import Command
from redis_toolkit._core.flows.work import Claimed, Settlement
from redis_toolkit.jobs import Durable
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.heartbeat import ServerClock
from redis_toolkit.worker.holdings import Holdings, Item

__all__ = ["Performer"]


class Performer:
    """Reads, runs and ends the work of one source.

    Args:
        durable: the source and its jobs.
        worker: how this process is named in records and tasks.
        clock: the server's clock, for expiries.
        counters: where everything unusual is counted.
        holdings: where cancelled ids are known.
    """

    def __init__(
        self, durable: Durable, worker: str, clock: ServerClock, counters: Counters, holdings: Holdings
    ) -> None: ...

    def read(self, claimed: Claimed) -> Item | Settlement:
        """Return what is to be run; or the settlement of what is not: garbage, poison, expired, unknown."""
        raise NotImplementedError

    def price(self) -> float | None:
        """Return the seconds that one more piece of quick work takes; None when not quick, or unknown."""
        raise NotImplementedError

    def expected(self, item: Item) -> float | None:
        """Return the seconds that an item takes, by experience with its job; None before the first."""
        raise NotImplementedError

    def perform(self, item: Item) -> Settlement:
        """Run a ``def`` handler; returns how it ended."""
        raise NotImplementedError

    async def aperform(self, item: Item) -> Settlement:
        """Run an ``async def`` handler, within its timeout; returns how it ended.

        Raises:
            asyncio.CancelledError: it was cancelled by its engine, which stops; not by a caller or a timeout.
        """
        raise NotImplementedError

    def timed_out(self, item: Item) -> Settlement:
        """Return the settlement of an item whose thread goes on beyond its timeout."""
        raise NotImplementedError

    def after(
        self, counted: Iterable[Settlement], waiters: Iterable[tuple[bytes, list[str]]]
    ) -> list[Command]:
        """Return what to send once settlements have counted: replies to who waits, and announcements."""
        raise NotImplementedError
