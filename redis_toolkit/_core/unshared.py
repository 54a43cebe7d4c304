"""File descriptors that a forked child must not keep.

Rules: such a descriptor means "this process lives" (a pipe's end that another process waits on) or "this
process is at it" (a lock). Python's descriptors are closed on exec, so a new program never gets them; a
bare fork copies them, and the copy would keep the promise alive after its maker has died. So they are
opened and closed only here, under a lock that a fork waits for, and a forked child closes them first thing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

__all__ = ["close_unshared", "open_unshared", "unshared_pipe"]

# Reentrant: a signal handler that forks may interrupt the thread that is opening one.
_fork_lock = threading.RLock()
_open: set[int] = set()


def open_unshared(opener: Callable[[], int]) -> int:
    """Return the descriptor that ``opener`` opens, known to the fork hook before any fork can copy it."""
    with _fork_lock:
        fd = opener()
        _open.add(fd)
    return fd


def unshared_pipe() -> tuple[int, int]:
    """Return the read end and the write end of a new pipe."""
    with _fork_lock:
        ends = os.pipe()
        _open.update(ends)
    return ends


def close_unshared(fd: int) -> None:
    """Close a descriptor that was opened here; one that a fork hook has closed already is left alone."""
    with _fork_lock:
        if fd in _open:
            _open.remove(fd)
            os.close(fd)


def _close_all_in_child() -> None:
    for fd in _open:
        os.close(fd)
    _open.clear()
    _fork_lock.release()


os.register_at_fork(
    before=_fork_lock.acquire, after_in_parent=_fork_lock.release, after_in_child=_close_all_in_child
)
