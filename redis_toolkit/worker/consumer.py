"""One process's part in one queue or group: what its engine, the keeper and the timer share."""

from __future__ import annotations

from redis_toolkit._core.flows.work import Source
from redis_toolkit.jobs import Durable
from redis_toolkit.settings import Settings
from redis_toolkit.worker.alone import Alone
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.heartbeat import ServerClock
from redis_toolkit.worker.holdings import Holdings
from redis_toolkit.worker.performing import Performer
from redis_toolkit.worker.rounds import Rounds

__all__ = ["Consumer"]


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

    @property
    def source(self) -> Source:
        """The keys."""
        return self.durable.source
