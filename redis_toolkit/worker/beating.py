"""What the heartbeat and the keeper have in common: a beat every so often, sooner after one that failed."""

from __future__ import annotations

import threading
from collections.abc import Callable

from redis_toolkit._core.recovery import Failed, Fate
from redis_toolkit.worker.trouble import Trouble

__all__ = ["beat_until"]

RETRY = 0.5
"""Seconds until a beat that failed is tried again, at most."""


def beat_until(
    stopping: threading.Event, beat: Callable[[], None], interval: float, trouble: Trouble
) -> None:
    """Beat until told to stop; the first beat comes after an interval.

    Args:
        stopping: set to end it.
        beat: what is done; raises `Failed`.
        interval: seconds from the end of one beat to the next.
        trouble: says that a beat failed, and that they work again.
    """
    pause = interval
    while not stopping.wait(pause):
        try:
            beat()
            pause = interval
            trouble.over()
        except Failed as failure:
            # A refusal is about some of what is renewed, and what is allowed has been: no hurry.
            pause = interval if failure.fate is Fate.REFUSED else min(RETRY, interval)
            trouble.tell(failure)
