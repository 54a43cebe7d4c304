"""The durable work of one process: its consumers, what runs it, and the threads that keep and time it.

Rules:

- Start: the keeper, which learns the server's time, then the groups, the timer, and at last what claims.
- Stop: no more claims, then handlers end, are settled or given back; until all of that is done the keeper
  renews leases, and only then the consumers leave their groups.
- What is heard on internal channels is noted in the reader's thread and done in the timer's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from redis_toolkit._core.connection import Connections
from redis_toolkit._core.recovery import Failed
from redis_toolkit._core.sync_driver import LinkDriver
from redis_toolkit.jobs import Durable
from redis_toolkit.settings import Settings
from redis_toolkit.worker.chores import Cancellations, Lookout, Orders, Promotion
from redis_toolkit.worker.consumer import Consumer
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.heartbeat import ServerClock
from redis_toolkit.worker.janitor import Cleaning, Trimming
from redis_toolkit.worker.keeper import Keeper
from redis_toolkit.worker.timer import Chore, Timer
from redis_toolkit.worker.work_loop import WorkLoop
from redis_toolkit.worker.work_threads import WorkThreads

__all__ = ["DurablePart"]

logger = logging.getLogger("redis_toolkit")

Heard = Callable[[bytes | None], None]


class DurablePart:
    """Serves groups and queues in this process.

    Args:
        process: its name in the groups.
        durables: what it serves.
        connections: where connections come from.
        settings: the app's numbers.
        clock: what is kept in time with the server.
        counters: where everything unusual is counted.

    Attributes:
        consumers: its part in each of them.
        internal: the channels that it has to be subscribed to, and who is told.
    """

    def __init__(
        self,
        process: str,
        durables: Sequence[Durable],
        connections: Connections,
        settings: Settings,
        clock: ServerClock,
        counters: Counters,
    ) -> None:
        self._connections = connections
        self._settings = settings
        self._clock = clock
        self._counters = counters
        self.consumers = [Consumer(one, process, settings, clock, counters) for one in durables]
        self.internal: list[tuple[str, Heard]] = []
        self._first: list[Cancellations] = []
        chores = [chore for one in self.consumers for chore in self._chores(one)]
        self._crews = [
            WorkThreads(one, connections, settings, counters)
            for one in self.consumers
            if not one.durable.is_async
        ]
        self._loops = [
            WorkLoop(one, connections, settings, counters) for one in self.consumers if one.durable.is_async
        ]
        self._keeper = Keeper(self.consumers, connections, clock, counters) if self.consumers else None
        self._timer = Timer(chores, connections, settings)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = False

    @property
    def has_loops(self) -> bool:
        """Whether any of it runs on the event loop."""
        return bool(self._loops)

    @property
    def wants_recycling(self) -> bool:
        """Whether handlers that never end have taken all places of one of them."""
        engines: list[WorkThreads | WorkLoop] = [*self._crews, *self._loops]
        return any(engine.wants_recycling for engine in engines)

    def start(self) -> None:
        """Make the groups, and start all threads.

        Raises:
            RedisToolkitError: the server cannot be reached or refuses. Nothing is left running.
        """
        if self._keeper is None:
            return
        self._keeper.start()
        try:
            self._prepare()
        except Failed as failure:
            self._keeper.stop()
            raise failure.error from failure.__cause__
        self._timer.start()
        for crew in self._crews:
            crew.start()

    async def start_loops(self) -> None:
        """Start what runs on this event loop."""
        self._loop = asyncio.get_running_loop()
        for engine in self._loops:
            await engine.start()

    def runs(self, runner: object) -> bool:
        """Return whether this thread or task runs one of the jobs."""
        engines: list[WorkThreads | WorkLoop] = [*self._crews, *self._loops]
        return any(engine.runs(runner) for engine in engines)

    def drain(self) -> None:
        """Claim no more."""
        for crew in self._crews:
            crew.drain()
        if self._loop is not None and not self._loop.is_closed():
            for engine in self._loops:
                self._loop.call_soon_threadsafe(engine.drain)

    def stop(self, deadline: float) -> bool:
        """Let the threads end what they run, until a deadline (monotonic seconds).

        Returns:
            Whether every handler ended in time.
        """
        ended = [crew.stop(deadline) for crew in self._crews]
        return all(ended)

    async def stop_loops(self, deadline: float) -> bool:
        """Do the same for what runs on this event loop; `close_loops` follows."""
        return all(await asyncio.gather(*[engine.stop(deadline) for engine in self._loops]))

    async def close_loops(self, deadline: float) -> None:
        """Wait until the server has taken what came of it, until a deadline."""
        await asyncio.gather(*[engine.close(deadline) for engine in self._loops])

    def close(self) -> None:
        """End the timer and the keeper: nothing runs any more."""
        if self._keeper is not None and not self._ended:
            self._ended = True
            self._timer.stop()
            self._keeper.stop()
            for consumer in self.consumers:
                consumer.alone.close()

    def _prepare(self) -> None:
        """Make groups that are missing, and learn what was cancelled."""
        driver = LinkDriver(self._connections, timeout=self._settings.command_timeout)
        try:
            for consumer in self.consumers:
                if driver.run(consumer.rounds.begin()):
                    logger.info("%s begins", consumer.source.shown)
            for cancellations in self._first:
                again = cancellations.run(driver)
                if again is not None:
                    cancellations.ask(time.monotonic() + again)
        finally:
            driver.close()

    def _chores(self, consumer: Consumer) -> list[Chore]:
        """Make what the timer does for a source, and wire it up."""
        rounds = consumer.rounds
        promotion = Promotion(consumer, self._clock)
        cancellations = Cancellations(consumer) if consumer.durable.is_queue else None
        orders = Orders(consumer, cancellations)
        chores = [
            promotion,
            Lookout(consumer, self._clock, promotion),
            orders,
            Cleaning(consumer, self._counters),
        ]
        if cancellations is not None:
            chores.append(cancellations)
            self._first.append(cancellations)
            rounds.cancelled = cancellations.noticed
        else:
            chores.append(Trimming(consumer))
        rounds.where = self._connections.where
        rounds.due = promotion.due
        rounds.state_lost = lambda: self._state_lost(consumer)
        self.internal += [(consumer.source.due, promotion.heard), (consumer.source.control, orders.heard)]
        return chores

    def _state_lost(self, consumer: Consumer) -> None:
        self._counters.add("state_lost")
        logger.error(
            "the server had lost the group of %s, or somebody has removed it: it was made again; what it has "
            "not kept is gone, and what had been claimed may be, too",
            consumer.source.shown,
        )
