"""The one place of a process for work that was delivered often without an end, so that only what kills dies.

Rules:

- What was delivered `SUSPECT` times is a suspect. A process holds one at a time, of whatever source: should
  that kill it, no other suspect has been delivered once more, so five deliveries are those of the culprit.
- What is new runs beside it: a death is its first delivery, or its second, and then it is alone too.
- After `ALONE_SECONDS` the next one may run beside a suspect that takes long: what kills mostly does so at
  once, and nothing waits for ever behind a handler that never ends.
- A consumer enters before it asks for a suspect, and leaves when the server has answered how that ended.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import ClassVar

from redis_toolkit._core.flows.work import Held

__all__ = ["ALONE_SECONDS", "SUSPECT", "Alone"]

SUSPECT = 3
"""Which delivery without an end makes a suspect; the first one after a death needs no suspicion yet."""
ALONE_SECONDS = 60.0
"""Seconds after which the next suspect may run beside one."""


class Alone:
    """What one consumer knows of the place.

    Args:
        now: a clock in seconds.
    """

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _inside: ClassVar[Alone | None] = None

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since = 0.0
        self._held: Held | None = None

    def enter(self) -> bool:
        """Take the place for what comes next, if it is free."""
        with Alone._lock:
            inside, now = Alone._inside, self._now()
            if inside is not None and now - inside._since < ALONE_SECONDS:
                return False
            Alone._inside, self._since, self._held = self, now, None
            return True

    def busy(self) -> float:
        """Return for how many seconds the place has been taken, by whomever; 0 when it is free."""
        with Alone._lock:
            inside = Alone._inside
            return 0.0 if inside is None else max(self._now() - inside._since, 0.000_001)

    def keep(self, suspect: Held | None) -> None:
        """Say what has come of entering; None: nothing, so the place is free again."""
        self._held = suspect
        if suspect is None:
            self._leave()

    def leave(self, ended: Iterable[Held]) -> None:
        """Free the place if the suspect is among these."""
        held = self._held
        if held is not None and any(_is_same(held, one) for one in ended):
            self._held = None
            self._leave()

    def close(self) -> None:
        """Nothing is run any more."""
        self._held = None
        self._leave()

    def _leave(self) -> None:
        with Alone._lock:
            if Alone._inside is self:
                Alone._inside = None

    @classmethod
    def _forked(cls) -> None:
        """Begin anew in a child: what is held is the parent's."""
        cls._lock, cls._inside = threading.Lock(), None


def _is_same(one: Held, other: Held) -> bool:
    return (one.stream, one.entry, one.deliveries) == (other.stream, other.entry, other.deliveries)


os.register_at_fork(after_in_child=Alone._forked)
