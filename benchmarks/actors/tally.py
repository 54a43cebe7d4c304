"""Counts what the worker processes of one actor have done, in a file that all of them map.

Rules: each process has a place of its own, so that nobody waits for another one; a place holds the number of
calls and the times of the first and the last on the clock that all processes of a machine share.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from pathlib import Path

__all__ = ["Tally", "Total", "empty", "total"]

PLACES = 1024
WIDTH = 3
SIZE = PLACES * WIDTH * 8
Total = tuple[int, float, float]
"""How many calls, and when the first and the last of them were."""


class Tally:
    """The place of this process; it is taken with the first call, which may be after a fork."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._numbers: memoryview[float] | None = None
        self._lock = threading.Lock()

    def arrived(self) -> None:
        """Note one call, from any thread."""
        with self._lock:
            numbers, now = self._numbers or self._open(), time.perf_counter()
            if not numbers[0]:
                numbers[1] = now
            numbers[0] += 1.0
            numbers[2] = now

    def _open(self) -> memoryview[float]:
        with Path(self._path).open("r+b") as file:
            mapped = mmap.mmap(file.fileno(), SIZE)
        begin = os.getpid() % PLACES * WIDTH
        self._numbers = memoryview(mapped).cast("d")[begin : begin + WIDTH]
        return self._numbers


def empty(path: Path) -> None:
    """Begin a file of which nobody has a place."""
    path.write_bytes(bytes(SIZE))


def total(path: Path) -> Total:
    """Return what all processes have counted."""
    numbers = memoryview(path.read_bytes()).cast("d")
    places = [numbers[at : at + WIDTH] for at in range(0, PLACES * WIDTH, WIDTH) if numbers[at]]
    if not places:
        return 0, 0.0, 0.0
    return int(sum(one[0] for one in places)), min(one[1] for one in places), max(one[2] for one in places)
