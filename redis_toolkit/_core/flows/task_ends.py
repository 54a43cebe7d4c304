"""How tasks end, as their callers see it: waiting for that, looking, cancelling.

Rules:

- Waiting does not poll: the address of the waiter is left with the queue, and whoever settles the task
  pushes the reply there. Should that push get lost, the wait is renewed every `SLICE_MS`.
- Before the first wait, and before each renewed one, it is seen whether the task exists at all: by its entry
  as the wait begins, if that is known. In one step, as a task is always in one place: ready, later, or ended.
- A wait ends at its deadline and not before: connections that are lost meanwhile are waited for.
- Nothing is stored about a task that is ready: it is an entry of a stream. So unless its entry is known,
  cancelling one leaves its id with the queue, and who claims it asks for these ids when there are any.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from redis_toolkit import keys
from redis_toolkit._core.flow import (
    REFUSED,
    Arg,
    Call,
    Deadline,
    Exchange,
    ExchangeMany,
    Flow,
    Outgoing,
    ScriptCall,
)
from redis_toolkit._core.flows.requests import MARKER
from redis_toolkit._core.flows.serving import push_replies
from redis_toolkit._core.flows.work import Source
from redis_toolkit._core.scripts import TASK_CANCEL, TASK_FIND, TASK_WAIT
from redis_toolkit.errors import OutcomeUnknown, RequestTimeout, ServerUnreachable, TaskUnknown
from redis_toolkit.wire import Reply, Wire

__all__ = ["CANCELLED_MS", "Cancelled", "Found", "cancel", "find", "place_of", "tell", "wait", "wait_many"]

SLICE_MS = 10_000
CANCELLED_MS = 24 * 3600 * 1000
"""How long an id is remembered that was cancelled and is not claimed."""
SEARCHED = 1000
"""Entries of each stream that are looked at for one whose entry id is not known."""
SEARCHED_BYTES = 4 * 1024 * 1024
WINDOW = 1000
PATIENCE = 5.0
"""Seconds after which a driver that has found no connection has tried again in between."""

_PLAIN = re.compile(r"[A-Za-z0-9_.:@ -]+")
"""Ids that stand in a body as they are: other ones may be there and not be found."""

Place: TypeAlias = tuple[int, str]
"""Which stream of a source has the entry (from 0), and the entry's id."""


@dataclass(slots=True)
class Found:
    """Where a task is: ``ended``, ``later``, ``running``, ``ready``, ``nowhere`` or ``unseen``.

    ``unseen`` is one that is not among the entries that were looked at, while there are more. ``fields`` are
    those of its record, should there be one.
    """

    where: str
    fields: dict[str, bytes] = field(default_factory=dict)

    @property
    def state(self) -> str | None:
        """How it ended, as its record says; ``running`` while it has told how far it is; or None."""
        state = self.fields.get("state")
        return None if state is None else state.decode("utf-8", "replace")

    @property
    def reply(self) -> bytes:
        """Its end, as those get it who wait for it."""
        return self.fields.get("reply", b"")


def place_of(stream: int, detail: str) -> Place | None:
    """Return the place of a task's entry, if what a submit returned is one."""
    return (stream, detail) if "-" in detail else None


def _find_call(source: Source, task_id: str, place: Place | None, *, searched: bool = True) -> ScriptCall:
    stream, entry = ("", "") if place is None else (place[0] + 1, place[1])
    args = (task_id, source.group, stream, entry, SEARCHED if searched else 0, SEARCHED_BYTES)
    return ScriptCall(TASK_FIND, (source.records + task_id, source.delayed, *source.streams), args)


def find(source: Source, task_id: str, place: Place | None = None) -> Flow[Found]:
    """Return where a task is and what its record says; ``place`` is where its entry was, if that is known."""
    [found] = yield Call((_find_call(source, task_id, place),), repeatable=True)
    return _found(found)


def _found(reply: Any) -> Found:
    where, flat = reply
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return Found(where.decode("ascii"), {name.decode("utf-8", "replace"): value for name, value in pairs})


# -- waiting ------------------------------------------------------------------------------------------


def _outgoing(source: Source, task_id: str, reply_key: str, place: Place | None) -> Outgoing:
    """Return what leaves an address; with a place it is refused when the entry has gone from there."""

    def build(reply_to: str, left_ms: int) -> ScriptCall:
        own = (reply_key,) if reply_to == reply_key else ()
        held = () if place is None else (source.delayed, source.streams[place[0]])
        entry = () if place is None else (place[1],)
        named = (source.records + task_id, source.waiters, *held, *own)
        return ScriptCall(TASK_WAIT, named, (task_id, reply_to, left_ms, MARKER + task_id, *entry))

    return Outgoing(task_id, source.name, reply_key, build)


def wait(
    source: Source,
    task_id: str,
    wait_id: str,
    wire: Wire,
    *,
    timeout_ms: int,
    place: Place | None = None,
    unkept: bool = False,
    now: Callable[[], float] = time.monotonic,
) -> Flow[Reply]:
    """Wait for the end of a task, and return the reply: its result, or the error it ended with.

    Args:
        wait_id: names the reply list of a sync caller; used for one wait only.
        place: where its entry was, if that is known.
        unkept: its end is not kept, so it may have ended without a trace.
        now: a clock in seconds.

    Raises:
        RequestTimeout: it has not ended after ``timeout_ms``.
        TaskUnknown: there is no such task, or its end is kept no more.
        ServerUnreachable: no connection; tried for as long as a short operation would.
    """
    reply_key = keys.task_reply(source.name, wait_id)
    outgoing = _outgoing(source, task_id, reply_key, place)
    end = now() + timeout_ms / 1000
    look = place is None and (unkept or _PLAIN.fullmatch(task_id) is not None)
    while True:
        began = now()
        slice_ms = max(min(int((end - began) * 1000), SLICE_MS), 1)
        try:
            if look:
                ended = yield from _ended(source, task_id, place, wire)
                if ended is not None:
                    return ended
                look = False
            outcome = yield Exchange(outgoing, wire.read_reply, Deadline(slice_ms))
        except (RequestTimeout, OutcomeUnknown) as error:
            if now() >= end:
                raise _timeout(source.name, task_id, timeout_ms) from error
            look = isinstance(error, RequestTimeout)
        except ServerUnreachable:
            if now() >= end or now() - began < min(slice_ms / 1000, PATIENCE) * 0.8:
                raise  # it was said at once: there is nothing to wait for
        else:
            if outcome is not REFUSED:
                reply: Reply = outcome
                return reply
            look = True  # it has ended, its record is read unless that expires right now; or was put off
            outgoing = _outgoing(source, task_id, reply_key, None)


def _ended(source: Source, task_id: str, place: Place | None, wire: Wire) -> Flow[Reply | None]:
    found = yield from find(source, task_id, place)
    if found.where == "nowhere":
        raise _unknown(source.name, task_id)
    return wire.read_reply(found.reply) if found.where == "ended" else None


def wait_many(
    source: Source,
    places: dict[str, Place | None],
    wait_id: str,
    wire: Wire,
    *,
    timeout_ms: int,
    now: Callable[[], float] = time.monotonic,
) -> Flow[dict[str, Reply | Exception]]:
    """Wait for the ends of several tasks on one connection; returns by id what came of each wait.

    Args:
        places: the ids, each with the place of its entry if that is known.

    What stands for a reply is what `wait` would raise. As there may be ends without a trace among them,
    those that are not kept, each round begins by looking for all that have not ended. Streams are not
    searched for them: that is a `TaskUnknown` only when the streams are empty.
    """
    reply_key = keys.task_reply(source.name, wait_id)
    end = now() + timeout_ms / 1000
    ends: dict[str, Reply | Exception] = {}
    places = dict(places)
    while True:
        waiting = [task_id for task_id in places if task_id not in ends]
        for start in range(0, len(waiting), WINDOW):
            some = waiting[start : start + WINDOW]
            yield from _look_for(source, {task_id: places[task_id] for task_id in some}, wire, ends)
        waiting = [task_id for task_id in waiting if task_id not in ends]
        left_ms = int((end - now()) * 1000)
        if not waiting or left_ms <= 0:
            return ends | {one: _timeout(source.name, one, timeout_ms) for one in waiting}
        some = waiting[:WINDOW]
        outgoing = [_outgoing(source, task_id, reply_key, places[task_id]) for task_id in some]
        slice_ms = max(min(left_ms, SLICE_MS), 1)
        outcomes = yield ExchangeMany(outgoing, wire.read_reply, slice_ms, len(some))
        for task_id, outcome in zip(some, outcomes, strict=True):
            passing = isinstance(outcome, RequestTimeout | OutcomeUnknown) or outcome is REFUSED
            if not passing:
                ends[task_id] = outcome
            elif outcome is REFUSED:
                places[task_id] = None  # should it not have ended, its entry is another one by now


def _look_for(
    source: Source, places: dict[str, Place | None], wire: Wire, ends: dict[str, Reply | Exception]
) -> Flow[None]:
    calls = tuple(_find_call(source, task_id, place, searched=False) for task_id, place in places.items())
    replies = yield Call(calls, repeatable=True)
    for task_id, reply in zip(places, replies, strict=True):
        found = _found(reply)
        if found.where == "nowhere":
            ends[task_id] = _unknown(source.name, task_id)
        elif found.where == "ended":
            try:
                ends[task_id] = wire.read_reply(found.reply)
            except Exception as error:
                ends[task_id] = error


def _timeout(queue: str, task_id: str, timeout_ms: int) -> RequestTimeout:
    return RequestTimeout(f"task {task_id} of queue {queue!r} has not ended after {timeout_ms / 1000:g} s")


def _unknown(queue: str, task_id: str) -> TaskUnknown:
    return TaskUnknown(
        f"nothing is known of task {task_id} of queue {queue!r}: its result is kept no more (result_ttl=), "
        "it was purged, or it was never submitted"
    )


# -- cancelling ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Cancelled:
    """What came of cancelling: ``cancelled`` at once, ``asked`` of whoever claims it, or ``ended`` before.

    ``waiters`` and ``body`` are those of a task that was cancelled at once; ``ended`` is its end.
    """

    state: str
    waiters: list[str] = field(default_factory=list)
    body: bytes = b""
    ended: str = ""


def cancel(
    source: Source, task_id: str, reply: bytes, ttl_ms: int, place: Place | None = None
) -> Flow[Cancelled]:
    """Cancel a task; ``reply`` is its end, kept for ``ttl_ms``, when no worker had it.

    Args:
        place: where its entry was, if that is known.
    """
    record = source.records + task_id
    named = [source.delayed, source.bodies, record, source.cancelled, source.waiters, source.counters]
    args: list[Arg] = [task_id, reply, ttl_ms, CANCELLED_MS, source.control]
    if place is not None:
        named.append(source.streams[place[0]])
        args += [source.group, place[1]]
    [[state, *more]] = yield Call((ScriptCall(TASK_CANCEL, tuple(named), tuple(args)),), repeatable=True)
    if state == b"cancelled":
        addresses = more[0].decode("utf-8", "backslashreplace")
        return Cancelled("cancelled", addresses.split("\n") if addresses else [], more[1])
    return Cancelled(state.decode("ascii"), ended=more[0].decode("utf-8", "backslashreplace") if more else "")


def tell(waiters: Sequence[str], reply: bytes) -> Flow[None]:
    """Push the end of a task to those who wait for it."""
    if waiters:
        pushes = push_replies([(address, reply) for address in waiters])
        yield Call(tuple(command for pair in pushes for command in pair), repeatable=True)
