"""One thread of a crew, and what is its own. `crew.py` says who may touch it when."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from redis_toolkit._core.connection import Link
from redis_toolkit._core.flow import Command

__all__ = ["C", "Member", "R"]

C = TypeVar("C")
"""What is claimed."""
R = TypeVar("R")
"""What came of it, to be sent."""


@dataclass(eq=False, slots=True)
class Member(Generic[C, R]):
    """One thread: its connection, what it has claimed, and what it has not sent.

    Attributes:
        ready: what came of it, to be sent with the next packet.
        after: what follows from that, to be sent after it.
        sent: what was sent on its connection and not been answered yet.
        repeats: whether some of what is ready was sent before, on a connection that was lost.
        doing: what its handler is running on, where that matters.
        busy_since: since when it does quick work as the leader.
        failures: connections lost in a row.
        abandoned: whether its handler runs for too long: it is no member any more.
    """

    thread: threading.Thread | None = None
    link: Link | None = None
    link_id: int | None = None
    batch: deque[C] = field(default_factory=deque)
    ready: list[R] = field(default_factory=list)
    after: list[Command] = field(default_factory=list)
    sent: list[Command] = field(default_factory=list)
    repeats: bool = False
    doing: C | None = None
    busy_since: float | None = None
    failures: int = 0
    abandoned: bool = False
