"""What a client does with what it hears, without I/O: each notification once and in order.

Rules:

- What is live is given on at once; what was missed is looked for in what the user has not read.
- After a subscription, and when more came than may wait, all after the last one that was seen is read. What
  comes live and was read already is left out then.
- Who has no right to read it, or finds that some of it was dropped, reports a gap and goes on.
- `Reception.take` says step by step what it wants done, as a flow does, and never does it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from redis_toolkit._core.flow import Flow
from redis_toolkit._core.flows.notifications import BROADCAST, NoticeId, Position, Unread, channel_of, unread
from redis_toolkit._core.recovery import Failed, Fate, pause
from redis_toolkit.errors import DecodeError, RedisToolkitError, ServerUnreachable, one_line
from redis_toolkit.keys import notification_events
from redis_toolkit.message import Gap, Message
from redis_toolkit.patterns.inbox import Inbox
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.trouble import Trouble

__all__ = ["Ask", "Give", "Pause", "Reception", "Step"]

logger = logging.getLogger("redis_toolkit")

PAGE = 200
"""Notifications that are read at once, of those that were missed."""

AHEAD = 24 * 3600.0
"""Seconds that the server's clock may be ahead of ours."""


@dataclass(slots=True)
class Ask:
    """Carry out a flow; answered with its result, or its error is thrown in."""

    flow: Flow[Unread]


@dataclass(slots=True)
class Give:
    """Have the message's handler called."""

    message: Message


@dataclass(slots=True)
class Pause:
    """Wait, but not for one that is being stopped."""

    seconds: float


Step = Ask | Give | Pause


class Reception:
    """What one client has seen.

    Args:
        user: whose client it is.
        inbox: reads what is kept.
        channels: those that it has a handler for.
        counters: where what cannot be read is counted.
        report: called with each `Gap`.
        reconnect_cap: seconds that it waits at most between two attempts to read.
    """

    def __init__(
        self,
        user: str,
        inbox: Inbox,
        channels: frozenset[str],
        counters: Counters,
        report: Callable[[Gap], None],
        reconnect_cap: float,
    ) -> None:
        self._user = user
        self._inbox = inbox
        self._seen = Position()
        self._begun = False
        self._read = Position()
        self._channels = channels
        self._counters = counters
        self._report = report
        self._cap = reconnect_cap
        self._trouble = Trouble("what was missed cannot be read", "what was missed can be read again")

    def begin(self, position: Position) -> None:
        """Begin, before anything is taken, with what comes after a position; else with all that is unread."""
        self._seen, self._begun = position, True

    def take(self, channel: str, body: bytes) -> Generator[Step, Any, None]:
        """Say what is to be done with a message.

        Args:
            channel: where it came from; "" when something may have been missed.
            body: its bytes.
        """
        if not channel:
            yield from self._catch_up()
            return
        try:
            fields = self._inbox.notices.incoming(body)
        except DecodeError as error:
            self._counters.add("undecodable")
            logger.warning("dropped a message on %r: %s", channel, error)
            return
        found = NoticeId.read(fields.get("id"))
        # Else it was published by somebody else, or says what was read.
        ours = found is not None and found.broadcast == (channel == BROADCAST) and _is_sane(found)
        if found is None or not ours or channel == notification_events(self._user):
            yield Give(Message(channel, fields))
        elif not self._read.is_past(found):
            self._seen = self._seen.moved(found)
            yield Give(Message(channel, fields, id=str(found)))

    def _catch_up(self) -> Generator[Step, Any, None]:
        """Read all after the last one that was seen."""
        more, failures = True, 0
        while more:
            try:
                found: Unread = yield Ask(
                    unread(self._user, self._inbox.limits, limit=PAGE, after=self._seen)
                )
            except ServerUnreachable as error:
                failures += 1
                self._trouble.tell(Failed(Fate.NOT_EXECUTED, error))
                yield Pause(pause(failures, self._cap))
                continue
            except RedisToolkitError as error:
                self._tell_gap(one_line(str(error)))
                return
            self._trouble.over()
            more, failures = found.more, 0
            if found.lost and self._begun:  # else it wants all that there is, whatever there was before
                self._tell_gap("; ".join(found.lost))
            self._seen = self._read = found.since
            self._begun = True
            for item in found.items:
                self._seen, self._read = self._seen.moved(item.id), self._read.moved(item.id)
                channel = BROADCAST if item.id.broadcast else channel_of(self._user)
                if channel not in self._channels:
                    continue
                fields = self._inbox.readable(item)
                if fields is None:
                    self._counters.add("undecodable")
                else:
                    yield Give(Message(channel, fields, id=str(item.id)))

    def _tell_gap(self, reason: str) -> None:
        last = max(self._seen.own.ms, self._seen.broadcast.ms) / 1000
        self._report(Gap(tuple(sorted(self._channels)), last or time.time(), time.time(), reason))


def _is_sane(id: NoticeId) -> bool:
    """Return whether an id is not from a time to come, by the day: somebody has made it up, and nothing that
    comes until then would be looked for."""
    return id.ms < (time.time() + AHEAD) * 1000
