"""Who runs on which core, so that every contestant has the same and every round has what the last one had.

Rules:

- The server has two cores, as NATS uses more than one; the asking and the answering side have one each.
- The benchmark itself waits while calls are measured, and sends floods: it shares the asking side's core.
- Where many worker processes are measured, the server has one core and they share the others.
- Where the machine has fewer cores than that, or cannot pin, nobody is pinned, and the page says so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["LAYOUT", "SERVER", "available", "many_workers", "pin", "release"]

SERVER = "server"
LAYOUT = {
    SERVER: {0, 3},
    "worker": {2},
    "group": {2},
    "listener": {2},
    "caller": {1},
    "publisher": {1},
    "submitter": {1},
    "benchmark": {1},
}
"""By role: numbers of cores among those that this process may use."""
_USABLE = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []


def available() -> bool:
    """Return whether the layout fits this machine."""
    return len(_USABLE) >= 4


@contextmanager
def many_workers() -> Iterator[None]:
    """Meanwhile the server has one core, and worker processes share the others."""
    before = dict(LAYOUT)
    LAYOUT.update({SERVER: {0}, "worker": {1, 2, 3}})
    try:
        yield
    finally:
        LAYOUT.update(before)


def pin(pid: int, role: str) -> None:
    """Let all threads of a process, and what they start, run on the cores of a role only."""
    _set(pid, {_USABLE[number] for number in LAYOUT[role]})


def release(pid: int) -> None:
    """Let a process use every core again."""
    _set(pid, set(_USABLE))


def _set(pid: int, cores: set[int]) -> None:
    if sys.platform != "linux":
        return
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(thread.name), cores)
