"""One process's part in one queue or group: what its engine, the keeper and the timer share."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from redis_toolkit._core.flow import Command
from redis_toolkit._core.flows.work import Claimed, Settlement, Source
from redis_toolkit.jobs import Durable
from redis_toolkit.settings import Settings
from redis_toolkit.worker.alone import Alone
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.heartbeat import ServerClock
from redis_toolkit.worker.holdings import Holdings, Item
from redis_toolkit.worker.packet import Taken
from redis_toolkit.worker.performing import Performer
from redis_toolkit.worker.rounds import Rounds

__all__ = ["Consumer"]

logger = logging.getLogger("redis_toolkit")


class Consumer:
    """What serves one source in this process.

    Args:
        durable: the source and its jobs.
        process: the process's name in the registries: also the consumer's name.
        settings: the app's numbers.
        clock: the server's clock.
        counters: where everything unusual is counted.

    Attributes:
        lease: seconds.
        places: how many items are run at once.
        alone: its way to the place where suspects run.
    """

    def __init__(
        self, durable: Durable, process: str, settings: Settings, clock: ServerClock, counters: Counters
    ) -> None:
        self.durable = durable
        self.name = process
        self.lease = durable.lease or settings.lease
        default = settings.coroutines if durable.is_async else settings.concurrency
        self.places = durable.concurrency or default
        self.alone = Alone()
        self.holdings = Holdings(self.alone)
        self.performer = Performer(
            durable,
            durable.worker_id or process,
            clock,
            counters,
            self.holdings,
            consumer=process,
            send_tracebacks=settings.send_tracebacks,
        )
        self.rounds = Rounds(durable, process, self.lease, self.alone)
        self._counters = counters

    @property
    def source(self) -> Source:
        """The keys."""
        return self.durable.source

    def read(self, claimed: Iterable[Claimed]) -> tuple[list[Item], list[Settlement]]:
        """Read what was claimed: returns what is to be run, held from now on, and how all else ends."""
        items: list[Item] = []
        settlements: list[Settlement] = []
        for one in claimed:
            try:
                found = self.performer.read(one)
            except Exception:  # one of ours: it is delivered again when its lease is over
                logger.exception("entry %r of %s could not be read", one.entry, self.source.shown)
                continue
            if isinstance(found, Item):
                self.holdings.add(found)
                items.append(found)
            else:
                settlements.append(found)
        return items, settlements

    def settled(self, taken: Taken, *, repeats: bool) -> list[Command]:
        """Hold no more what has ended, or is somebody else's; returns what to send now that it counted.

        Args:
            taken: what the server has answered.
            repeats: whether some of it was sent before, and may have counted then: so it is no news that
                it is lost.
        """
        commands: list[Command] = []
        if taken.counted:
            self.holdings.settled(taken.counted)
            commands = self.performer.after(taken.counted, taken.waiters)
        if taken.lost:
            held = [one.held for one in taken.lost]
            lost = self.holdings.lose(held)
            if lost and not repeats:
                self._counters.add("lost", len(lost))
            self.holdings.remove(held)
        return commands
