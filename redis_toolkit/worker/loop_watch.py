"""Watches that the event loop of the handlers turns: a handler that blocks it stops all the others.

Rules:

- Its own thread, which looks once in `SECONDS` and costs the loop nothing while that waits for something
  to do. A loop that is at work is asked for a sign; none until the next look means that it stands still.
- Each standstill is said once, with the handler and the line where it is, and once that it is over.
- A process that was itself stopped, or a loop that nobody runs, is no standstill.
- No frame of the loop's thread is kept: it would keep what the handler holds.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import os
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import CodeType, FrameType

from redis_toolkit.binding import Binding

__all__ = ["LoopWatch"]

logger = logging.getLogger("redis_toolkit")

SECONDS = 1.0
"""Seconds between two looks, and without a sign until a loop is said to stand still."""
LATE = 0.5
"""How much longer than that, in parts of it, a pause may have been of which nothing can be concluded."""
_LIBRARY = str(Path(os.__file__).parent) + os.sep


class LoopWatch:
    """Watches one loop, from `start` to `stop` or to the loop's end.

    Args:
        loop: the loop that runs the handlers.
        bindings: of handlers that are ``async def``, to name the one that blocks.
        seconds: between two looks; None means `SECONDS`.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, bindings: Iterable[Binding], seconds: float | None = None
    ) -> None:
        self._loop = loop
        self._names = {code: binding.name for binding in bindings for code in _codes(binding)}
        self._seconds = SECONDS if seconds is None else seconds
        self._runner: int | None = None  # the thread that runs the loop
        self._asked: float | None = None
        self._said = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; called on the loop."""
        self._runner = threading.get_ident()
        self._thread = threading.Thread(target=self._run, name="rt-loop-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, which never waits for the loop."""
        self._stopping.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(self._seconds)

    def _run(self) -> None:
        looked = time.monotonic()
        while not self._stopping.wait(self._seconds) and not self._loop.is_closed():
            pause, looked = time.monotonic() - looked, time.monotonic()
            self._look(looked, pause)

    def _look(self, now: float, pause: float) -> None:
        """Look once.

        Args:
            now: monotonic seconds.
            pause: seconds since the last look.
        """
        if pause > self._seconds * (1 + LATE) or not self._loop.is_running():
            self._asked = None
        elif self._asked is not None:
            self._tell(now - self._asked)
        elif not self._is_waiting():
            self._asked = now
            try:
                self._loop.call_soon_threadsafe(self._turned, now)
            except RuntimeError:  # it has been closed meanwhile: that ends this
                self._asked = None

    def _turned(self, asked: float) -> None:
        """Note, on the loop, that it turns."""
        self._runner = threading.get_ident()
        self._asked = None
        if self._said:
            self._said = False
            logger.info("the event loop of the handlers goes on after %.1f s", time.monotonic() - asked)

    def _is_waiting(self) -> bool:
        """Return whether the loop waits for something to do, as far as that can be seen: asyncio's can."""
        frame = _frame_of(self._runner)
        if frame is None or frame.f_code.co_name != "select" or frame.f_back is None:
            return False
        return frame.f_back.f_code is asyncio.BaseEventLoop._run_once.__code__  # type: ignore[attr-defined]

    def _tell(self, seconds: float) -> None:
        if self._said:
            return
        self._said = True
        frame = _frame_of(self._runner)
        logger.warning(
            "the event loop of the handlers has stood still for %.1f s%s: `await` what takes long, or make "
            "the handler a `def`, which runs in a thread",
            seconds,
            self._where(frame),
        )

    def _where(self, frame: FrameType | None) -> str:
        """Return which handler a thread is in and at which line; the innermost that is no library's."""
        handler = place = ""
        while frame is not None and not handler:
            code = frame.f_code
            handler = self._names.get(code, "")
            if not place and (handler or not code.co_filename.startswith((_LIBRARY, "<frozen"))):
                place = f" at {code.co_filename}:{frame.f_lineno}"
            frame = frame.f_back
        return (f" in handler {handler}" if handler else "") + place


def _frame_of(thread: int | None) -> FrameType | None:
    """Return where a thread is.

    Without garbage collection meanwhile: before Python 3.12, one that ends a thread-local there waits for
    ever, and all other threads with it (CPython 106883).
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames().get(thread) if thread is not None else None
    finally:
        if collects:
            gc.enable()


def _codes(binding: Binding) -> list[CodeType]:
    """Return the code of a handler: of the function, and of what it wraps."""
    function = binding.function
    found = []
    for one in (function, inspect.unwrap(function), type(function).__call__, getattr(function, "func", None)):
        code = getattr(getattr(one, "__func__", one), "__code__", None)
        if isinstance(code, CodeType):
            found.append(code)
    return found
