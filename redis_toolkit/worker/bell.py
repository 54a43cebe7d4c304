"""Calls on an event loop from other threads: however many come together, the loop is woken once.

Rules:

- What is called raises nothing, and runs in a context of the bell's own, whoever rings.
- A bell keeps no loop alive.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable
from contextvars import Context

__all__ = ["Bell", "bell_of"]


class Bell:
    """What other threads want one loop to call."""

    def __init__(self) -> None:
        self._calls: deque[Callable[[], None]] = deque()
        self._rung = False
        self._clean = Context()

    def ring(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        """Let a loop, which is always the same one, call something soon.

        Raises:
            RuntimeError: the loop has been closed.
        """
        self._calls.append(call)
        if self._rung and not loop.is_closed():
            return  # whoever has rung did so before this call was taken
        self._rung = True
        try:
            loop.call_soon_threadsafe(self._answer, context=self._clean)
        except RuntimeError:
            self._rung = False
            self._calls.clear()
            raise

    def _answer(self) -> None:
        self._rung = False  # first: what comes from now on rings again
        calls = self._calls
        for _ in range(len(calls)):
            calls.popleft()()


_bells: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Bell] = weakref.WeakKeyDictionary()


def bell_of(loop: asyncio.AbstractEventLoop) -> Bell:
    """Return the bell of a loop."""
    return _bells.setdefault(loop, Bell())
