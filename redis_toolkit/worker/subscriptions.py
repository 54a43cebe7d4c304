"""What a subscribed connection was asked for, and what the server has answered; without I/O.

Rules:

- Each SUBSCRIBE names one channel, so that each has one answer: answers come in the order of asking.
- A channel is confirmed when the last that was asked for it is answered, and it was not left since.
- A channel that was refused stays so until it is confirmed, or left.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from redis_toolkit._core.flow import Command

__all__ = ["Subscriptions"]


class Subscriptions:
    """The channels of one connection.

    Attributes:
        confirmed: those that are heard.
        refused: those that were refused last.
    """

    def __init__(self) -> None:
        self.confirmed: set[bytes] = set()
        self.refused: set[bytes] = set()
        self._asked: deque[bytes] = deque()
        self._unanswered: Counter[bytes] = Counter()
        self._left: set[bytes] = set()  # after what is unanswered was asked

    @property
    def next(self) -> bytes | None:
        """The channel whose answer comes next, if one is to come."""
        return self._asked[0] if self._asked else None

    def unasked(self, channels: Iterable[bytes]) -> list[bytes]:
        """Return those that are to be asked for: not confirmed, and not on their way to be."""
        missing = [one for one in channels if one not in self.confirmed]
        return [one for one in missing if not self._unanswered[one] or one in self._left]

    def ask(self, channels: Iterable[bytes]) -> list[Command | bytes]:
        """Note that channels are asked for; returns the commands for it."""
        asked = list(channels)
        self._asked.extend(asked)
        self._unanswered.update(asked)
        self._left.difference_update(asked)
        return [("SUBSCRIBE", channel) for channel in asked]

    def leave(self, channels: Iterable[bytes]) -> list[Command | bytes]:
        """Note that channels are left; returns the commands for it."""
        known = [one for one in channels if one in self.confirmed or self._unanswered[one]]
        self.confirmed.difference_update(known)
        self._left.update(one for one in known if self._unanswered[one])
        return [("UNSUBSCRIBE", *known)] if known else []

    def answer(self, *, refused: bool, wanted: bool) -> None:
        """Note the answer to what was asked for first; ``wanted`` says whether somebody still wants that."""
        channel = self._asked.popleft()
        self._unanswered[channel] -= 1
        answered = not self._unanswered[channel]
        if refused and wanted:
            self.refused.add(channel)
        elif wanted and answered and channel not in self._left:
            self.confirmed.add(channel)
            self.refused.discard(channel)
        if answered:
            del self._unanswered[channel]
            self._left.discard(channel)

    def clear(self) -> None:
        """The connection is gone, and all that it was asked for."""
        for one in (self.confirmed, self.refused, self._asked, self._unanswered, self._left):
            one.clear()
