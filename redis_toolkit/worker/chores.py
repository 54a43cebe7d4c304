"""What the timer does for one source: what is due, what was said on its control channel, what was cancelled.

Rules: `heard` is called by the thread that reads Pub/Sub, and only notes; it gets None when messages may
have been missed. Times come from the server: by the ms that it said a moment ago, or by the clock that is
kept in time with it.
"""

from __future__ import annotations

import time
from collections import deque

from redis_toolkit._core.flows import leases, tasks
from redis_toolkit._core.recovery import as_reply, sort
from redis_toolkit._core.sync_driver import LinkDriver
from redis_toolkit.worker.consumer import Consumer
from redis_toolkit.worker.heartbeat import ServerClock
from redis_toolkit.worker.timer import Chore

__all__ = ["Cancellations", "Lookout", "Orders", "Promotion"]

GAP = 0.005
"""Seconds between two promotions, so that many due times cost no more than a few round trips."""
LOOK = 30.0
"""Seconds after which it is asked what is due, should nobody have said so."""
REFRESH = 0.5
"""Seconds between two looks at what was cancelled, while anything is."""


class Promotion(Chore):
    """Makes ready what is due.

    Args:
        consumer: whose source it is.
        clock: the server's.
    """

    def __init__(self, consumer: Consumer, clock: ServerClock) -> None:
        super().__init__(f"moving what is due in {consumer.source.shown}")
        self._consumer = consumer
        self._clock = clock
        self._last = 0.0

    def due(self, now_ms: int, due_ms: int | None) -> None:
        """Note when something is due, as the server has just said; from any thread."""
        if due_ms is not None:
            self._ask_in((due_ms - now_ms) / 1000)

    def heard(self, body: bytes | None) -> None:
        """Note the server's ms from the channel of due times."""
        if body is None:
            self._ask_in(0)
        elif body.isdigit() and len(body) < 20:
            self._ask_in(self._clock.seconds_until(int(body)))

    def _ask_in(self, seconds: float) -> None:
        self.ask(max(time.monotonic() + seconds, self._last + GAP))

    def run(self, driver: LinkDriver) -> float | None:
        found = driver.run(leases.promote(self._consumer.source))
        self._last = time.monotonic()
        self.due(found.now, found.due)
        if found.error:
            raise sort(as_reply(found.error), sent=True, where=self._consumer.rounds.where)
        return None


class Lookout(Chore):
    """Asks once in a while what is due: the message that said so may have been lost.

    Args:
        consumer: whose source it is.
        clock: the server's.
        promotion: who is told.
    """

    def __init__(self, consumer: Consumer, clock: ServerClock, promotion: Promotion) -> None:
        super().__init__(f"asking what is due in {consumer.source.shown}")
        self._consumer = consumer
        self._clock = clock
        self._promotion = promotion
        self.at = 0.0

    def run(self, driver: LinkDriver) -> float | None:
        due = driver.run(leases.next_due(self._consumer.source))
        if due is not None:
            self._promotion.ask(time.monotonic() + self._clock.seconds_until(due))
        return LOOK


class Cancellations(Chore):
    """Knows which tasks of a queue were cancelled, for as long as any is.

    Args:
        consumer: whose queue it is.
    """

    def __init__(self, consumer: Consumer) -> None:
        super().__init__(f"asking what was cancelled in {consumer.source.shown}")
        self._consumer = consumer

    def noticed(self, ids: list[str]) -> None:
        """A claim says that these are, before what it has brought is looked at."""
        holdings = self._consumer.holdings
        news = [name for name in ids if not holdings.is_cancelled(name)]
        if news:
            holdings.cancel(news)
        there_may_be_more = len(ids) >= leases.CANCELLED
        self.ask(time.monotonic() + (0 if there_may_be_more and news else REFRESH))

    def run(self, driver: LinkDriver) -> float | None:
        ids = driver.run(tasks.all_cancelled(self._consumer.source))
        holdings = self._consumer.holdings
        holdings.forget_cancelled(ids)
        holdings.cancel(ids)
        return REFRESH if ids else None


class Orders(Chore):
    """Does what is said on the control channel of a source.

    Args:
        consumer: whose source it is.
        cancellations: asked for what may have been missed; None where nothing can be cancelled.
    """

    def __init__(self, consumer: Consumer, cancellations: Cancellations | None) -> None:
        super().__init__(f"what was said about {consumer.source.shown}")
        self._consumer = consumer
        self._cancellations = cancellations
        self._said: deque[bytes | None] = deque()

    def heard(self, body: bytes | None) -> None:
        """Note a message."""
        self._said.append(body)
        self.ask(0.0)

    def run(self, driver: LinkDriver) -> float | None:  # noqa: ARG002 - it needs no connection
        rounds, cancelled = self._consumer.rounds, list[str]()
        while self._said:
            said = self._said.popleft()
            if said is None:  # anything may have been missed
                said = b"resume"
                if self._cancellations is not None:
                    self._cancellations.ask(0.0)
            match said.split(b" ", 1):
                case [b"cancel", id]:
                    cancelled.append(id.decode("utf-8", "replace"))
                case [b"pause"]:
                    rounds.pause()
                case [b"resume"]:
                    rounds.resume()
                case [b"released"]:
                    rounds.hurry()
        if cancelled:
            self._consumer.holdings.cancel(cancelled)
            if self._cancellations is not None:
                self._cancellations.ask(time.monotonic() + REFRESH)  # to forget them, once they have ended
        return None
