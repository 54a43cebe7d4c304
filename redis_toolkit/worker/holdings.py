"""What one process holds of one source: claimed, not yet settled. Shared by its engine, keeper and timer.

Rules:

- An engine adds what it has claimed before anything else happens to it, and removes it when the server has
  answered its settlement, or when it was released. Whatever is in here has its lease renewed.
- Every method may be called from any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis_toolkit._core.flow import Command
from redis_toolkit._core.flows.work import Claimed, Held, Settlement
from redis_toolkit.jobs import Job
from redis_toolkit.message import Message
from redis_toolkit.worker.alone import Alone

__all__ = ["Holdings", "Item"]


@dataclass(eq=False, slots=True)
class Item:
    """One task or event that this process has claimed and means to run.

    Attributes:
        claimed: its entry.
        id: of the task or the event.
        job: who handles it.
        message: what the handler is told.
        spread: whether the payload is a map of parameters.
        unique: the unique key that the task holds, or "".
        fields: the envelope of a task; None of an event.
        then: what to send when an event is done and that has counted, or None.
        told: whether its handler was told that it is cancelled, so that it ends as that.
        progressed: whether its handler has said how far it is, so that there is a record already.
        since: monotonic seconds when it was claimed.
        started: monotonic seconds when its handler began, or None.
        cancelled: whether it was cancelled by a caller: a flag for threads, besides `interrupt`.
        lost: whether somebody else holds it by now, so that its end will not count.
        interrupt: ends its handler if that can be (a coroutine), or None.
    """

    claimed: Claimed
    id: str
    job: Job
    message: Message
    spread: bool = False
    unique: str = ""
    fields: dict[str, Any] | None = None
    then: Command | None = None
    told: bool = False
    progressed: bool = False
    since: float = field(default_factory=time.monotonic)
    started: float | None = None
    cancelled: bool = False
    lost: bool = False
    interrupt: Callable[[], None] | None = None


class Holdings:
    """What is held, and which ids were cancelled.

    Args:
        alone: told of what is held no more; None: one of its own.
    """

    def __init__(self, alone: Alone | None = None) -> None:
        self._alone = alone or Alone()
        self._lock = threading.Lock()
        self._items: dict[tuple[int, bytes], Item] = {}
        self._cancelled: set[str] = set()

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: Item) -> None:
        """Hold an item."""
        with self._lock:
            self._items[item.claimed.stream, item.claimed.entry] = item

    def remove(self, held: Sequence[Held]) -> None:
        """Hold these no more."""
        self._alone.leave(held)
        with self._lock:
            for one in held:
                place = one.stream, one.entry
                item = self._items.get(place)
                # with another count it was lost, and claimed again by this same process
                if item is not None and item.claimed.deliveries == one.deliveries:
                    del self._items[place]

    def settled(self, counted: Sequence[Settlement]) -> None:
        """Hold these no more, as the server has counted how they ended; and forget that they were cancelled.

        The server has forgotten it with the end: another task may have the id from now on.
        """
        self.remove([one.held for one in counted])
        if self._cancelled:
            ended = [str(one.id) for one in counted if one.outcome.state != "later"]
            with self._lock:
                self._cancelled.difference_update(ended)

    def running(self, older_than: float = 0.0) -> list[Item]:
        """Return what has been held for some seconds, and is not lost."""
        before = time.monotonic() - older_than
        with self._lock:
            return [item for item in self._items.values() if item.since <= before and not item.lost]

    def lose(self, held: Iterable[Held]) -> list[Item]:
        """Note that these belong to somebody else by now; returns those of which that is news."""
        with self._lock:
            found = [(one, self._items.get((one.stream, one.entry))) for one in held]
        lost = [
            item
            for one, item in found
            if item is not None and not item.lost and item.claimed.deliveries == one.deliveries
        ]
        for item in lost:
            item.lost = True
        return lost

    def cancel(self, ids: Iterable[str]) -> None:
        """Note that tasks were cancelled: those that run are interrupted, the others never begin."""
        wanted = set(ids)
        with self._lock:
            self._cancelled |= wanted
            found = [item for item in self._items.values() if item.id in wanted]
        for item in found:
            item.cancelled = True
            interrupt = item.interrupt
            if interrupt is not None:
                interrupt()

    def is_cancelled(self, id: str) -> bool:
        """Return whether a task was cancelled, as far as this process has heard."""
        return id in self._cancelled

    def forget_cancelled(self, but: Iterable[str]) -> None:
        """Replace the ids that count as cancelled by those that the server still has."""
        with self._lock:
            self._cancelled = set(but)
