"""The threads that hand messages of rooms to ``def`` callbacks: a few for all members of a process.

Rules: each piece of work is one member's turn, so that the messages of a member come one after the other. As
long as turns end soon, there are a few threads. When all of them are kept by callbacks that wait, and others
wait for a turn, one more is started every `PATIENCE` seconds: a slow member takes a thread, not the others'
time. Threads that have nothing to do end.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

__all__ = ["RoomPool"]

logger = logging.getLogger("redis_toolkit")

FEW = 4
MOST = 128
PATIENCE = 0.02
IDLE = 5.0
"""Seconds after which a thread ends that has nothing to do."""


class RoomPool:
    """Runs turns."""

    def __init__(self) -> None:
        self._turns: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._taken = 0
        self._watched = False
        self._closed = False

    def submit(self, turn: Callable[[], None]) -> None:
        """Let some thread call ``turn`` soon."""
        with self._changed:
            self._turns.append(turn)
            if len(self._turns) <= self._idle:
                self._changed.notify()
            elif self._threads < FEW:
                self._start()
            elif not self._watched and self._threads < MOST:
                self._watched = self._begin(self._watch, "rt-room-watch")

    def close(self) -> None:
        """Let the threads end when they have done what there is."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _start(self) -> None:
        if self._begin(self._work, f"rt-room-{self._threads}"):
            self._threads += 1

    @staticmethod
    def _begin(target: Callable[[], None], name: str) -> bool:
        try:
            threading.Thread(target=target, name=name, daemon=True).start()
        except RuntimeError as error:  # no more threads, or the interpreter is on its way out
            logger.debug("no thread for rooms: %s", error)
            return False
        return True

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._turns:
                    if self._closed or not self._wait():
                        self._threads -= 1
                        return
                turn = self._turns.popleft()
                self._taken += 1
            turn()

    def _wait(self) -> bool:
        """Wait for a turn; returns whether there is one, or may be."""
        self._idle += 1
        woken = self._changed.wait(IDLE)
        self._idle -= 1
        return woken or bool(self._turns)

    def _watch(self) -> None:
        """Start one more thread whenever nobody has had a turn for a while."""
        while True:
            with self._changed:
                before = self._taken
            time.sleep(PATIENCE)
            with self._changed:
                if len(self._turns) <= self._idle or self._threads >= MOST:
                    self._watched = False
                    return
                if self._taken == before:
                    self._start()
