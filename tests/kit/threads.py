"""Calls in threads, all at once; what one of them raises is raised in the test."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["in_threads"]

DEADLINE = 120.0


def in_threads(*calls: Callable[[], object]) -> None:
    """Run each call in a thread of its own until all have ended; raises what one of them raised."""
    failures: list[BaseException] = []

    def run(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    if failures:
        raise failures[0]
    assert not any(thread.is_alive() for thread in threads), f"a call still runs after {DEADLINE:g} s"
