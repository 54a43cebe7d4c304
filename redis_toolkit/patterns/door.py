"""The door of a client's lane: what was missed goes in before what comes after it."""

from __future__ import annotations

import threading

from redis_toolkit.patterns.client_lane import MISSED
from redis_toolkit.worker.lane import Item, Lane

__all__ = ["Door"]


class Door:
    """Lets messages into a lane once the client has begun, and never while it is not subscribed.

    Args:
        channels: what the client hears, exact names.
        lane: the lane.
    """

    def __init__(self, channels: tuple[bytes, ...], lane: Lane) -> None:
        self._channels = channels
        self._lane = lane
        self._lock = threading.Lock()
        self._begun = self._cut = self._missed = False
        self._held: list[Item] = []

    @property
    def channels(self) -> tuple[bytes, ...]:
        """Exact names."""
        return self._channels

    def begin(self, *, missed: bool) -> None:
        """Open it; ``missed`` says whether there is something to be read first."""
        with self._lock:
            self._begun = True
            self._missed = self._missed or missed
            self._let_in()

    def hear(self, channel: bytes, body: bytes) -> None:
        """Take a message."""
        with self._lock:
            if self._begun and not self._cut:
                self._lane.put(channel, None, body)
            else:
                self._held.append((channel, None, body))

    def cut(self, _since: float, _reason: str) -> None:
        """Close it until it is subscribed again; something may have been missed."""
        with self._lock:
            self._cut = self._missed = True

    def back(self) -> None:
        """Open it again."""
        with self._lock:
            self._cut = False
            self._let_in()

    def _let_in(self) -> None:
        if self._begun and not self._cut:
            items = [MISSED] * self._missed + self._held
            self._missed, self._held = False, []
            for item in items:
                self._lane.put(*item)
