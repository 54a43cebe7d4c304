"""From a claimed entry to what is to be run; or to its settlement, if it is not to be run.

Rules:

- Bytes that cannot be read, and an entry that was delivered too often without an end, are dead letters.
- A task that was cancelled, or has expired, ends before it has begun.
- A task of a type that nobody here knows is for another process, perhaps one that starts soon, as after a
  deploy: it is put off for up to a second at first and ten at last, and is a dead letter after five minutes.
  Who takes it the next time is chance, so it is tried often, and at times that are not a multiple of
  anything. The attempt does not count; field ``a`` has the server's ms when it was first put off.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

from redis_toolkit._core.flow import Command
from redis_toolkit._core.flows.work import Claimed, Later, Settlement
from redis_toolkit.envelope_fields import is_sendable
from redis_toolkit.envelope_head import head_of
from redis_toolkit.errors import DecodeError, RedisToolkitError, TaskExpired, one_line
from redis_toolkit.jobs import Durable
from redis_toolkit.message import Message
from redis_toolkit.task_envelope import task_fields, task_payload
from redis_toolkit.wire import UnreadableEnvelope
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.ending import Ending, Read, shown_id
from redis_toolkit.worker.heartbeat import ServerClock
from redis_toolkit.worker.holdings import Holdings, Item

__all__ = ["MOST_DELIVERIES", "Intake"]

logger = logging.getLogger("redis_toolkit")

MOST_DELIVERIES = 5
"""How often an entry is delivered without an end before it counts as poison."""
UNKNOWN_MS = 300_000
FIRST_UNKNOWN_MS, LAST_UNKNOWN_MS = 1_000, 10_000
SAID = 100
"""How many unknown types are said."""


class PoisonMessage(RedisToolkitError):
    """Whoever had it vanished with it."""


class UnknownTask(RedisToolkitError):
    """Nobody knows tasks of its type."""


class Intake:
    """Reads the entries of one source.

    Args:
        durable: the source and its jobs.
        clock: the server's clock, for expiries.
        counters: where what is not run is counted.
        holdings: where cancelled ids are known.
        ending: makes the settlements.
    """

    def __init__(
        self, durable: Durable, clock: ServerClock, counters: Counters, holdings: Holdings, ending: Ending
    ) -> None:
        self._jobs = durable.jobs
        self._any = durable.jobs.get("")
        self._wire = next(iter(durable.jobs.values())).wire
        self._name = durable.source.shown
        self._channel = durable.channel
        self._clock = clock
        self._counters = counters
        self._holdings = holdings
        self._ending = ending
        self._said: set[str] = set()

    def event(self, claimed: Claimed) -> Item | Settlement:
        """Read an event of a group."""
        job, name = self._any, (claimed.id or claimed.entry).decode("utf-8", "backslashreplace")
        assert job is not None
        if claimed.deliveries > MOST_DELIVERIES:
            return self._poison(Read(claimed, job.wire, name))
        try:
            if claimed.body is None:
                raise DecodeError("the entry has no field 'b'")
            data, headers = job.wire.read_live(claimed.body)
        except DecodeError as error:
            return self._unreadable(Read(claimed, job.wire, name), error)
        message = Message(self._channel, data, headers, name, None, claimed.attempt, claimed.deliveries)
        item = Item(claimed, name, job, message)
        if job.then is not None:
            item.then = self._then(job.then, message)
        return item

    def task(self, claimed: Claimed) -> Item | Settlement:
        """Read a task of a queue."""
        if claimed.deliveries > MOST_DELIVERIES:
            return self._poison(self._by_its_head(claimed))
        try:
            if claimed.body is None:
                raise DecodeError("the entry has no field 'b'")
            fields = task_fields(self._wire, claimed.body)
            name, kind = fields["id"], fields["task"]
            unique = fields.get("unique") or ""
            job = self._jobs.get(kind, self._any)
            if job is None:
                return self._unknown(Read(claimed, self._wire, name, kind, unique, fields=fields))
            if self._holdings.is_cancelled(name):
                ttl = job.policy.result_ttl
                return self._ending.cancelled(Read(claimed, job.wire, name, kind, unique, ttl, fields))
            expires = fields.get("expires")
            if expires is not None and self._clock.has_passed(expires):
                return self._expired(
                    Read(claimed, job.wire, name, kind, unique, job.policy.result_ttl, fields)
                )
            data, headers = task_payload(job.wire, fields)
        except DecodeError as error:
            return self._unreadable(self._by_its_head(claimed, error), error)
        message = Message(self._channel, data, headers, name, None, claimed.attempt, claimed.deliveries)
        return Item(claimed, name, job, message, fields.get("spread") is True, unique, fields)

    def _then(self, make: Callable[[Message], Command | None], message: Message) -> Command | None:
        try:
            return make(message)
        except RedisToolkitError as error:
            logger.warning("nobody is told of the end of %s of %s: %s", message.id, self._name, error)
            return None

    def _by_its_head(self, claimed: Claimed, error: DecodeError | None = None) -> Read:
        """Return what the first bytes of an envelope say, of which no more is read."""
        head = head_of(claimed.body or b"")
        known = error.id if isinstance(error, UnreadableEnvelope) else head.get("id")
        name = known if isinstance(known, str) and is_sendable(known) else claimed.entry
        return Read(claimed, self._wire, name, _text(head.get("task")), _text(head.get("unique")))

    def _poison(self, read: Read) -> Settlement:
        self._counters.add("poison")
        often = read.claimed.deliveries - 1
        error = PoisonMessage(
            f"it was delivered {often} times, and each time whoever had it vanished with it"
        )
        return self._bury(read, "poison", error)

    def _unreadable(self, read: Read, error: DecodeError) -> Settlement:
        self._counters.add("undecodable")
        return self._bury(read, "undecodable", DecodeError(str(error)))

    def _expired(self, read: Read) -> Settlement:
        self._counters.add("expired")
        error = TaskExpired(f"task {read.id!r} was not begun before it expired")
        return self._ending.ended(read, "expired", error)

    def _unknown(self, read: Read) -> Settlement:
        claimed, now = read.claimed, self._clock.now_ms()
        self._counters.add("unknown")
        if now is None:  # not yet known; by the next time it is
            return Settlement(claimed, read.id, Later(_wait_ms(0)), _attempt(claimed), read.unique)
        since = claimed.since_ms or now
        waited = now - since
        if waited >= UNKNOWN_MS:
            known = ", ".join(map(repr, self._jobs))
            error = UnknownTask(f"no worker knows the type {read.type!r}; this one knows {known}"[:1000])
            return self._bury(read, "unknown type", error)
        if read.type not in self._said and len(self._said) < SAID:
            self._said.add(read.type)
            logger.warning(
                "queue %s has a task of the type %r, which nobody here knows: it is put off for others",
                self._name,
                read.type[:100],
            )
        return Settlement(claimed, read.id, Later(_wait_ms(waited)), _attempt(claimed, since), read.unique)

    def _bury(self, read: Read, reason: str, error: Exception) -> Settlement:
        said = one_line(str(error))
        logger.warning("%s of %s is a dead letter (%s): %s", shown_id(read.id), self._name, reason, said)
        return self._ending.bury(read, reason, error)


def _wait_ms(waited_ms: int) -> int:
    """Return for how long a task is put off that nobody has known for some time; half of it is random."""
    return int(min(max(waited_ms / 4, FIRST_UNKNOWN_MS), LAST_UNKNOWN_MS) * random.uniform(0.5, 1))


def _attempt(claimed: Claimed, since_ms: int | None = None) -> int | str:
    since_ms = since_ms or claimed.since_ms
    return claimed.attempt if since_ms is None else f"{claimed.attempt}@{since_ms}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) and is_sendable(value) else ""
