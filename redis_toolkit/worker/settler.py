"""Tells the server how work ended, for an engine on the event loop, until the server has answered.

Rules:

- What is ready leaves in one write, with the commands that follow from what was settled before.
- When the connection is lost, what was not answered goes again on the next one: a settlement that counted
  already is "lost" then, which does no harm. What the server refuses is tried again after a pause.
- An item is held until its settlement, or its return, has been answered.
- Of the commands that follow, those that push to who waits go again; others do not, as they might be heard
  twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from redis_toolkit._core.flow import Command
from redis_toolkit._core.flows.work import Held, Settlement
from redis_toolkit._core.recovery import Failed, Fate, as_reply, describe, sort
from redis_toolkit.worker.consumer import Consumer
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.kept_link import KeptLink
from redis_toolkit.worker.packet import TWICE
from redis_toolkit.worker.sent import Answered, Sent
from redis_toolkit.worker.trouble import Trouble

__all__ = ["Settler"]

logger = logging.getLogger("redis_toolkit")

REFUSED_SECONDS = 1.0
"""Seconds until what the server has refused is tried again."""


class Settler:
    """Settles and gives back what one consumer holds.

    Args:
        consumer: whose work it is.
        kept: the connection.
        counters: where commands are counted that the server refused.
        changed: called when the server has answered something, or there is something to send.

    Attributes:
        owed: how much the server has not answered yet.
    """

    def __init__(
        self, consumer: Consumer, kept: KeptLink, counters: Counters, changed: Callable[[], None]
    ) -> None:
        self._consumer = consumer
        self._rounds = consumer.rounds
        self._kept = kept
        self._counters = counters
        self._changed = changed
        name = consumer.source.shown
        self._trouble = Trouble(f"settling work of {name} is interrupted", f"work of {name} is settled again")
        self._ready: list[Settlement] = []
        self._given: list[Held] = []
        self._following: list[Command] = []
        self._repeats = False
        self._closed = False
        self._again: set[asyncio.TimerHandle] = set()
        self.owed = 0

    def settle(self, settlement: Settlement) -> None:
        """Send a settlement with the next `flush`."""
        self.owed += 1
        self._ready.append(settlement)

    def release(self, held: Sequence[Held]) -> None:
        """Give back what was not run, with the next `flush`."""
        self.owed += len(held)
        self._given += held
        self._changed()

    def flush(self) -> None:
        """Send now what is ready; without a connection it stays, and whoever opens one calls this."""
        link = self._kept.link
        if link is None or self._closed:
            return
        if self._ready:
            ready, self._ready = self._ready, []
            repeats, self._repeats = self._repeats, False
            Sent(self._rounds, self._rounds.settle(ready), link, partial(self._settled, repeats))
        if self._given:
            given, self._given = self._given, []
            Sent(self._rounds, self._rounds.release(given), link, partial(self._released, given))
        if self._following:
            following, self._following = self._following, []
            link.send(following, [partial(self._followed, command) for command in following])
        link.flush()

    async def finish(self, deadline: float) -> None:
        """Wait until the server has answered everything, or a deadline (monotonic seconds); then end."""
        try:
            while self.owed and time.monotonic() < deadline:
                self.flush()
                await asyncio.sleep(0.005)
        finally:
            self._closed = True
            for timer in self._again:
                timer.cancel()
            if self.owed:
                name = self._consumer.source.shown
                logger.warning(
                    "the server has not answered how %d pieces of work of %s ended: what it does not know of "
                    "is done again when the lease is over",
                    self.owed,
                    name,
                )

    # -- what the server says ---------------------------------------------------------------------

    def _settled(self, repeats: bool, answered: Answered) -> None:
        taken = answered.taken
        self.owed -= len(taken.counted) + len(taken.lost)
        if taken.counted:
            self._kept.worked()
        self._follow(self._consumer.settled(taken, repeats=repeats))
        if taken.unsettled:
            why = as_reply(taken.unsettled[0][1])
            self._trouble.tell(sort(why, sent=True, where=self._rounds.where, doing="to settle"))
            self._later([one for one, _ in taken.unsettled], [])
        elif taken.counted:
            self._trouble.over()
        if taken.unanswered:
            self._repeats = True
            self._ready[:0] = taken.unanswered
        self._look(answered)

    def _released(self, given: list[Held], answered: Answered) -> None:
        errors = [reply for reply in answered.replies if isinstance(reply, Exception)]
        if answered.failure is not None:
            self._given += given  # once more does no harm: the delivery count is another by then
        elif errors:
            self._trouble.tell(
                sort(errors[0], sent=True, where=self._rounds.where, doing="to give work back")
            )
            self._later([], given)
        else:
            self.owed -= len(given)
            self._consumer.holdings.remove(given)
        self._look(answered)

    def _look(self, answered: Answered) -> None:
        """Give the connection up when it is lost, or when the server says that it does not serve now."""
        failure = answered.failure or answered.passing()
        if failure is not None:
            self._rounds.distrust()
            self._kept.fail(failure)
        self._changed()

    def _later(self, ready: list[Settlement], given: list[Held]) -> None:
        def again() -> None:
            self._again.discard(timer)
            self._ready += ready
            self._given += given
            self._changed()

        timer = asyncio.get_running_loop().call_later(REFUSED_SECONDS, again)
        self._again.add(timer)

    # -- what follows ------------------------------------------------------------------------------

    def _follow(self, commands: list[Command]) -> None:
        if commands:
            self.owed += len(commands)
            self._following += commands

    def _followed(self, command: Command, reply: Any) -> None:
        if isinstance(reply, Failed):
            self._kept.fail(reply)
            if command[0] in TWICE or reply.fate is Fate.NOT_EXECUTED:
                self._following.append(command)
                return
        self.owed -= 1
        if isinstance(reply, Exception):
            self._counters.add("undelivered")
            logger.warning("%s: %s", describe(command[:2]), reply)
