"""The janitor of one source: removes what every group has finished, and what dead workers have left.

Rules: chores of the timer, each process has its own, and doing them twice does no harm. Where nothing
happens they cost next to nothing.
"""

from __future__ import annotations

import logging
import random
import time

from redis_toolkit._core.flows import durable, leases
from redis_toolkit._core.sync_driver import LinkDriver
from redis_toolkit.worker.consumer import Consumer
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.timer import Chore

__all__ = ["Cleaning", "Trimming"]

logger = logging.getLogger("redis_toolkit")

TRIM = 5.0
"""Seconds between two trims of a log in which something has ended."""
CLEAN = 60.0
"""Seconds between two looks for dead consumers, about; twice as many after each that finds none."""
LONGEST = 5
"""How many times as many at most."""


class Trimming(Chore):
    """Trims the log of a channel by what all groups have finished.

    Args:
        consumer: one that serves a group of it.
    """

    def __init__(self, consumer: Consumer) -> None:
        super().__init__(f"trimming the events of {consumer.source.shown}")
        self._consumer = consumer
        self.at = time.monotonic() + TRIM

    def run(self, driver: LinkDriver) -> float | None:
        rounds = self._consumer.rounds
        if rounds.ended:
            rounds.ended = False
            driver.run(durable.trim(self._consumer.durable.channel))
        return TRIM


class Cleaning(Chore):
    """Removes consumers that were left behind, and puts back what was orphaned.

    Args:
        consumer: whose source it is.
        counters: where orphans are counted.
    """

    def __init__(self, consumer: Consumer, counters: Counters) -> None:
        super().__init__(f"cleaning up in {consumer.source.shown}")
        self._consumer = consumer
        self._counters = counters
        self._slower = 1
        self.at = time.monotonic() + CLEAN * random.uniform(1, 2)

    def run(self, driver: LinkDriver) -> float | None:
        source = self._consumer.source
        idle_ms = int(max(CLEAN, 4 * self._consumer.lease) * 1000)
        removed, orphans = driver.run(leases.clean(source, idle_ms))
        if orphans:
            self._counters.add("orphans", orphans)
            logger.warning(
                "%d of %s had been claimed by consumers that somebody has deleted: they are ready again",
                orphans,
                source.shown,
            )
        self._slower = 1 if removed or orphans else min(2 * self._slower, LONGEST)
        return CLEAN * self._slower * random.uniform(0.75, 1.25)
