"""Work that is claimed and settled: where it is, how it is held, and what becomes of it.

Rules: nothing here does anything. A `Source` is made by ``tasks.queue_source`` or ``durable.group_source``;
``leases.py`` has the operations on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from redis_toolkit._core.flow import Arg

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


@dataclass(frozen=True, slots=True)
class Source:
    """The keys and names of a queue, or of a durable group. All are in one hash tag.

    Attributes:
        name: how messages name it.
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


@dataclass(slots=True)
class Held:
    """An entry that this consumer has claimed: which stream (from 0), which entry, which delivery."""

    stream: int
    entry: bytes
    deliveries: int


@dataclass(slots=True)
class Claimed(Held):
    """What was claimed. ``id`` is None when only the body has it; ``body`` is None in a foreign entry.

    ``since_ms``: the server's ms since which nobody knew its type: field ``a`` is ``<attempt>@<since ms>``.
    """

    body: bytes | None
    attempt: int = 1
    id: bytes | None = None
    since_ms: int | None = None


@dataclass(slots=True)
class Claim:
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

    now: int
    due: int | None
    paused: bool = False
    cancelled: list[str] = field(default_factory=list)
    made: int = 0
    error: str = ""
    items: list[Claimed] = field(default_factory=list)


@dataclass(slots=True)
class Ended:
    """It is over. ``ttl_ms`` 0 keeps no record, -1 also removes what progress has left of one."""

    state: str
    reply: bytes = b""
    ttl_ms: int = 0
    type: str = ""

    def args(self) -> tuple[Arg, ...]:
        return (self.ttl_ms, self.type, self.reply)


@dataclass(slots=True)
class Ok:
    """It is done, and nobody asks for it: neither a record nor who waits is looked for."""

    state: str = field(default="ok", init=False)

    def args(self) -> tuple[Arg, ...]:
        return ()


@dataclass(slots=True)
class DeadLetter:
    """It failed for good, and is kept with the reason."""

    reason: str
    error: str = ""
    traceback: str = ""
    reply: bytes = b""
    ttl_ms: int = 0
    type: str = ""
    state: str = field(default="dead", init=False)

    def args(self) -> tuple[Arg, ...]:
        return (self.ttl_ms, self.type, self.reply, self.reason, self.error, self.traceback)


@dataclass(slots=True)
class Later:
    """It is to be tried again after ``delay_ms``."""

    delay_ms: int
    state: str = field(default="later", init=False)

    def args(self) -> tuple[Arg, ...]:
        return (self.delay_ms,)


@dataclass(slots=True)
class Settlement:
    """How one entry ended.

    Attributes:
        held: the entry.
        id: of the task or the event.
        outcome: what became of it.
        attempt: which attempt this was; for `Later`, which one comes next, ``<attempt>@<since ms>`` when
            nobody knew its type.
        lock: the unique key that the task holds, or "".
    """

    held: Held
    id: str | bytes
    outcome: Ended | Ok | DeadLetter | Later
    attempt: int | str = 1
    lock: str = ""


@dataclass(slots=True)
class Settled:
    """What came of settling: what did not count and why (``"lost"``, or an error), and who waits."""

    failed: list[tuple[Settlement, str]] = field(default_factory=list)
    waiters: list[tuple[bytes, list[str]]] = field(default_factory=list)


@dataclass(slots=True)
class Pulse:
    """What a heartbeat found: the server's ms, what is lost, and the ids that were cancelled."""

    now: int
    lost: list[Held] = field(default_factory=list)
    cancelled: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Letter:
    """A dead letter: the id of its entry, and its fields as they are stored."""

    entry: str
    fields: dict[str, bytes]
