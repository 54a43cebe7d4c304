"""Counts of what went another way than the usual one, per process."""

from __future__ import annotations

import threading

__all__ = ["Counters"]


class Counters:
    """Named counts, from any thread.

    Names in use: ``gaps``, ``overflowed`` (live messages dropped by a full lane), ``undecodable``
    (messages that could not be read), ``mismatched`` (payloads that did not fit the handler),
    ``failed`` (handlers that raised), ``expired`` (requests and tasks not begun after their deadline),
    ``undelivered`` (replies the server refused).

    Of durable work besides: ``retried`` (attempts after which there will be another), ``dead`` (dead
    letters), ``rejected`` (by `Reject`), ``poison`` (delivered too often without an end), ``unknown`` (tasks
    of an unknown type, put off), ``cancelled``, ``abandoned`` (threads left to themselves after a timeout),
    ``lost`` (entries whose lease ran out while they ran), ``state_lost`` (groups that the server had lost),
    ``orphans`` (entries put back after somebody had deleted their consumer).
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, name: str, count: int = 1) -> None:
        """Add to a count."""
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + count

    def snapshot(self) -> dict[str, int]:
        """Return all counts that are not 0."""
        with self._lock:
            return dict(self._counts)
