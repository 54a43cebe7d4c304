"""The timer: one thread of a process that does what has its time, and what must keep nobody waiting.

Rules:

- It sleeps until the first of its chores is due; whoever knows of something earlier asks for it, from any
  thread, and is never kept waiting.
- Its own connection. What a chore could not do because that was lost is done when it is back.
- A chore that raises what it may not is tried again as well, and logged: the others go on.
- One chore at a time, the one that is due the longest.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from redis_toolkit._core.connection import Connections
from redis_toolkit._core.recovery import Failed, Fate, pause
from redis_toolkit._core.sync_driver import LinkDriver
from redis_toolkit.settings import Settings
from redis_toolkit.worker.trouble import Trouble

__all__ = ["Chore", "Timer"]

logger = logging.getLogger("redis_toolkit")

REFUSED_SECONDS = 1.0
"""Seconds until a chore is tried again that the server refuses."""


class Chore(ABC):
    """Something that the timer does.

    Args:
        what: what cannot be done when it fails, for the log.

    Attributes:
        at: monotonic seconds when it is due; for the timer only.
        ask: asks for it to be done at a time (monotonic seconds), or when it is due if that is earlier. From
            any thread.
    """

    def __init__(self, what: str) -> None:
        self.at = math.inf
        self.ask: Callable[[float], None] = self._note
        self.trouble = Trouble(f"{what} failed", f"{what} works again")

    def _note(self, at: float) -> None:
        self.at = min(self.at, at)

    @abstractmethod
    def run(self, driver: LinkDriver) -> float | None:
        """Do it; returns seconds until the next time, or None when somebody will ask.

        Raises:
            Failed: it is tried again.
        """


class Timer:
    """Runs chores.

    Args:
        chores: what it does.
        connections: where its connection comes from.
        settings: how long a command may take, and the reconnect cap.
    """

    def __init__(self, chores: Sequence[Chore], connections: Connections, settings: Settings) -> None:
        self._chores = list(chores)
        self._driver = LinkDriver(connections, timeout=settings.command_timeout)
        self._cap = settings.reconnect_cap
        self._failures = 0
        self._wakes_at = 0.0
        self._stopping = False
        self._turn = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="rt-timer", daemon=True)
        for chore in chores:
            chore.ask = self._asking(chore)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is due is left to others."""
        with self._turn:
            self._stopping = True
            self._turn.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _asking(self, chore: Chore) -> Callable[[float], None]:
        def ask(at: float) -> None:
            if at >= chore.at:
                return
            with self._turn:
                if at < chore.at:
                    chore.at = at
                if at < self._wakes_at:
                    self._turn.notify()

        return ask

    def _run(self) -> None:
        try:
            while True:
                chore = self._next()
                if chore is None:
                    return
                again = self._do(chore)
                if again is not None:
                    chore.ask(time.monotonic() + again)
        finally:
            self._driver.close()

    def _next(self) -> Chore | None:
        """Wait for the first chore that is due, and return it; None when stopping."""
        with self._turn:
            while not self._stopping:
                first = min(self._chores, key=lambda chore: chore.at)
                left = first.at - time.monotonic()
                if left <= 0:
                    first.at = math.inf  # whoever asks from now on means the next time
                    return first
                self._wakes_at = first.at
                self._turn.wait(min(left, threading.TIMEOUT_MAX))
                self._wakes_at = 0.0
        return None

    def _do(self, chore: Chore) -> float | None:
        try:
            again = chore.run(self._driver)
        except Failed as failure:
            if not self._stopping:
                chore.trouble.tell(failure)
            if failure.fate is Fate.REFUSED:
                return REFUSED_SECONDS
            self._failures += 1
            return pause(self._failures, self._cap)
        except Exception:  # an answer that no server gives: without a timer nothing would have its time
            logger.exception("the timer goes on after an error")
            return REFUSED_SECONDS
        chore.trouble.over()
        self._failures = 0
        return again
