"""When others' work is looked for, and what of it is taken over; without doing it.

Rules:

- It is looked for every `RECOVERY` seconds, with one command for each stream, by packets that claim anyway;
  when that finds some, the next packet takes it. The first look comes `FIRST` seconds after the start.
- Not for a while after the connection was lost or an answer was slow: the others, too, could not renew what
  they hold.
- Of what was delivered often without an end, one is taken at a time, as `alone.py` says, by a packet of its
  own. While some of it waits, no claim blocks for longer than `WAITING`; and none blocks at all while the one
  before has run for less than `SOON`, as then it may end at any moment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from redis_toolkit._core.flow import Command, ScriptCall
from redis_toolkit._core.flows import leases
from redis_toolkit._core.flows.work import Source
from redis_toolkit.worker.alone import SUSPECT, Alone
from redis_toolkit.worker.packet import Ask, Taken

__all__ = ["DISTRUST", "RECOVERY", "Others"]

RECOVERY = 3.0
"""Seconds between two looks for what others have left; less for short leases."""
FIRST = 0.5
"""Seconds until the first look; less for short leases."""
DISTRUST = 7.5
"""Seconds after a lost connection until others have renewed what they hold; fewer if leases are short."""
WAITING = 0.1
"""Seconds that a claim blocks at most while something waits that is to run alone."""
SOON = 0.1
"""Seconds that one has run alone after which its end is not waited for in short steps any more."""
SHORTEST, LONGEST = 0.001, 0.02
"""Seconds that such a step takes."""

Refuse = Callable[[Exception, Command | ScriptCall, Taken], object]


class Others:
    """Looks for what other consumers of a source have left behind.

    Args:
        source: its keys.
        consumer: this process's name in the group.
        lease: seconds.
        now: a clock in seconds.
        alone: this consumer's way to the place of suspects.
        refuse: called with an error that the server answered.
    """

    def __init__(
        self,
        source: Source,
        consumer: str,
        lease: float,
        now: Callable[[], float],
        alone: Alone,
        refuse: Refuse,
    ) -> None:
        self._source = source
        self._consumer = consumer
        self._lease_ms = int(lease * 1000)
        self._now = now
        self._alone = alone
        self._refuse = refuse
        self._interval = min(RECOVERY, 0.3 * lease)
        self._distrust = min(DISTRUST, 0.75 * lease)
        self._look_at = now() + min(FIRST, self._interval)
        self._trusted_at = 0.0
        self._has_looked = False
        self._hurry = False
        self._found = False
        self._suspect: int | None = None  # a stream that has some

    def hurry(self) -> None:
        """Look with the next packet that claims; from any thread."""
        self._hurry = True

    def distrust(self) -> None:
        """Leave others' work alone for a while; from any thread."""
        self._trusted_at = self._now() + self._distrust
        self._found = False

    def longest_block(self) -> float:
        """Return the seconds for which a claim may block: nothing is looked for meanwhile."""
        if self._suspect is not None:
            return min(WAITING, self._interval)
        if self._has_looked:
            return self._interval
        return min(self._interval, max(self._look_at - self._now(), 0.001))

    def pause(self) -> float:
        """Return the seconds to wait after a claim of nothing, before one that must not block; or 0."""
        busy = 0.0 if self._suspect is None else self._alone.busy()
        return min(max(busy / 2, SHORTEST), LONGEST) if 0 < busy < SOON else 0.0

    def look(self) -> Ask | None:
        """Return what looks, if it is time to; from then on it is not."""
        now = self._now()
        if now < self._trusted_at or not (self._hurry or now >= self._look_at):
            return None
        self._hurry, self._has_looked = False, True
        self._look_at = now + self._interval
        return Ask(self._looked, leases.probe(self._source, self._lease_ms))

    def _looked(self, ask: Ask, replies: Sequence[Any], taken: Taken) -> None:
        for command, reply in zip(ask.commands, replies, strict=False):
            if isinstance(reply, Exception):
                self._refuse(reply, command, taken)
            elif reply:
                self._found = True

    def take(self, free: int) -> Ask | None:
        """Return what takes over up to ``free``, or one suspect, if there is something."""
        asked = self._source, self._consumer, self._lease_ms
        if self._found:
            return Ask(self._took, leases.recover_calls(*asked, free, often=SUSPECT), free)
        stream = self._suspect
        if stream is None or self._now() < self._trusted_at or not self._alone.enter():
            return None
        call = leases.recover_calls(*asked, 1, often=SUSPECT, one_of=stream)[stream]
        return Ask(self._took_suspect, (call,), 1, stream, entered=True)

    def unanswered(self, ask: Ask) -> None:
        """Note that a packet was lost: what it has taken comes again when its lease is over."""
        if ask.entered:
            self._alone.keep(None)

    def _took(self, ask: Ask, replies: Sequence[Any], taken: Taken) -> None:
        self._found, self._suspect = False, None
        for place, reply in enumerate(replies):
            if isinstance(reply, Exception):
                self._refuse(reply, ask.commands[place], taken)
                continue
            items = leases.read_recovered(place, reply)
            taken.claimed += items
            if len(items) >= ask.number:
                self._hurry = True  # there may be more
            if self._suspect is None and leases.left_alone(reply):
                self._suspect = place

    def _took_suspect(self, ask: Ask, replies: Sequence[Any], taken: Taken) -> None:
        [reply] = replies
        suspect = None
        if isinstance(reply, Exception):
            self._suspect = None
            self._refuse(reply, ask.commands[0], taken)
        elif items := leases.read_recovered(ask.main, reply):
            taken.claimed += items  # there may be more
            suspect = next((one for one in items if one.deliveries >= SUSPECT), None)
        else:
            self._suspect, self._hurry = None, True  # another stream may have some
        self._alone.keep(suspect)
