"""A dead letter as a user sees it: what was given up, and why.

Rules: the bytes are always there; the payload only when they can be read with the codec that was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from redis_toolkit._core.flow import Flow
from redis_toolkit._core.flows import leases
from redis_toolkit._core.flows.work import Letter, Source
from redis_toolkit.errors import CommandRefused, ConfigurationError, DecodeError, StoreFull, counted
from redis_toolkit.record import Frozen

__all__ = ["DeadLetter", "dead_letter", "entries_of", "requeued"]

PAGE = 500
_ENTRY = re.compile(r"\d{1,20}-\d{1,20}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class DeadLetter(Frozen):
    """An event or a task that was given up. It stays until it is put back or removed.

    Attributes:
        entry: its name among the dead letters; what ``requeue`` and ``retry_dead`` take.
        id: of the event or the task.
        type: the task type; "" for an event.
        reason: ``failed``, ``rejected``, ``timeout``, ``poison``, ``undecodable``, ``mismatched`` or
            ``unknown type``.
        error: the last exception, as ``Type: message``.
        traceback: its traceback as text, or "".
        attempts: how many attempts it had.
        deliveries: how often it was handed to a worker in the last of them.
        at: wall-clock seconds of the server when it was given up.
        body: the bytes as they were sent.
        data: the payload; None when it cannot be read, and then ``unreadable`` says why.
        unreadable: why not, or "".
    """

    entry: str
    id: str
    type: str
    reason: str
    error: str
    traceback: str = field(repr=False)
    attempts: int
    deliveries: int
    at: float
    body: bytes = field(repr=False)
    data: Any
    unreadable: str


def dead_letter(letter: Letter, read: Callable[[bytes], Any]) -> DeadLetter:
    """Return what is stored as a dead letter.

    Args:
        letter: its entry and fields.
        read: returns the payload of a body, or raises `DecodeError`.
    """

    def text(name: str) -> str:
        return letter.fields.get(name, b"").decode("utf-8", "replace")

    def number(name: str) -> int:
        found = text(name)
        return int(found) if found.isdigit() else 0

    body, data, unreadable = letter.fields.get("b", b""), None, ""
    try:
        data = read(body)
    except DecodeError as error:
        unreadable = str(error)
    return DeadLetter(
        entry=letter.entry,
        id=text("id"),
        type=text("type"),
        reason=text("reason"),
        error=text("error"),
        traceback=text("traceback"),
        attempts=number("attempt"),
        deliveries=number("deliveries"),
        at=number("at") / 1000,
        body=body,
        data=data,
        unreadable=unreadable,
    )


def entries_of(letters: Iterable[DeadLetter | str] | None) -> list[str] | None:
    """Return the entries of dead letters that a caller names; None stands for all.

    Raises:
        ConfigurationError: one is neither a `DeadLetter` nor the entry of one.
    """
    if letters is None:
        return None
    if isinstance(letters, str | DeadLetter) or not isinstance(letters, Iterable):
        raise ConfigurationError("dead letters come as a list of them: for one, write [letter]")
    entries = [one.entry if isinstance(one, DeadLetter) else one for one in letters]
    for entry in entries:
        if not _ENTRY.fullmatch(str(entry)):
            raise ConfigurationError(
                f"{ascii(entry)[:80]} is no dead letter: pass what dead() returned, or its `entry`"
            )
    return entries


def requeued(source: Source, entries: list[str] | None) -> Flow[int]:
    """Put dead letters back as first attempts, all of those that are there now if none are named.

    Raises:
        StoreFull: the server is out of memory; those before it were put back.
        CommandRefused: the server refuses for another reason.
    """
    if entries is not None:
        return (yield from _revived(source, entries))
    count, after = 0, "0-0"
    while True:
        page = yield from leases.dead(source, PAGE, after)
        if page:
            after = page[-1].entry
            count += yield from _revived(source, [letter.entry for letter in page])
        if len(page) < PAGE:
            return count


def _revived(source: Source, entries: list[str]) -> Flow[int]:
    count, error = yield from leases.revive(source, entries)
    if error:
        kind = StoreFull if "OOM" in error else CommandRefused
        raise kind(
            f"{count} of {counted(len(entries), 'dead letter')} of {source.shown} were put back, "
            f"then: {error}"
        )
    return count
