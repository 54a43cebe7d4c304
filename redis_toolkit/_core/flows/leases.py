"""Work that is never lost: claimed for a lease, renewed while it runs, settled once.

What queues and durable groups have in common: a `work.Source` names the keys, each operation is a script.

Rules:

- Who settles, renews or gives back an entry names the consumer *and* the delivery count it was claimed
  with. When either is different by now the entry is lost: somebody else has it, or has ended it.
- What is settled twice counts once, so that may be repeated; a claim may not, as the first one's entries
  would be in nobody's hands until their lease runs out.
- What an engine puts into one packet with other things is a call (`claim_call`, `settle_calls`), whose reply
  it reads by itself (`read_claim`, `read_settled`); what goes alone is a flow.
- All entries of one call belong to one stream, at most `BATCH` at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from redis_toolkit._core.flow import Arg, Call, Command, Flow, ScriptCall
from redis_toolkit._core.flows.work import Claim, Claimed, Held, Letter, Pulse, Settled, Settlement, Source
from redis_toolkit._core.scripts import (
    CLAIM,
    CLEAN,
    HEARTBEAT,
    LEAVE,
    PROMOTE,
    RECOVER,
    RELEASE,
    REVIVE,
    SETTLE,
)

__all__ = [
    "BATCH",
    "CANCELLED",
    "block",
    "claim_call",
    "claim_packet",
    "clean",
    "clock",
    "dead",
    "heartbeat",
    "leave",
    "left_alone",
    "next_due",
    "pause",
    "probe",
    "promote",
    "read_block",
    "read_claim",
    "read_recovered",
    "read_renewed",
    "read_settled",
    "recover_calls",
    "release_calls",
    "renew_calls",
    "resume",
    "revive",
    "settle_calls",
]

H = TypeVar("H", bound=Held)
BATCH = 500
"""Entries in one run of a script: few enough for Lua's stack, and not to keep others waiting for long."""
PROMOTED = 500
PROMOTED_IN_A_ROW = 20
ORPHANS = 100
CANCELLED = 100
"""How many cancelled ids a claim tells at most."""


# -- claiming -----------------------------------------------------------------------------------------


def claim_call(source: Source, consumer: str, free: int) -> ScriptCall:
    """Return the script call that takes up to ``free`` entries without waiting."""
    keys = (source.delayed, source.paused, source.cancelled, *source.streams)
    return ScriptCall(CLAIM, keys, (source.group, consumer, free, source.makeable))


def read_claim(reply: Any) -> Claim:
    """Return what a claim brought, from the reply to `claim_call`."""
    now, due, paused, cancelled, made, error, items = reply
    names = [name.decode("utf-8", "replace") for name in cancelled]
    taken = Claim(int(now), _due(due), bool(paused), names, made, error.decode("utf-8", "replace"))
    for place, entries in items:
        taken.items += [_claimed(place - 1, entry, fields) for entry, fields in entries]
    return taken


def claim_packet(source: Source, consumer: str, free: int, main: int) -> tuple[ScriptCall, Command]:
    """Return the commands that take up to ``free`` from the streams before ``main``, then from that one.

    It costs the server half of what `claim_call` does where ``main`` is the stream with the backlog, as
    its entries do not pass through Lua. The price: what the first command brings comes on top of ``free``,
    streams after ``main`` are not read, and a source that is paused gives back what the second one took.
    """
    keys = (source.delayed, source.paused, source.cancelled, *source.streams[:main])
    makeable = min(source.makeable, main)
    read = (
        "XREADGROUP",
        "GROUP",
        source.group,
        consumer,
        "COUNT",
        free,
        "STREAMS",
        source.streams[main],
        ">",
    )
    return ScriptCall(CLAIM, keys, (source.group, consumer, free, makeable)), read


def block(source: Source, consumer: str, ms: int) -> tuple[Command, Command]:
    """Return the commands that wait for one entry of each stream, and then say whether it is paused.

    A source that was paused meanwhile gives back what they took: the waiting command does not know.
    """
    streams = source.streams
    read = ("XREADGROUP", "GROUP", source.group, consumer, "COUNT", 1, "BLOCK", ms, "STREAMS")
    return ((*read, *streams, *(">" for _ in streams)), ("EXISTS", source.paused))


def read_block(source: Source, reply: Any) -> list[Claimed]:
    """Return what the first command of `block` brought."""
    places = {stream.encode("utf-8"): place for place, stream in enumerate(source.streams)}
    found: list[Claimed] = []
    for stream, entries in reply or ():
        found += [_claimed(places[stream], entry, fields) for entry, fields in entries]
    return found


def _claimed(stream: int, entry: bytes, flat: Sequence[bytes], deliveries: int = 1) -> Claimed:
    if len(flat) == 2 and flat[0] == b"b":
        return Claimed(stream, entry, deliveries, flat[1])
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    attempt, _, since = fields.get(b"a", b"1").partition(b"@")
    return Claimed(
        stream,
        entry,
        deliveries,
        fields.get(b"b"),
        int(attempt[:9]) if attempt.isdigit() else 1,
        fields.get(b"i"),
        int(since[:15]) if since.isdigit() else None,
    )


def _due(score: bytes) -> int | None:
    """Return the server's ms; None when nothing is due, or never, as a foreign infinite score says."""
    due = float(score) if score else math.inf
    return int(due) if math.isfinite(due) else None


# -- settling -----------------------------------------------------------------------------------------


def settle_calls(
    source: Source, consumer: str, settlements: Iterable[Settlement]
) -> Iterator[tuple[ScriptCall, list[Settlement]]]:
    """Return the script calls that settle these, each with those that it settles.

    They may be repeated: then what the first try has settled is ``"lost"``.
    """
    streams: dict[int, list[Settlement]] = {}
    for settlement in settlements:
        streams.setdefault(settlement.held.stream, []).append(settlement)
    for place, some in streams.items():
        for start in range(0, len(some), BATCH):
            batch = some[start : start + BATCH]
            yield _settle_call(source, consumer, place, batch), batch


def _settle_call(source: Source, consumer: str, place: int, batch: list[Settlement]) -> ScriptCall:
    leaves = int(source.leaves[place])
    keys = (
        source.streams[place],
        source.delayed,
        source.bodies,
        source.dead,
        source.counters,
        source.waiters,
        source.cancelled,
        source.records,
        source.locks,
    )
    args: list[Arg] = [source.group, consumer, source.back[place], leaves, source.due, len(batch)]
    for one in batch:
        held, outcome = one.held, one.outcome
        if outcome.state == "ok":
            args += (held.entry, held.deliveries, "ok")
            continue
        args += (held.entry, held.deliveries, outcome.state, one.id, one.attempt, one.lock, *outcome.args())
    return ScriptCall(SETTLE, keys, tuple(args))


def read_settled(reply: Any, batch: Sequence[Settlement], into: Settled) -> None:
    """Add what came of one call of `settle_calls`, from its reply."""
    failed, waiters = reply
    for place, why in zip(failed[::2], failed[1::2], strict=True):
        into.failed.append((batch[place - 1], why.decode("utf-8", "replace")))
    for whose, addresses in zip(waiters[::2], waiters[1::2], strict=True):
        into.waiters.append((whose, addresses.decode("utf-8", "backslashreplace").split("\n")))


# -- leases -------------------------------------------------------------------------------------------


def heartbeat(source: Source, consumer: str, running: Sequence[tuple[Held, str]]) -> Flow[Pulse | None]:
    """Renew the lease of what runs (entry and id of each); returns None when nothing does."""
    beats = list(_beats(source, consumer, running))
    if not beats:
        return None
    pulse = Pulse(0)
    replies = yield Call(tuple(call for call, _ in beats), repeatable=True)
    for (now, lost, cancelled), (_, batch) in zip(replies, beats, strict=True):
        of = {held.entry: held for held, _ in batch}
        pulse.now = int(now)
        pulse.lost += [of[entry] for entry in lost]
        pulse.cancelled += cancelled
    return pulse


def renew_calls(
    source: Source, consumer: str, claimed: Sequence[Claimed]
) -> list[tuple[ScriptCall, list[Claimed]]]:
    """Return the script calls that renew the lease of these, each with those that it is about."""
    beats = _beats(source, consumer, [(one, "") for one in claimed])
    return [(call, [held for held, _ in batch]) for call, batch in beats]


def read_renewed(reply: Any, batch: Iterable[Claimed]) -> tuple[list[Claimed], list[Claimed]]:
    """Return which of a batch are this consumer's still, and which are not, from the reply to its call."""
    lost = set(reply[1])
    kept = [one for one in batch if one.entry not in lost]
    return kept, [one for one in batch if one.entry in lost]


def _beats(
    source: Source, consumer: str, running: Sequence[tuple[H, str]]
) -> Iterator[tuple[ScriptCall, list[tuple[H, str]]]]:
    for place, stream in enumerate(source.streams):
        own = [one for one in running if one[0].stream == place]
        for start in range(0, len(own), BATCH):
            batch = own[start : start + BATCH]
            args = [arg for held, name in batch for arg in (held.entry, held.deliveries, name)]
            yield ScriptCall(HEARTBEAT, (stream, source.cancelled), (source.group, consumer, *args)), batch


def probe(source: Source, lease_ms: int) -> tuple[Command, ...]:
    """Return the commands that tell, one for each stream, whether there is anything to recover in it."""
    return tuple(("XPENDING", key, source.group, "IDLE", lease_ms, "-", "+", 1) for key in source.streams)


def recover_calls(
    source: Source,
    consumer: str,
    lease_ms: int,
    most: int,
    *,
    often: int = 0,
    one_of: int | None = None,
) -> tuple[ScriptCall, ...]:
    """Return the script calls that claim what others have held for a lease without a sign of life.

    One for each stream, for up to ``most`` entries of it.

    Args:
        often: which delivery is left alone, and all later ones; 0: none.
        one_of: the stream of which one such entry is taken all the same.
    """
    args = (source.group, consumer, lease_ms, most)
    if not often:
        return tuple(ScriptCall(RECOVER, (key,), args) for key in source.streams)
    return tuple(
        ScriptCall(RECOVER, (key,), (*args, often, int(place == one_of)))
        for place, key in enumerate(source.streams)
    )


def read_recovered(place: int, reply: Any) -> list[Claimed]:
    """Return what one call of `recover_calls` brought, from its reply."""
    return [_claimed(place, entry, fields, deliveries) for entry, fields, deliveries in reply[2:]]


def left_alone(reply: Any) -> int:
    """Return how many entries one call of `recover_calls` has seen and left alone, from its reply."""
    return int(reply[1])


def release_calls(
    source: Source, consumer: str, unstarted: Sequence[Held], lease_ms: int
) -> tuple[ScriptCall, ...]:
    """Return the script calls that give back what does not run, so that this delivery does not count.

    Each replies how many it has given back.
    """
    calls = []
    for place, stream in enumerate(source.streams):
        own = [held for held in unstarted if held.stream == place]
        for start in range(0, len(own), BATCH):
            args = [arg for held in own[start : start + BATCH] for arg in (held.entry, held.deliveries)]
            fixed = (source.group, consumer, lease_ms, source.control)
            calls.append(ScriptCall(RELEASE, (stream,), (*fixed, *args)))
    return tuple(calls)


# -- time and order -----------------------------------------------------------------------------------


def promote(source: Source) -> Flow[Claim]:
    """Move what is due to its stream; returns when the next is due, as a claim of nothing.

    It stops after `PROMOTED_IN_A_ROW` runs of the script: then that has passed already.
    """
    named = (source.delayed, source.bodies, source.prefix, source.streams[0])
    call = ScriptCall(PROMOTE, named, (PROMOTED, source.id_field, *dict.fromkeys(source.back)))
    runs = 0
    while True:
        [[now, due, moved, error]] = yield Call((call,), repeatable=True)
        runs += 1
        if error or moved < PROMOTED or runs >= PROMOTED_IN_A_ROW:
            return Claim(int(now), _due(due), error=error.decode("utf-8", "replace"))


def clean(source: Source, idle_ms: int) -> Flow[tuple[int, int]]:
    """Remove consumers that have nothing and said nothing for ``idle_ms``; put back what is orphaned.

    Returns how many of each.
    """
    calls = (
        ScriptCall(CLEAN, (key, source.cancelled), (source.group, idle_ms, int(leaves), ORPHANS))
        for key, leaves in zip(source.streams, source.leaves, strict=True)
    )
    replies = yield Call(tuple(calls), repeatable=True)
    return sum(reply[0] for reply in replies), sum(reply[1] for reply in replies)


def leave(source: Source, consumer: str) -> Flow[int]:
    """Remove a consumer that stops from the streams where it holds nothing; returns how many those were."""
    calls = (ScriptCall(LEAVE, (key,), (source.group, consumer)) for key in source.streams)
    return sum((yield Call(tuple(calls), repeatable=True)))


def clock() -> Flow[int]:
    """Return the server's ms (``TIME``)."""
    [[seconds, micros]] = yield Call((("TIME",),), repeatable=True)
    return int(seconds) * 1000 + int(micros) // 1000


def next_due(source: Source) -> Flow[int | None]:
    """Return the server's ms when the first of what is delayed is due, or None (``ZRANGE``)."""
    first = ("ZRANGE", source.delayed, 0, 0, "WITHSCORES")
    [due] = yield Call((first,), repeatable=True)
    return _due(due[1]) if due else None


def pause(source: Source) -> Flow[None]:
    """Let nothing be claimed any more (``SET``, ``PUBLISH``); what runs goes on."""
    yield Call((("SET", source.paused, 1), ("PUBLISH", source.control, "pause")), repeatable=True)


def resume(source: Source) -> Flow[None]:
    """Let it be claimed again (``DEL``, ``PUBLISH``)."""
    yield Call((("DEL", source.paused), ("PUBLISH", source.control, "resume")), repeatable=True)


def dead(source: Source, limit: int, after: str = "0-0") -> Flow[list[Letter]]:
    """Return dead letters, oldest first, up to ``limit``, those after an entry (``XRANGE``)."""
    replies = yield Call((("XRANGE", source.dead, f"({after}", "+", "COUNT", limit),), repeatable=True)
    letters = []
    for entry, flat in replies[0]:
        pairs = zip(flat[::2], flat[1::2], strict=True)
        fields = {name.decode("utf-8", "replace"): value for name, value in pairs}
        letters.append(Letter(entry.decode("ascii"), fields))
    return letters


def revive(source: Source, entries: Sequence[str]) -> Flow[tuple[int, str]]:
    """Put dead letters back as first attempts; returns how many that were, and an error or ""."""
    keys = (source.dead, source.prefix, source.records)
    revived = 0
    for start in range(0, len(entries), BATCH):
        call = ScriptCall(REVIVE, keys, (source.id_field, *entries[start : start + BATCH]))
        [[count, error]] = yield Call((call,), repeatable=True)
        revived += count
        if error:
            return revived, error.decode("utf-8", "replace")
    return revived, ""
