"""`QueueStats`: what a queue holds at one moment."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["QueueStats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """What a queue holds at one moment.

    Attributes:
        ready: how many tasks no worker has taken yet, by priority.
        running: how many a worker has taken and not ended.
        delayed: how many are to be ready later: by their ``delay`` or ``eta``, or before a retry.
        dead: how many dead letters there are.
        paused: whether it is paused.
        consumers: how many worker processes the server knows, those that have died within the last
            minutes included.
        done: how many tasks have ended well, since the queue was first used.
        failed: how many have become dead letters.
        cancelled: how many have been cancelled.
        expired: how many have expired.
        retried: how often one has been put off: for a retry, or as no worker knew its type.
    """

    ready: dict[str, int]
    running: int
    delayed: int
    dead: int
    paused: bool
    consumers: int
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    retried: int = 0

    @property
    def pending(self) -> int:
        """How many tasks have not ended: what ``max_pending`` limits."""
        return sum(self.ready.values()) + self.running + self.delayed
