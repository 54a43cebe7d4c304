"""The keeper: renews the leases of whatever a process runs, and keeps the time.

Rules:

- Its own thread and its own connection: neither a busy handler nor a blocking claim delays it.
- A beat every quarter of a lease, answered within a quarter of the shortest lease. What was claimed a moment
  ago is left out: most of it ends before the next beat.
- What two beats in a row find in somebody else's hands is marked as lost: after one, it may just have ended.
  It goes on running; its end will not count.
- After a beat that failed or was slow, nobody else's work is taken for some seconds: the others, too, could
  send none.
- It is the last to stop: what runs while the others stop keeps its lease.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from redis_toolkit._core.connection import Connections
from redis_toolkit._core.flows import leases
from redis_toolkit._core.flows.work import Held, Pulse
from redis_toolkit._core.recovery import Failed, Fate, lacks_group
from redis_toolkit._core.sync_driver import LinkDriver
from redis_toolkit.worker.beating import beat_until
from redis_toolkit.worker.consumer import Consumer
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.heartbeat import ServerClock
from redis_toolkit.worker.rounds import SLOW
from redis_toolkit.worker.trouble import Trouble

__all__ = ["Keeper"]

logger = logging.getLogger("redis_toolkit")

IDLE = 12
"""Beats after which the clock is looked at, when nothing that was renewed has told the time."""


class Keeper:
    """Renews the leases of all consumers of a process.

    Args:
        consumers: what they hold.
        connections: where its connection comes from.
        clock: what it keeps in time with the server.
        counters: where lost work is counted.
    """

    def __init__(
        self,
        consumers: Sequence[Consumer],
        connections: Connections,
        clock: ServerClock,
        counters: Counters,
    ) -> None:
        self._clock = clock
        self._counters = counters
        self._interval = min(consumer.lease for consumer in consumers) / 4
        self._driver = LinkDriver(connections, timeout=self._interval)
        self._due = dict.fromkeys(consumers, 0.0)
        self._clock_due = 0.0
        self._doubted: dict[Consumer, set[tuple[int, bytes, int]]] = {one: set() for one in consumers}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rt-keeper", daemon=True)

    def start(self) -> None:
        """Ask for the server's time, then go on in the background.

        Raises:
            RedisToolkitError: the server cannot be reached or refuses.
        """
        try:
            self._look_at_clock()
        except Failed as failure:
            self._driver.close()
            raise failure.error from failure.__cause__
        self._thread.start()

    def stop(self) -> None:
        """End the thread, once nothing runs any more; the consumers leave their groups."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        try:
            for consumer in self._due:
                self._driver.run(leases.leave(consumer.source, consumer.name))
        except Failed as failure:
            logger.info("consumers stay in their groups until others remove them: %s", failure)
        finally:
            self._driver.close()

    def _run(self) -> None:
        trouble = Trouble("leases could not be renewed", "leases are renewed again")
        beat_until(self._stopping, self._beat_all, self._interval, trouble)

    def _beat_all(self) -> None:
        """Renew what is due, and look at the clock if nothing told the time; raises the last refusal."""
        refusal: Failed | None = None
        for consumer, due in self._due.items():
            now = time.monotonic()
            if due > now + self._interval / 2:
                continue
            try:
                self._beat(consumer)
            except Failed as failure:
                if failure.fate is not Fate.REFUSED:
                    self._distrust()
                    raise
                refusal = failure
            self._due[consumer] = now + consumer.lease / 4
        if time.monotonic() >= self._clock_due:
            self._look_at_clock()
        if refusal is not None:
            raise refusal

    def _beat(self, consumer: Consumer) -> None:
        items = consumer.holdings.running(consumer.lease / 8)
        if not items:
            return
        held: list[tuple[Held, str]] = [(item.claimed, item.id) for item in items]
        sent = time.monotonic()
        try:
            pulse = self._driver.run(leases.heartbeat(consumer.source, consumer.name, held))
        except Failed as failure:
            if not lacks_group(str(failure)):
                raise
            pulse = self._apart(consumer, held)
        if pulse is None:
            return
        self._tell_time(pulse.now, sent)
        self._lose(consumer, pulse.lost)
        if pulse.cancelled:
            consumer.holdings.cancel(name.decode("utf-8", "replace") for name in pulse.cancelled)

    def _lose(self, consumer: Consumer, missing: Sequence[Held]) -> None:
        doubted = self._doubted[consumer]
        self._doubted[consumer] = {(one.stream, one.entry, one.deliveries) for one in missing}
        again = [one for one in missing if (one.stream, one.entry, one.deliveries) in doubted]
        lost = consumer.holdings.lose(again)
        if lost:
            self._counters.add("lost", len(lost))
            logger.warning(
                "%d of %s belong to others by now, as their lease had run out: what they do will not count",
                len(lost),
                consumer.source.shown,
            )

    def _apart(self, consumer: Consumer, held: Sequence[tuple[Held, str]]) -> Pulse:
        """Renew each stream by itself: one has lost its group, and with it who holds what."""
        whole = Pulse(0)
        for stream in {one.stream for one, _ in held}:
            own = [one for one in held if one[0].stream == stream]
            try:
                pulse = self._driver.run(leases.heartbeat(consumer.source, consumer.name, own))
            except Failed as failure:
                if not lacks_group(str(failure)):
                    raise
                whole.lost += [one for one, _ in own]
            else:
                assert pulse is not None
                whole.now = pulse.now
                whole.lost += pulse.lost
                whole.cancelled += pulse.cancelled
        return whole

    def _look_at_clock(self) -> None:
        sent = time.monotonic()
        try:
            server_ms = self._driver.run(leases.clock())
        except Failed:
            self._distrust()
            raise
        self._tell_time(server_ms, sent)

    def _tell_time(self, server_ms: int, sent: float) -> None:
        received = time.monotonic()
        if received - sent > SLOW:
            self._distrust()
        elif server_ms:
            self._clock.update(server_ms, sent, received)
            self._clock_due = received + IDLE * self._interval

    def _distrust(self) -> None:
        for consumer in self._due:
            consumer.rounds.distrust()
