"""What an app has registered as work that must not be lost: jobs, where they come from, how they are retried.

Rules: nothing here does anything. A `Durable` is one group of a channel, or one queue; workers make of each a
`worker.consumer.Consumer`. Durations are seconds here, as everywhere in the public API.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from redis_toolkit._core.flow import Command
from redis_toolkit._core.flows.work import Source
from redis_toolkit.binding import Binding
from redis_toolkit.errors import ConfigurationError
from redis_toolkit.message import Message
from redis_toolkit.record import Record
from redis_toolkit.settings import MAX_SECONDS
from redis_toolkit.wire import Wire

__all__ = [
    "RESULT_TTL",
    "Backoff",
    "Durable",
    "Duration",
    "Job",
    "Policy",
    "moment_ms",
    "policy_of",
    "seconds_of",
]

RESULT_TTL = 3600.0
"""Seconds for which the end of a task is kept, if nothing else was said."""
CAP = 600.0
"""Seconds that a wait before a retry has at most, if nothing else was said."""
Duration = float | timedelta
"""Seconds, or a `timedelta`."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before a retry: exponentially longer each time, with jitter.

    Args:
        first: seconds before the first retry.
        factor: how many times longer each wait is than the one before.
        cap: seconds that a wait has at most.
        jitter: which part of a wait is random: 0 none of it, 1 all of it ("full jitter").

    Raises:
        ConfigurationError: one of them cannot work.

    Example:
        ``@app.on("orders", group="billing", retries=5, backoff=Backoff(first=2, cap=60))``
    """

    first: float = 1.0
    factor: float = 2.0
    cap: float = CAP
    jitter: float = 0.5

    def __post_init__(self) -> None:
        _check_number("Backoff(first=)", self.first, 0, MAX_SECONDS, "seconds")
        _check_number("Backoff(factor=)", self.factor, 1, 1000, "a factor")
        _check_number("Backoff(cap=)", self.cap, 0, MAX_SECONDS, "seconds")
        _check_number("Backoff(jitter=)", self.jitter, 0, 1, "a part")

    def delay(self, attempt: int, rand: Callable[[], float] = random.random) -> float:
        """Return the seconds to wait before the next attempt.

        Args:
            attempt: the number of the one that failed, from 1.
            rand: returns a random number from 0 to 1.
        """
        steps = min(attempt - 1, 64)  # a thousand to that power is still a float
        whole = min(self.first * self.factor**steps, self.cap)
        return whole * (1 - self.jitter * rand())


class Policy(Record):
    """How a job is run and retried.

    Attributes:
        retries: how often it is tried again after a failure.
        retries_for: other numbers for some exceptions; the nearest class counts.
        backoff: how long to wait before that.
        backoff_for: other waits for some exceptions; the nearest class counts.
        timeout: seconds that one attempt may take, or None.
        result_ttl: seconds for which the end of a task is kept; 0 keeps none.
    """

    __slots__ = ("backoff", "backoff_for", "result_ttl", "retries", "retries_for", "timeout")

    def __init__(
        self,
        retries: int = 0,
        retries_for: Mapping[type[BaseException], int] | None = None,
        backoff: Backoff | None = None,
        backoff_for: Mapping[type[BaseException], Backoff] | None = None,
        timeout: float | None = None,
        result_ttl: float = RESULT_TTL,
    ) -> None:
        self.retries = retries
        self.retries_for = retries_for or {}
        self.backoff = backoff or Backoff()
        self.backoff_for = backoff_for or {}
        self.timeout = timeout
        self.result_ttl = result_ttl


def policy_of(
    *,
    retries: int | Mapping[type[BaseException], int] = 0,
    backoff: Duration | Backoff | Mapping[type[BaseException], Duration | Backoff] | None = None,
    timeout: Duration | None = None,
    result_ttl: Duration = RESULT_TTL,
) -> Policy:
    """Return the policy that a user's options mean.

    Args:
        retries: how often it is tried again after a failure; or that for each class of exceptions, of which
            the nearest counts. `Exception` in it is for all others, which are not retried if it is missing.
        backoff: how long to wait before that: a `Backoff`, or how long before the first retry, the next ones
            wait longer; or either for each class of exceptions. None: as ``Backoff()``.
        timeout: how long one attempt may take. None: as long as it likes.
        result_ttl: how long the end of a task is kept; 0 keeps none.

    Raises:
        ConfigurationError: one of them cannot work.

    Example:
        ``policy_of(retries={ConnectionError: 10, Exception: 2}, backoff={ConnectionError: 5}, timeout=30)``
    """
    some = _by_class("retries", retries) if isinstance(retries, Mapping) else {Exception: retries}
    numbers = {kind: _checked_retries(number) for kind, number in some.items()}
    waits = _by_class("backoff", backoff) if isinstance(backoff, Mapping) else {Exception: backoff}
    backoffs = {kind: _backoff_of(wait) for kind, wait in waits.items()}
    return Policy(
        numbers.pop(Exception, 0),
        numbers,
        backoffs.pop(Exception, Backoff()),
        backoffs,
        None if timeout is None else seconds_of("timeout", timeout),
        seconds_of("result_ttl", result_ttl, least=0),
    )


def seconds_of(name: str, value: object, *, least: float = 0.001) -> float:
    """Return a duration in seconds, as it was given: a number of them, or a `timedelta`.

    Raises:
        ConfigurationError: it is neither, or less than ``least``, or more than `MAX_SECONDS`.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    return _check_number(f"{name}=", seconds, least, MAX_SECONDS, "seconds, or a timedelta,", shown=value)


def moment_ms(name: str, value: object) -> int:
    """Return a moment in ms of Unix time.

    Raises:
        ConfigurationError: it is none, or has no time zone.
    """
    if not isinstance(value, datetime):
        raise ConfigurationError(f"{name}={value!r} must be a datetime with a time zone")
    if value.utcoffset() is None:
        raise ConfigurationError(
            f"{name}={value!r} has no time zone, so it could be many moments: "
            "build it with datetime.now(timezone.utc), or say .astimezone() if local time is meant"
        )
    return int(value.timestamp() * 1000)


def _check_number(
    name: str, value: object, least: float, most: float, what: str, *, shown: object = None
) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        given = value if shown is None else shown
        raise ConfigurationError(f"{name}{_start(given)} must be {what} from {least:g} to {most:,}")
    return float(value)


def _start(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _by_class(name: str, options: Mapping[Any, Any]) -> dict[type[BaseException], Any]:
    for kind in options:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise ConfigurationError(
                f"{name}= is given for classes of exceptions, such as ConnectionError, not for {_start(kind)}"
            )
    return dict(options)


def _checked_retries(number: object) -> int:
    if type(number) is not int or number < 0:
        raise ConfigurationError(
            f"retries={_start(number)} must be a whole number from 0, "
            "or such a number for each class of exceptions: retries={ConnectionError: 10, Exception: 2}"
        )
    return number


def _backoff_of(wait: object) -> Backoff:
    if wait is None:
        return Backoff()
    if isinstance(wait, Backoff):
        return wait
    if isinstance(wait, bool) or not isinstance(wait, int | float | timedelta):
        raise ConfigurationError(
            f"backoff={_start(wait)} must be seconds, a timedelta, a Backoff(first=1, factor=2, cap=600), "
            "or one of these for each class of exceptions"
        )
    first = seconds_of("backoff", wait, least=0)
    return Backoff(first=first, cap=max(first, CAP))


@dataclass(eq=False, slots=True)
class Job:
    """A handler of durable work.

    Attributes:
        type: the task type; "" for the one handler of a group.
        binding: calls the function.
        wire: reads its messages and writes its results.
        policy: how it is run and retried.
        as_task: whether it gets the task as a dict, as handlers of ``create_worker`` do.
        then: returns the command to send once an event is done and that has counted, given its message before
            the handler had it; or None.
        buried: the same, once an event has become a dead letter and that has counted; or None.
    """

    type: str
    binding: Binding
    wire: Wire
    policy: Policy
    as_task: bool = False
    then: Callable[[Message], Command | None] | None = None
    buried: Callable[[Message], Command | None] | None = None


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
        keep_ms: for how long the events of a group's channel are kept for groups that are made later.
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
    keep_ms: int = 0
    max_backlog: int | None = None
    drop: bool = False
    announces: bool = False
    worker_id: str | None = None

    @property
    def is_async(self) -> bool:
        """Whether any of its jobs is ``async def``: then all of it is served on the event loop."""
        return any(job.binding.is_async for job in self.jobs.values())
