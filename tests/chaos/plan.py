"""What there is to do, known to producers, workers and those who look afterwards: it follows from a number.

Rules: nothing here is random, so that what becomes of each number can be foretold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "CHANNEL",
    "GROUPS",
    "QUEUES",
    "RETRIES",
    "SLOW",
    "Fate",
    "Load",
    "delay_of",
    "fate_of",
    "queue_of",
]

QUEUES = ("threads", "loop")
"""One queue of ``def`` tasks, and one of ``async def`` tasks."""
CHANNEL = "orders"
GROUPS = ("billing", "shipping")
"""One group with a ``def`` handler, and one with an ``async def`` handler; both get every event."""
RETRIES = 2
SLOW = 0.2
"""Seconds that the slow ones take."""

Fate = Literal["quick", "slow", "flaky", "rejected"]


@dataclass(frozen=True, slots=True)
class Load:
    """How much there is to do, and how hard it is made.

    Attributes:
        tasks: how many, in all queues together.
        events: how many; each group gets all of them.
        rate: how many of both are sent per second, at most.
        lease: seconds.
        crew: processes of one supervised program.
        singles: programs of one process, which the run starts again itself.
    """

    tasks: int
    events: int
    rate: float
    lease: float
    crew: int
    singles: int


def fate_of(number: int) -> Fate:
    """Return what becomes of a number: a rejected one is a dead letter, a flaky one fails the first time."""
    if number % 50 == 49:
        return "rejected"
    match number % 10:
        case 3:
            return "flaky"
        case 7:
            return "slow"
    return "quick"


def queue_of(number: int) -> str:
    """Return the queue of a task."""
    return QUEUES[number // 10 % 2]


def delay_of(number: int) -> float | None:
    """Return how many seconds later a task is ready, or None."""
    return 0.5 if number % 20 == 11 else None
