"""What an app has registered as work that must not be lost: jobs, how each is retried, and their source.

Rules: nothing here does anything. A `Durable` is one group of a channel, or one queue; workers make of each a
`worker.consumer.Consumer`. Durations are seconds here, as everywhere in the public API.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from redis_toolkit._core.flows.work import Source
from redis_toolkit.binding import Binding
from redis_toolkit.wire import Wire

__all__ = ["Backoff", "Durable", "Job", "Policy"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before a retry: exponentially longer each time, with jitter.

    Args:
        first: seconds before the first retry.
        factor: how many times longer each wait is than the one before.
        cap: seconds that a wait has at most.
        jitter: which part of a wait is random: 0 none of it, 1 all of it ("full jitter").

    Example:
        ``@app.on("orders", group="billing", retries=5, backoff=Backoff(first=2, cap=60))``
    """

    first: float = 1.0
    factor: float = 2.0
    cap: float = 600.0
    jitter: float = 0.5

    def delay(self, attempt: int, rand: Callable[[], float] = random.random) -> float:
        """Return the seconds to wait after an attempt (from 1) that failed."""
        steps = min(attempt - 1, 64)
        whole = min(self.first * self.factor**steps, self.cap)
        return whole * (1 - self.jitter * rand())


@dataclass(frozen=True, slots=True)
class Policy:
    """How a job is run and retried.

    Attributes:
        retries: how often it is tried again after a failure.
        retries_for: other numbers for some exceptions; the nearest class counts.
        backoff: how long to wait before that.
        backoff_for: other waits for some exceptions; the nearest class counts.
        timeout: seconds that one attempt may take, or None.
        result_ttl: seconds for which the end of a task is kept; 0 keeps none.
    """

    retries: int = 0
    retries_for: Mapping[type[BaseException], int] = field(default_factory=dict)
    backoff: Backoff = field(default_factory=Backoff)
    backoff_for: Mapping[type[BaseException], Backoff] = field(default_factory=dict)
    timeout: float | None = None
    result_ttl: float = 3600.0


@dataclass(eq=False, slots=True)
class Job:
    """A handler of durable work.

    Attributes:
        type: the task type; "" for the one handler of a group.
        binding: calls the function.
        wire: reads its messages and writes its results.
        policy: how it is run and retried.
        as_task: whether it gets the task as a dict, as handlers of ``create_worker`` do.
    """

    type: str
    binding: Binding
    wire: Wire
    policy: Policy
    as_task: bool = False


@dataclass(eq=False, slots=True)
class Durable:
    """A group of a channel, or a queue, that an app serves.

    Attributes:
        source: its keys.
        jobs: who handles what, by task type. A group has one, under "". In a queue the one under "" handles
            every type that has none of its own.
        channel: the channel of a group, or the name of the queue.
        is_queue: which of the two it is.
        concurrency: how many are handled at once in one process; None means the app's default.
        lease: seconds after which others take over what a process holds without a sign of life; None means
            the app's default.
        after: the id after which a group begins when it is made.
        max_backlog: how many events a group may be behind, or None.
        drop: whether a group that is further behind drops its oldest; else publishers are refused.
        announces: whether ``tasks:completed`` and ``tasks:failed`` are published.
        worker_id: how a handler's worker is named in the task, or None for the process's name.
    """

    source: Source
    jobs: dict[str, Job]
    channel: str
    is_queue: bool
    concurrency: int | None = None
    lease: float | None = None
    after: str = "$"
    max_backlog: int | None = None
    drop: bool = False
    announces: bool = False
    worker_id: str | None = None

    @property
    def is_async(self) -> bool:
        """Whether any of its jobs is ``async def``: then all of it is served on the event loop."""
        return any(job.binding.is_async for job in self.jobs.values())
