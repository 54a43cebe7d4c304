"""Makes of task calls what a queue stores, and knows the server's clock for that.

Rules:

- Expiries and the time of submitting are on the server's clock, whatever the clock of this machine says:
  the server is asked once in a while, in between a monotonic clock counts.
- What a task's id is for is decided here: one that its caller chose adds nothing when it is there already.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from redis_toolkit import keys
from redis_toolkit._core.flow import Flow
from redis_toolkit._core.flows import leases, task_ends, tasks
from redis_toolkit._core.flows.task_ends import Place
from redis_toolkit._core.flows.tasks import Submission, Submitted
from redis_toolkit._core.ids import new_id
from redis_toolkit.errors import ConfigurationError, QueueFull
from redis_toolkit.patterns.task_call import TaskCall
from redis_toolkit.task_envelope import write_plain_task, write_task
from redis_toolkit.wire import Wire

__all__ = ["Came", "ServerTime", "Submitting"]

Came: TypeAlias = tuple[str, Place | None, bool] | QueueFull
"""What came of a submit: the task's id, where its entry is, and whether it was there before; or why not."""


class ServerTime:
    """The server's clock, asked for at most every `REFRESH` seconds.

    Args:
        now: a monotonic clock in seconds.
    """

    REFRESH = 30.0
    SLOW = 1.0
    """Seconds that an answer may have taken to count for later too."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._offset_ms = 0.0
        self._asked: float | None = None

    def known_ms(self) -> int | None:
        """Return the server's ms if it need not be asked."""
        now = self._now()
        if self._asked is None or now - self._asked > self.REFRESH:
            return None
        return int(now * 1000 + self._offset_ms)

    def ms(self) -> Flow[int]:
        """Return the server's ms (``TIME``)."""
        asked = self._now()
        if self._asked is None or asked - self._asked > self.REFRESH:
            server_ms = yield from leases.clock()
            answered = self._now()
            self._offset_ms = server_ms - (asked + answered) * 500
            self._asked = answered if answered - asked < self.SLOW else None
        return int(self._now() * 1000 + self._offset_ms)


class Submitting:
    """Submits to one queue.

    Args:
        queue: its name.
        priorities: highest first.
        wire: how tasks are written.
        max_pending: how many it may hold, or None.
        once_ms: how long an id that a caller chose counts.
        unique_ms: how long a unique key is held at most, from when its task is due.
    """

    def __init__(
        self,
        queue: str,
        priorities: Sequence[str],
        wire: Wire,
        *,
        max_pending: int | None,
        once_ms: int,
        unique_ms: int,
    ) -> None:
        self._queue = queue
        self._priorities = priorities
        self._default = "normal" if "normal" in priorities else priorities[len(priorities) // 2]
        self._streams: dict[str | None, tuple[str, int, str]] = {
            name: (name, place, keys.task_ready(queue, name)) for place, name in enumerate(priorities)
        }
        self._streams |= {None: self._streams[self._default], "normal": self._streams[self._default]}
        self._wire = wire
        self._max_pending = max_pending
        self._once_ms = once_ms
        self._unique_ms = unique_ms
        self.clock = ServerTime()

    def priority(self, name: str | None) -> str:
        """Return a priority of the queue. None, and ``normal`` where there is no such, mean its default.

        Raises:
            ConfigurationError: it has none of this name.
        """
        if name in self._priorities:
            return name  # type: ignore[return-value]
        if name is None or name == "normal":
            return self._default
        listed = ", ".join(map(repr, self._priorities))
        raise ConfigurationError(f"queue {self._queue!r} has no priority {name!r}: it has {listed}")

    def flow(self, calls: Sequence[TaskCall[Any]]) -> Flow[list[Came]]:
        """Submit tasks in order; returns what came of each."""
        if self._max_pending is None and all(call.options.bare for call in calls):
            return self._add(calls)
        return self._submit(calls)

    def _submit(self, calls: Sequence[TaskCall[Any]]) -> Flow[list[Came]]:
        """Submit tasks with all that they may have."""
        now_ms = yield from self.clock.ms()
        submissions = [self._submission(call, now_ms) for call in calls]
        done = yield from tasks.submit_many(
            self._queue, submissions, self._priorities, max_pending=self._max_pending
        )
        return [self._came(task, came) for task, came in zip(submissions, done, strict=True)]

    def _add(self, calls: Sequence[TaskCall[Any]]) -> Flow[list[Came]]:
        """Submit tasks that are an entry of a stream and nothing else, as most are."""
        now_ms = self.clock.known_ms()
        if now_ms is None:
            now_ms = yield from self.clock.ms()
        wire, streams = self._wire, self._streams
        ids, entries, places = list[str](), list[tuple[str, bytes]](), list[int]()
        for call in calls:
            priority = call.options.priority
            if priority not in streams:
                priority = self.priority(priority)  # says that there is none
            name, place, stream = streams[priority]
            task_id = new_id()
            ids.append(task_id)
            places.append(place)
            body = write_plain_task(wire, task_id, call.type, call.data, name, now_ms, spread=call.spread)
            entries.append((stream, body))
        added = yield from tasks.add(entries)
        return [(one, (place, entry), False) for one, place, entry in zip(ids, places, added, strict=True)]

    def _came(self, task: Submission, came: Submitted | QueueFull) -> Came:
        if isinstance(came, QueueFull):
            return came
        place = None
        if came.state in ("ready", "same"):
            place = task_ends.place_of(self._priorities.index(task.priority), came.detail)
        return came.detail if came.state == "locked" else task.id, place, came.state in ("same", "locked")

    def _submission(self, call: TaskCall[Any], now_ms: int) -> Submission:
        options = call.options
        priority = self.priority(options.priority)
        task_id = options.id or new_id()
        expires_ms = None if options.plain else options.expires_ms(now_ms)
        envelope = write_task(
            self._wire,
            task_id,
            call.type,
            call.data,
            headers=options.headers,
            spread=call.spread,
            unique=options.unique_key,
            priority=priority,
            submitted_ms=now_ms,
            expires_ms=expires_ms,
        )
        if options.plain:
            return Submission(task_id, envelope, priority)
        delay_ms, due_ms = options.delay_ms, options.due_ms
        later_ms = delay_ms or max((due_ms or now_ms) - now_ms, 0)
        return Submission(
            task_id,
            envelope,
            priority,
            delay_ms=delay_ms,
            due_ms=due_ms,
            once_ms=None if options.id is None else self._once_ms + later_ms,
            unique=options.unique_key,
            unique_ms=self._unique_ms + later_ms,
        )
