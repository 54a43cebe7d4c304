"""What flows while a fault lasts, whatever it is: who serves, who calls, and how both begin and end.

Rules: callers run in threads, and on a loop of their own, until the end; one that ends by itself is an
error at once. An account is made only when the test itself has succeeded.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Self

from redis_toolkit import App
from tests.e2e.styles import Background

__all__ = ["Flowing"]

DISTURB = 0.1
"""Seconds between two disturbances."""


class Flowing(ABC):
    """Calls from `calling` to `serving`, from the entry of a ``with`` to its end.

    Args:
        serving: an app without handlers that has not been started.
        calling: one that talks.
        threads: how many the callers need.
    """

    def __init__(self, serving: App, calling: App, *, threads: int) -> None:
        self.serving, self.calling = serving, calling
        self.outcomes: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._enough = threading.Event()
        self._background = Background()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="flowing")
        self._running: list[Future[Any]] = []
        self._parts: list[Any] = []
        """What is stopped before the apps are."""

    def __enter__(self) -> Self:
        self.serving.start()
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._enough.set()
        try:
            for running in self._running:
                running.result(60)
            if error is None:
                self._settle()
        finally:
            for part in self._parts:
                part.stop()
            self._background.run(self.calling.astop())
            self._pool.shutdown()
            self.serving.stop()
            self._background.close()
        if error is None:
            self._check()

    @abstractmethod
    def _begin(self) -> None:
        """Start the callers, and note them in ``_running``."""

    @abstractmethod
    def _settle(self) -> None:
        """Wait until what was sent at the end has arrived."""

    @abstractmethod
    def _check(self) -> None:
        """Give account, once all is closed."""

    @abstractmethod
    def flows(self) -> None:
        """Wait until what is sent from now on arrives in each way."""

    def lasts(self, seconds: float, disturb: Callable[[], object] | None = None) -> None:
        """Go on for a while, disturbed again and again; a caller that ends is an error at once."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if disturb is not None:
                disturb()
            self._fails_within(min(left, DISTURB))

    def _fails_within(self, seconds: float) -> None:
        """Wait for the first caller that ends, which none does by itself, and raise what ended it."""
        for ended in wait(self._running, seconds, FIRST_COMPLETED).done:
            ended.result()
