"""Which request lists are asked next, and for how many requests: for both engines, without any I/O.

A *round* is one packet: perhaps a pop that waits, on all lists (``BLPOP``), then a *sweep*, one
``LPOP key count`` for each of some lists. A pop that waits gives one request, and with a thousand lists
it is expensive; a sweep is cheap and takes what a busy list has.

Rules:

- With few lists every round waits on all of them and sweeps those where work was found of late.
- With many, rounds go on without waiting while sweeps find something. A sweep has the recent lists and
  a window of the others, which moves on. It grows while it finds work and shrinks while it does not.
- None starves: the window comes to every list, every eighth round waits on all of them, and such a
  round begins behind the list that gave a request last. Only such a round takes from lists that must not
  be swept, so every fourth of them begins with these, and while they have work each round waits.
- The recent lists share what may be claimed: each gets an equal part, and what the others do not need.
- A list that the server refuses (a foreign value, a missing right) is set aside and asked for once a
  second; the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis_toolkit._core.connection import packed
from redis_toolkit._core.flows import serving

__all__ = ["BATCH", "Claims", "Round"]

BATCH = 100
"""Requests that one round claims at most from the recent lists."""
FEW = 16
"""Lists up to which every round waits on all of them."""
RECENT = 64
"""Lists that are remembered because work was found there."""
MISSES = 3
"""Sweeps in a row that find nothing in a list before it is forgotten."""
WINDOW = 16
"""Lists besides the recent ones that a sweep looks into at least."""
PATIENCE = 8
"""Rounds after which one waits on all lists, however much the sweeps find."""
TURNS = 4
"""Rounds that wait, of which one begins with the lists that must not be swept."""
RETRY = 1.0
"""Seconds between two looks at a list that was set aside."""


@dataclass(slots=True)
class Round:
    """What to send, and what each reply will be about.

    Attributes:
        packet: the commands.
        replies: how many replies they get; with none of them, nothing can be asked now.
        checked: lists whose length is asked, to see whether the server still refuses them.
        waits: whether a pop on all lists comes next, which may block.
        swept: the lists that are swept, and how many requests each may give.
        window: how many of them, the first ones, are the window.
        pause: seconds until something can be asked, if there are no replies.
    """

    packet: bytes = b""
    replies: int = 0
    checked: list[int] = field(default_factory=list)
    waits: bool = False
    swept: list[tuple[int, int]] = field(default_factory=list)
    window: int = 0
    pause: float = 0.0


@dataclass(slots=True)
class _Recent:
    """A list where work was found: how much it may have, and how often in a row it had none."""

    want: int
    misses: int = 0


class Claims:
    """The lists of one source. They go by their numbers, in the order given.

    Args:
        lists: the keys.
        price: what one request of a list costs of a round's budget; None when it must not be swept.
        waiting_price: what the pop that waits costs of it.
        now: a clock in seconds.

    Attributes:
        refused: lists that were set aside since this was emptied last, and why.
        failure: the refusal of a pop for which no list could be found guilty; None when there is none.
    """

    def __init__(
        self,
        lists: Sequence[str],
        price: Callable[[int], float | None],
        *,
        waiting_price: float = 0.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = [key.encode("utf-8") for key in lists]
        self._numbers = {key: number for number, key in enumerate(self._keys)}
        self._price = price
        self._waiting_price = waiting_price
        self._now = now
        self._bulks = [_bulk(key) for key in self._keys]
        self._pops: dict[tuple[int, int], bytes] = {}
        self._waits: dict[tuple[int, float], bytes] = {}
        self._recent = {number: _Recent(1) for number in range(len(lists)) if len(lists) <= FEW}
        self._begin = 0
        self._unswept = dict.fromkeys(range(len(lists)))  # must not be swept, by the last look
        self._unswept_first = False  # whether the last round that waited began with them
        self._turns = TURNS  # rounds that waited since one began with those and found something
        self._cursor = 0
        self._window = WINDOW
        self._since_wait = PATIENCE
        self._aside: dict[int, float] = {}
        self._suspicion: Exception | None = None
        self.refused: list[tuple[int, Exception]] = []
        self.failure: Exception | None = None

    @property
    def examining(self) -> bool:
        """Whether a pop was refused, and it is not known yet which list is to blame."""
        return self._suspicion is not None

    def tell_refused(self, tell: Callable[[int, Exception], None]) -> Exception | None:
        """Tell which lists were set aside since the last time; returns the `failure` since then."""
        for number, why in self.refused:
            tell(number, why)
        self.refused.clear()
        failure, self.failure = self.failure, None
        return failure

    def next(self, budget: float, block: float, *, wait: bool = False) -> Round:
        """Return the next round.

        Args:
            budget: what the requests it claims may cost.
            block: seconds that a pop on all lists waits.
            wait: whether there has to be one.
        """
        if self._suspicion is not None:
            return self._examination()
        this = Round()
        parts: list[bytes] = []
        if self._aside:
            block = min(block, RETRY)
            if not self._look_aside(this, parts):
                return this
        many = len(self._keys) > FEW
        if len(self._aside) < len(self._keys):
            this.waits = wait or not many or self._since_wait >= PATIENCE
            if this.waits:
                budget -= self._waiting_price
                parts.append(self._pop_that_waits(block))
            if many:
                budget = self._look_around(this, budget)
            self._share(this, budget)
            if not this.swept and not this.waits:
                return self.next(budget, block, wait=True)
            parts += [self._pop(number, count) for number, count in this.swept]
        this.packet = b"".join(parts)
        this.replies = len(this.checked) + this.waits + len(this.swept)
        return this

    def take(self, this: Round, replies: Sequence[Any]) -> list[tuple[int, bytes]]:
        """Return the requests that a round has claimed, each with the number of its list.

        Args:
            this: the round.
            replies: its replies in order, refusals of the server among them as exceptions. There may be
                fewer than asked for, when the connection was lost.
        """
        place, claimed, aside = 0, [], len(self._aside)
        for number, reply in zip(this.checked, replies, strict=False):
            self._check(number, reply)
            place += 1
        if self._suspicion is not None:
            if len(replies) == this.replies:
                found = len(self._aside) > aside
                self.failure, self._suspicion = (None if found else self._suspicion), None
            return []
        if this.waits and place < len(replies):
            reply = replies[place]
            place += 1
            self._since_wait = 0
            if isinstance(reply, Exception):
                self._suspicion = reply
            elif reply:
                claimed.append(self._found_by_waiting(*reply))
        else:
            self._since_wait += 1
        hits = 0
        for looked, ((number, count), reply) in enumerate(zip(this.swept, replies[place:], strict=False)):
            if isinstance(reply, Exception):
                self._set_aside(number, reply)
            elif reply:
                claimed += [(number, body) for body in reply]
                hits += looked < this.window
            if looked >= this.window or reply:
                self._note(number, count, len(reply) if isinstance(reply, list) else 0)
        if len(self._aside) > aside:
            self._suspicion = None  # the sweep has found the list to blame
        if this.window:
            self._resize(hits * 32 >= this.window)
        if len(claimed) <= this.waits:
            self._since_wait = PATIENCE  # little to do: the next round may as well wait
        return claimed

    # -- the commands of a round ------------------------------------------------------------------

    def _examination(self) -> Round:
        """Ask for the length of each list: the one with a foreign value refuses that, too."""
        numbers = [number for number in range(len(self._keys)) if number not in self._aside]
        return Round(b"".join(map(self._length, numbers)), len(numbers), numbers)

    def _look_aside(self, this: Round, parts: list[bytes]) -> bool:
        """Add looks at lists that were set aside long enough; False when nothing can be asked now."""
        now = self._now()
        this.checked = [number for number, since in self._aside.items() if now - since >= RETRY]
        parts += map(self._length, this.checked)
        if this.checked or len(self._aside) < len(self._keys):
            return True
        this.pause = max(min(self._aside.values()) + RETRY - now, 0.0)
        return False

    def _look_around(self, this: Round, budget: float) -> float:
        """Add one request of each list of the window; returns what is left of the budget."""
        keep = budget / 2 if self._recent else 0.0
        for _ in range(min(self._window, len(self._keys))):
            price = self._price(self._cursor)
            if price is not None:
                self._unswept.pop(self._cursor, None)
            if price is not None and self._cursor not in self._aside:
                if budget - price < keep:
                    break
                budget -= price
                this.swept.append((self._cursor, 1))
            self._cursor = (self._cursor + 1) % len(self._keys)
        this.window = len(this.swept)
        return budget

    def _share(self, this: Round, budget: float) -> None:
        """Add the recent lists: those that want little first, so that the rest is known for the others."""
        recent = self._recent
        order = sorted(recent, key=lambda number: recent[number].want) if len(recent) > 1 else [*recent]
        room = BATCH
        for place, number in enumerate(order):
            price, left = self._price(number), len(order) - place
            if price is not None:
                self._unswept.pop(number, None)
            if price is None or price > budget or room <= 0:
                continue
            count = min(room // left, int(budget / left / price))
            if left > 1:
                count = min(count, recent[number].want)
            count = max(count, 1)
            room -= count
            budget -= count * price
            this.swept.append((number, count))

    def _pop_that_waits(self, block: float) -> bytes:
        begin = self._begin
        mixed = 0 < len(self._unswept) < len(self._keys)
        self._unswept_first = mixed and self._turns >= TURNS
        if mixed:
            if self._unswept_first:
                return self._wait_on([*self._unswept, *self._from(begin, self._unswept)], block)
            if len(self._keys) <= FEW:
                return self._wait_on([*self._from(begin, self._unswept), *self._unswept], block)
        packet = self._waits.get((begin, block))
        if packet is None:
            if len(self._waits) >= FEW:
                self._waits.clear()
            packet = self._waits[begin, block] = self._wait_on(self._from(begin), block)
        return packet

    def _from(self, begin: int, but: Container[int] = ()) -> list[int]:
        """Return all lists in their order, beginning with one."""
        return [number for number in (*range(begin, len(self._keys)), *range(begin)) if number not in but]

    def _wait_on(self, numbers: Sequence[int], block: float) -> bytes:
        bulks = [self._bulks[number] for number in numbers if number not in self._aside]
        name, seconds = _bulk(b"BLPOP"), _bulk(repr(float(block)).encode())
        return b"*%d\r\n%b%b%b" % (len(bulks) + 2, name, b"".join(bulks), seconds)

    def _pop(self, number: int, count: int) -> bytes:
        packet = self._pops.get((number, count))
        if packet is None:
            if len(self._pops) >= 10_000:
                self._pops.clear()
            packet = self._pops[number, count] = packed([serving.claim_backlog(self._keys[number], count)])
        return packet

    def _length(self, number: int) -> bytes:
        return packed([serving.check(self._keys[number])])

    # -- what the replies say ---------------------------------------------------------------------

    def _found_by_waiting(self, key: bytes, body: bytes) -> tuple[int, bytes]:
        number = self._numbers[key]
        self._unswept.pop(number, None)
        slow, turns = self._price(number) is None, self._turns
        if slow:
            self._unswept[number] = None  # behind the others
        self._turns = 0 if slow and self._unswept_first else min(turns + 1, TURNS)
        if slow or turns < TURNS:
            self._since_wait = PATIENCE  # it cannot be swept, and may have more: the next round waits again
        if not self._unswept_first:
            self._begin = (number + 1) % len(self._keys)
        if number not in self._recent:
            self._note(number, 1, 1)
        return number, body

    def _note(self, number: int, asked: int, got: int) -> None:
        """Remember how much a list had, and forget one that has had nothing for some time."""
        recent = self._recent.get(number)
        if got:
            if recent is None:
                if len(self._recent) >= RECENT:
                    del self._recent[next(iter(self._recent))]
                recent = self._recent[number] = _Recent(0)
            recent.want = max(recent.want, 2 * got) if got >= asked else got + 1
            recent.misses = 0
        elif recent is not None:
            recent.misses += 1
            recent.want = 1
            if recent.misses >= MISSES and len(self._keys) > 1:
                del self._recent[number]

    def _resize(self, grow: bool) -> None:
        self._window = min(2 * self._window, len(self._keys)) if grow else max(self._window // 2, WINDOW)

    def _check(self, number: int, reply: Any) -> None:
        if isinstance(reply, Exception):
            self._set_aside(number, reply)
        elif number in self._aside:
            del self._aside[number]
            self._waits.clear()

    def _set_aside(self, number: int, why: Exception) -> None:
        if number not in self._aside:
            self.refused.append((number, why))
        self._aside[number] = self._now()
        self._recent.pop(number, None)
        self._waits.clear()


def _bulk(part: bytes) -> bytes:
    """Return a part of a command as it is sent: those of a pop on many lists are not made each time."""
    return b"$%d\r\n%b\r\n" % (len(part), part)
