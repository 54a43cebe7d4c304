"""Saying once that something is wrong, and once that it is over.

Rules: a failure is logged when it differs from the one before, so that a state that lasts is one line and
not a flood; a success ends the state. Whoever retries tells each failure, and each success.
"""

from __future__ import annotations

import logging

from redis_toolkit._core.recovery import Failed

__all__ = ["Trouble"]

logger = logging.getLogger("redis_toolkit")


class Trouble:
    """What one thread, or one task, has said about its failures.

    Args:
        what: what does not work, such as "the heartbeat failed".
        over: what is said when it works again, such as "the heartbeat works again".
    """

    def __init__(self, what: str, over: str) -> None:
        self._what = what
        self._over = over
        self._said = ""
        self._failures = 0

    def tell(self, failure: Failed) -> None:
        """Log a failure, unless it is the same as the last one."""
        self._failures += 1
        text = failure.why
        logger.log(
            logging.DEBUG if text == self._said else logging.WARNING, "%s, trying again: %s", self._what, text
        )
        self._said = text

    def over(self) -> None:
        """It works: say so if it did not."""
        if not self._failures:
            return
        if self._failures > 1:
            logger.info("%s after %d failures", self._over, self._failures)
        self._said, self._failures = "", 0
