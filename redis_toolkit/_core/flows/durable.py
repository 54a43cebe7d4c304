"""Durable events: publishing for those who listen now and for the groups, and looking after the groups.

Rules:

- A publish is one script: it appends only where a group has made the stream, then publishes.
- When a group may be as far behind as it is allowed to be, the script says so and does nothing; then the
  stream is trimmed of what all groups have finished, and the publish is tried again, or refused.
- The stream is trimmed by what every group has finished, never by its length.
- What a group has to take again is in its own keys, as the stream is shared; `leases.py` has claims and all.
- A publish is repeated after an unknown outcome only if it carries a dedupe id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis_toolkit import keys
from redis_toolkit._core.flow import Call, Flow, ScriptCall
from redis_toolkit._core.flows.work import Source
from redis_toolkit._core.scripts import FORGET, GROUP, GROUPS, PUBLISH, TRIM
from redis_toolkit.errors import StreamFull

__all__ = [
    "Event",
    "GroupInfo",
    "Published",
    "Trimmed",
    "forget_group",
    "group_source",
    "groups",
    "make_group",
    "publish",
    "publish_many",
    "since_ms",
    "trim",
]

CHUNK = 500
DROPPED = 1000
"""How many entries one look at the limits may drop of a group that drops its oldest."""
COUNTED = 10_000
"""Up to which number the entries are counted that a group is behind, where the server cannot tell."""
_SAME, _CHECK = -1, -2
_LAST = 2**64 - 1


def group_source(channel: str, group: str) -> Source:
    """Return the keys of a durable group: what it takes again goes before the log."""
    prefix = keys.group_streams(channel, group)
    return Source(
        name=f"{channel}, group {group}",
        group=group,
        streams=(keys.group_again(channel, group), keys.stream(channel)),
        prefix=prefix,
        back=("again", "again"),
        makeable=1,
        leaves=(True, False),
        id_field="i",
        delayed=keys.group_delayed(channel, group),
        bodies=keys.group_bodies(channel, group),
        dead=keys.group_dead(channel, group),
        counters=keys.group_counters(channel, group),
        paused=keys.group_paused(channel, group),
        cancelled=prefix + "cancelled",  # there never is such a key, nor one of the next three
        waiters=prefix + "waiters",
        records=prefix + "event:",
        locks=prefix + "unique:",
        due=keys.group_due(channel, group),
        control=keys.group_control(channel, group),
    )


@dataclass(slots=True)
class Event:
    """One event to publish; with ``once_ms``, another one with its id adds nothing for that long."""

    body: bytes
    id: str | None = None
    once_ms: int = 24 * 3600 * 1000


@dataclass(slots=True)
class Published:
    """What came of it: live receivers, and the entry for the groups or "" when there are none.

    ``same``: it was published before; then nothing was sent, and ``entry`` is the first one's.
    """

    receivers: int
    entry: str
    same: bool = False


@dataclass(slots=True)
class Trimmed:
    """What came of trimming: entries removed and dropped, and a full group, its backlog and its limit."""

    removed: int
    dropped: int
    full: str
    backlog: int
    limit: int


def _publish_call(channel: str, event: Event) -> ScriptCall:
    own = () if event.id is None else (keys.published(channel, event.id),)
    once = () if event.id is None else (event.once_ms,)
    return ScriptCall(
        PUBLISH, (keys.stream(channel), keys.limits(channel), *own), (channel, event.body, *once)
    )


def publish_many(channel: str, events: Sequence[Event]) -> Flow[list[Published | StreamFull]]:
    """Publish events in order, in few round trips; returns what came of each.

    After one that is refused, those that follow it are refused as well, so that the order holds.
    """
    done: list[Published | StreamFull | None] = [None] * len(events)
    places = list(range(len(events)))
    while places:
        chunk = places[:CHUNK]
        repeatable = all(events[place].id is not None for place in chunk)
        calls = tuple(_publish_call(channel, events[place]) for place in chunk)
        for place, (receivers, entry) in zip(chunk, (yield Call(calls, repeatable=repeatable)), strict=True):
            if receivers != _CHECK:
                same = receivers == _SAME
                done[place] = Published(0 if same else receivers, entry.decode("ascii"), same)
        places = [place for place in places if done[place] is None]
        if places and places[0] in chunk:
            found = yield from trim(channel)
            if found.full:
                return [one or _refusal(channel, found) for one in done]
    return [one for one in done if one is not None]


def publish(channel: str, event: Event) -> Flow[Published]:
    """Publish one event.

    Raises:
        StreamFull: a group is as far behind as its limit allows, and does not drop.
    """
    [done] = yield from publish_many(channel, (event,))
    if isinstance(done, StreamFull):
        raise done
    return done


def _refusal(channel: str, found: Trimmed) -> StreamFull:
    return StreamFull(
        f"group {found.full!r} of channel {channel!r} is {found.backlog:,} events behind and its max_backlog "
        f"is {found.limit:,}: start workers for it, or app.forget_group({channel!r}, {found.full!r})"
    )


def trim(channel: str) -> Flow[Trimmed]:
    """Remove what every group has finished, and look at the limits."""
    call = ScriptCall(TRIM, (keys.stream(channel), keys.limits(channel)), (DROPPED,))
    [[removed, dropped, full, backlog, limit]] = yield Call((call,), repeatable=True)
    return Trimmed(removed, dropped, full.decode("utf-8"), backlog, limit)


# -- groups -------------------------------------------------------------------------------------------


def since_ms(ms: int) -> str:
    """Return the id after which a group begins that takes everything from a point in time on."""
    return f"{ms - 1}-{_LAST}" if ms > 0 else "0"


def make_group(
    channel: str,
    group: str,
    *,
    after: str = "$",
    seen: bool = False,
    max_backlog: int | None = None,
    drop: bool = False,
) -> Flow[tuple[bool, str]]:
    """Make a group unless it is there, and set its limit; returns whether it was made, and where it stands.

    Args:
        after: the id after which it begins: ``"0"`` takes all there is, ``"$"`` what comes from now on.
        seen: ``after`` is the last id that the group is known to have taken, and the group is gone. A stream
            that has not come so far is a new one: then the group takes all of it.
        max_backlog: how many events it may be behind, or None.
        drop: over that, its oldest are dropped and counted; else publishers are refused.
    """
    call = ScriptCall(
        GROUP,
        (keys.stream(channel), keys.limits(channel), keys.group_again(channel, group)),
        (
            group,
            after,
            int(seen),
            "" if max_backlog is None else max_backlog,
            "drop" if drop else "refuse",
        ),
    )
    [[made, at]] = yield Call((call,), repeatable=True)
    return bool(made), at.decode("ascii")


@dataclass(slots=True)
class GroupInfo:
    """How a group does.

    Attributes:
        lag: events that it has not claimed yet; counted up to 10,000 where the server does not know.
        pending: claimed, not settled.
        later: put off, to be tried again.
        dead: dead letters.
        dropped: events dropped because it was too far behind.
        at: the id it stands at.
        oldest: id of the oldest event in the log that it has not finished, or None; its ms are the time.
        limit: its max_backlog and what happens there, or None.
    """

    name: str
    lag: int
    pending: int
    later: int
    dead: int
    dropped: int
    consumers: int
    at: str
    oldest: str | None
    limit: str | None


def groups(channel: str) -> Flow[list[GroupInfo]]:
    """Tell how each group of a channel does."""
    call = ScriptCall(GROUPS, (keys.stream(channel), keys.limits(channel)), (COUNTED,))
    [[_, *found]] = yield Call((call,), repeatable=True)
    named: list[list[Any]] = [
        [field.decode("utf-8") if isinstance(field, bytes) else field for field in one] for one in found
    ]
    if not named:
        return []
    commands = tuple(
        command
        for name, *_ in named
        for command in (
            ("ZCARD", keys.group_delayed(channel, name)),
            ("XLEN", keys.group_again(channel, name)),
            ("XLEN", keys.group_dead(channel, name)),
        )
    )
    sizes = yield Call(commands, repeatable=True)
    infos = []
    for place, (name, lag, pending, consumers, at, oldest, limit, dropped) in enumerate(named):
        delayed, again, dead = sizes[3 * place : 3 * place + 3]
        infos.append(
            GroupInfo(
                name=name,
                lag=lag,
                pending=pending,
                later=delayed + again,
                dead=dead,
                dropped=int(dropped),
                consumers=consumers,
                at=at,
                oldest=oldest or None,
                limit=limit or None,
            )
        )
    return infos


def forget_group(channel: str, group: str) -> Flow[bool]:
    """Remove a group with all it has; returns whether it was there."""
    own = (keys.group_again, keys.group_delayed, keys.group_bodies, keys.group_dead, keys.group_counters,
           keys.group_paused)  # fmt: skip
    call = ScriptCall(
        FORGET,
        (keys.stream(channel), keys.limits(channel), *(key(channel, group) for key in own)),
        (group,),
    )
    replies = yield Call((call,), repeatable=True)
    return bool(replies[0])
