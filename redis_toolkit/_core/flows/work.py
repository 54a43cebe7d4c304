"""Work that is claimed and settled: where it is, how it is held, and what becomes of it.

Rules: nothing here does anything. A `Source` is made by ``tasks.queue_source`` or ``durable.group_source``;
``leases.py`` has the operations on it.
"""

from __future__ import annotations

from typing import NamedTuple

from redis_toolkit._core.flow import Arg
from redis_toolkit.record import Record

__all__ = [
    "Claim",
    "Claimed",
    "DeadLetter",
    "Ended",
    "Held",
    "Later",
    "Letter",
    "Ok",
    "Pulse",
    "Settled",
    "Settlement",
    "Source",
]


class Source(NamedTuple):
    """The keys and names of a queue, or of a durable group. All are in one hash tag.

    Attributes:
        name: of a queue its name; of a group what messages call it.
        group: the consumer group.
        streams: where it is claimed, in this order.
        prefix: what the names of the streams begin with to which something comes back.
        back: for each stream, the rest of the name of the one to which its entries come back.
        makeable: how many of the first streams a claim makes when they are missing, from the beginning.
        leaves: for each stream, whether an entry that has ended is deleted.
        id_field: the field of an entry that has its id, or "" when only its body has.
    """

    name: str
    group: str
    streams: tuple[str, ...]
    prefix: str
    back: tuple[str, ...]
    makeable: int
    leaves: tuple[bool, ...]
    id_field: str
    delayed: str
    bodies: str
    dead: str
    counters: str
    paused: str
    cancelled: str
    waiters: str
    records: str
    locks: str
    due: str
    control: str

    @property
    def shown(self) -> str:
        """Its name as messages show it: a queue's in quotes, a group's with those of its parts."""
        return self.name if self.id_field else repr(self.name)


class Held(Record):
    """An entry that this consumer has claimed: which stream (from 0), which entry, which delivery."""

    __slots__ = ("deliveries", "entry", "stream")

    def __init__(self, stream: int, entry: bytes, deliveries: int) -> None:
        self.stream = stream
        self.entry = entry
        self.deliveries = deliveries


class Claimed(Held):
    """What was claimed. ``id`` is None when only the body has it; ``body`` is None in a foreign entry.

    ``since_ms``: the server's ms since which nobody knew its type: field ``a`` is ``<attempt>@<since ms>``.
    """

    __slots__ = ("attempt", "body", "id", "since_ms")

    def __init__(
        self,
        stream: int,
        entry: bytes,
        deliveries: int,
        body: bytes | None,
        attempt: int = 1,
        id: bytes | None = None,
        since_ms: int | None = None,
    ) -> None:
        super().__init__(stream, entry, deliveries)
        self.body = body
        self.attempt = attempt
        self.id = id
        self.since_ms = since_ms


class Claim(Record):
    """What a claim brought.

    Attributes:
        now: the server's ms.
        due: the server's ms when the first of what is delayed is due, or None.
        paused: the source is paused: nothing is claimed.
        cancelled: ids that were cancelled last, and have not ended: at most `leases.CANCELLED`.
        made: how many groups were missing and have been made again: the server has lost its state.
        error: why the rest of the streams was not read, or "".
        items: in the order of the streams.
    """

    __slots__ = ("cancelled", "due", "error", "items", "made", "now", "paused")

    def __init__(
        self,
        now: int,
        due: int | None,
        paused: bool = False,
        cancelled: list[str] | None = None,
        made: int = 0,
        error: str = "",
        items: list[Claimed] | None = None,
    ) -> None:
        self.now = now
        self.due = due
        self.paused = paused
        self.cancelled: list[str] = [] if cancelled is None else cancelled
        self.made = made
        self.error = error
        self.items: list[Claimed] = [] if items is None else items


class Ended(Record):
    """It is over. ``ttl_ms`` 0 keeps no record, -1 also removes what progress has left of one."""

    __slots__ = ("reply", "state", "ttl_ms", "type")

    def __init__(self, state: str, reply: bytes = b"", ttl_ms: int = 0, type: str = "") -> None:
        self.state = state
        self.reply = reply
        self.ttl_ms = ttl_ms
        self.type = type

    def args(self) -> tuple[Arg, ...]:
        return (self.ttl_ms, self.type, self.reply)


class Ok(Record):
    """It is done, and nobody asks for it: neither a record nor who waits is looked for."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = "ok"

    def args(self) -> tuple[Arg, ...]:
        return ()


class DeadLetter(Record):
    """It failed for good, and is kept with the reason."""

    __slots__ = ("error", "reason", "reply", "state", "traceback", "ttl_ms", "type")

    def __init__(
        self,
        reason: str,
        error: str = "",
        traceback: str = "",
        reply: bytes = b"",
        ttl_ms: int = 0,
        type: str = "",
    ) -> None:
        self.reason = reason
        self.error = error
        self.traceback = traceback
        self.reply = reply
        self.ttl_ms = ttl_ms
        self.type = type
        self.state = "dead"

    def args(self) -> tuple[Arg, ...]:
        return (self.ttl_ms, self.type, self.reply, self.reason, self.error, self.traceback)


class Later(Record):
    """It is to be tried again after ``delay_ms``."""

    __slots__ = ("delay_ms", "state")

    def __init__(self, delay_ms: int) -> None:
        self.delay_ms = delay_ms
        self.state = "later"

    def args(self) -> tuple[Arg, ...]:
        return (self.delay_ms,)


class Settlement(Record):
    """How one entry ended.

    Attributes:
        held: the entry.
        id: of the task or the event.
        outcome: what became of it.
        attempt: which attempt this was; for `Later`, which one comes next, ``<attempt>@<since ms>`` when
            nobody knew its type.
        lock: the unique key that the task holds, or "".
    """

    __slots__ = ("attempt", "held", "id", "lock", "outcome")

    def __init__(
        self,
        held: Held,
        id: str | bytes,
        outcome: Ended | Ok | DeadLetter | Later,
        attempt: int | str = 1,
        lock: str = "",
    ) -> None:
        self.held = held
        self.id = id
        self.outcome = outcome
        self.attempt = attempt
        self.lock = lock


class Settled(Record):
    """What came of settling: what did not count and why (``"lost"``, or an error), and who waits."""

    __slots__ = ("failed", "waiters")

    def __init__(
        self,
        failed: list[tuple[Settlement, str]] | None = None,
        waiters: list[tuple[bytes, list[str]]] | None = None,
    ) -> None:
        self.failed: list[tuple[Settlement, str]] = [] if failed is None else failed
        self.waiters: list[tuple[bytes, list[str]]] = [] if waiters is None else waiters


class Pulse(Record):
    """What a heartbeat found: the server's ms, what is lost, and the ids that were cancelled."""

    __slots__ = ("cancelled", "lost", "now")

    def __init__(
        self, now: int, lost: list[Held] | None = None, cancelled: list[bytes] | None = None
    ) -> None:
        self.now = now
        self.lost: list[Held] = [] if lost is None else lost
        self.cancelled: list[bytes] = [] if cancelled is None else cancelled


class Letter(Record):
    """A dead letter: the id of its entry, and its fields as they are stored."""

    __slots__ = ("entry", "fields")

    def __init__(self, entry: str, fields: dict[str, bytes]) -> None:
        self.entry = entry
        self.fields = fields
