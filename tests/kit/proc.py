"""What the kernel says about processes, read from /proc (Linux only).

Rules: a zombie counts as gone; a process is identified by its pid *and* its start time, so that a
pid that has been given out again is never taken for the process that had it before.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")


class Stat(NamedTuple):
    """One line of /proc/PID/stat, as far as tests need it."""

    pid: int
    state: str
    parent: int
    session: int
    started: int

    @property
    def identity(self) -> tuple[int, int]:
        return self.pid, self.started


def stat(pid: int) -> Stat | None:
    """Return what is known about a living process, None for a dead one."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    if fields[0] in "ZX":
        return None
    return Stat(pid, fields[0], int(fields[1]), int(fields[3]), int(fields[19]))


def alive(pid: int) -> bool:
    return stat(pid) is not None


def is_gone(pid: int) -> bool:
    return not alive(pid)


def everyone() -> list[Stat]:
    """Return all living processes, oldest first."""
    pids = (int(entry) for entry in os.listdir(PROC) if entry.isdigit())
    found = [known for known in map(stat, pids) if known is not None]
    return sorted(found, key=lambda known: (known.started, known.pid))


def children(pid: int) -> list[int]:
    """Return the pids of the living direct children, oldest first."""
    return [known.pid for known in everyone() if known.parent == pid]


def descendants(roots: Iterable[int], session: int, mark: str) -> set[tuple[int, int]]:
    """Return the identities of all that descend from `roots`, are in `session`, or carry `mark`.

    Each of the three alone misses some: the parent is lost when a process in between dies, the
    session when a program calls setsid, and the mark, which is an entry of the environment, when
    a server overwrites its environment with its title.
    """
    family = set(roots)
    found: set[tuple[int, int]] = set()
    everybody = everyone()
    grown = True
    while grown:  # until nobody new is found: order by age does not survive a reused pid
        grown = False
        for known in everybody:
            if known.identity in found:
                continue
            if (
                known.pid in family
                or known.parent in family
                or known.session == session
                or _marked(known.pid, mark)
            ):
                family.add(known.pid)
                found.add(known.identity)
                grown = True
    return found


def _marked(pid: int, mark: str) -> bool:
    try:
        return mark.encode() in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def kill(identities: Iterable[tuple[int, int]]) -> None:
    """Send SIGKILL to those that are still what they were."""
    for pid, started in identities:
        known = stat(pid)
        if known is not None and known.started == started:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
