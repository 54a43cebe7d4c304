"""Waiting for a condition, the only way in which a test lets time pass.

Rules: the deadline is generous, as it is reached only when the test fails; the condition is looked
at once more after the last pause, so that a machine that stood still does not fail the test.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

FIRST_PAUSE = 0.005
LONGEST_PAUSE = 0.05


def eventually(condition: Callable[[], T], timeout: float = 30.0, what: str = "the condition") -> T:
    """Return the first truthy value of `condition`; AssertionError after `timeout` seconds.

    What the condition raises is not caught: a condition that may fail for a while says so itself.
    """
    deadline = time.monotonic() + timeout
    pause = FIRST_PAUSE
    while True:
        last_look = time.monotonic() >= deadline
        value = condition()
        if value:
            return value
        if last_look:
            raise AssertionError(f"{what}: not within {timeout:g} s; last value {value!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)
