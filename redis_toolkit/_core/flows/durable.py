"""Durable groups of a channel: making them, trimming what they share, looking after them.

Rules:

- The stream is trimmed by what every group has finished, never by its length.
- What a group has to take again is in its own keys, as the stream is shared; `leases.py` has claims and all.
"""

from __future__ import annotations

from typing import Any

from redis_toolkit import keys
from redis_toolkit._core.flow import Call, Flow, ScriptCall
from redis_toolkit._core.flows.work import Source
from redis_toolkit._core.scripts import FORGET, GROUP, GROUPS, TRIM
from redis_toolkit.errors import GroupUnknown
from redis_toolkit.record import Record

__all__ = [
    "GroupInfo",
    "Trimmed",
    "check_group",
    "drop",
    "forget_group",
    "group_call",
    "group_source",
    "groups",
    "make_group",
    "since_ms",
    "trim",
]

DROPPED = 1000
"""How many entries one look at the limits may drop of a group that drops its oldest."""
COUNTED = 10_000
"""Up to which number the entries are counted that a group is behind, where the server cannot tell."""
_LAST = 2**64 - 1


def group_source(channel: str, group: str) -> Source:
    """Return the keys of a durable group: what it takes again goes before the log."""
    prefix = keys.group_streams(channel, group)
    own = keys.shown_channel(channel)
    return Source(
        name=f"{own!r}, group {group!r}" if own == channel else f"{own!r}, acknowledged messages",
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


class Trimmed(Record):
    """What came of trimming: entries removed and dropped, and a full group, its backlog and its limit."""

    __slots__ = ("backlog", "dropped", "full", "limit", "removed")

    def __init__(self, removed: int, dropped: int, full: str, backlog: int, limit: int) -> None:
        self.removed = removed
        self.dropped = dropped
        self.full = full
        self.backlog = backlog
        self.limit = limit


def trim(channel: str) -> Flow[Trimmed]:
    """Remove what every group has finished, and look at the limits."""
    call = ScriptCall(TRIM, (keys.stream(channel), keys.limits(channel)), (DROPPED,))
    [[removed, dropped, full, backlog, limit]] = yield Call((call,), repeatable=True)
    return Trimmed(removed, dropped, full.decode("utf-8", "backslashreplace"), backlog, limit)


# -- groups -------------------------------------------------------------------------------------------


def since_ms(ms: int) -> str:
    """Return the id after which a group begins that takes everything from a point in time on."""
    return f"{ms - 1}-{_LAST}" if ms > 0 else "0"


def group_call(
    channel: str,
    group: str,
    *,
    after: str = "$",
    seen: bool = False,
    max_backlog: int | None = None,
    drop: bool = False,
    keep_ms: int = 0,
) -> ScriptCall:
    """Return the script call that makes a group unless it is there, and sets its limit.

    Args:
        channel: exact name.
        group: the group.
        after: the id after which it begins: ``"0"`` takes all there is, ``"$"`` what comes from now on.
        seen: ``after`` is the last id that the group is known to have taken, and the group is gone. A stream
            that has not come so far is a new one: then the group takes all of it.
        max_backlog: how many events it may be behind, or None.
        drop: over that, its oldest are dropped and counted; else publishers are refused.
        keep_ms: for how long events are kept for groups that are made later.
    """
    return ScriptCall(
        GROUP,
        (keys.stream(channel), keys.limits(channel), keys.group_again(channel, group)),
        (
            group,
            after,
            int(seen),
            "" if max_backlog is None else max_backlog,
            "drop" if drop else "refuse",
            keep_ms,
        ),
    )


def make_group(call: ScriptCall) -> Flow[tuple[bool, str]]:
    """Carry out a `group_call`; returns whether the group was made, and the id where it stands."""
    [[made, at]] = yield Call((call,), repeatable=True)
    return bool(made), at.decode("ascii")


class GroupInfo(Record):
    """How a group does.

    Attributes:
        lag: events that it has not claimed yet; counted up to 10,000 where the server does not know.
        pending: claimed, not settled.
        later: put off, to be tried again.
        dead: dead letters.
        dropped: events dropped because it was too far behind.
        consumers: worker processes that serve it, or did so until a few minutes ago.
        at: the id it stands at.
        oldest: id of the oldest event in the log that it has not finished, or None; its ms are the time.
        limit: its max_backlog and what happens there, or None.
    """

    __slots__ = ("at", "consumers", "dead", "dropped", "lag", "later", "limit", "name", "oldest", "pending")

    def __init__(
        self,
        name: str,
        lag: int,
        pending: int,
        later: int,
        dead: int,
        dropped: int,
        consumers: int,
        at: str,
        oldest: str | None,
        limit: str | None,
    ) -> None:
        self.name = name
        self.lag = lag
        self.pending = pending
        self.later = later
        self.dead = dead
        self.dropped = dropped
        self.consumers = consumers
        self.at = at
        self.oldest = oldest
        self.limit = limit

    @property
    def oldest_at(self) -> float | None:
        """Wall-clock seconds of the server when that oldest event was published, or None."""
        return None if self.oldest is None else int(self.oldest.partition("-")[0]) / 1000


def groups(channel: str) -> Flow[list[GroupInfo]]:
    """Tell how each group of a channel does."""
    call = ScriptCall(GROUPS, (keys.stream(channel), keys.limits(channel)), (COUNTED,))
    [[_, *found]] = yield Call((call,), repeatable=True)
    named: list[list[Any]] = [
        [field.decode("utf-8", "backslashreplace") if isinstance(field, bytes) else field for field in one]
        for one in found
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


def check_group(channel: str, group: str) -> Flow[None]:
    """See that a channel has a group.

    Raises:
        GroupUnknown: it has not; says which it has.
    """
    call = ScriptCall(GROUPS, (keys.stream(channel), keys.limits(channel)), (1,))
    [[_, *found]] = yield Call((call,), repeatable=True)
    names = [one[0].decode("utf-8", "backslashreplace") for one in found]
    own = keys.shown_channel(channel)
    if group in names:
        return
    if own != channel:
        raise GroupUnknown(
            f"nothing was published on {own!r} to be acknowledged, and nobody subscribed to it"
        )
    if names:
        raise GroupUnknown(f"channel {own!r} has no group {group!r}: it has {', '.join(map(repr, names))}")
    raise GroupUnknown(
        f"channel {own!r} has no group {group!r}, nor any other: the first that serves a group makes it"
    )


def drop(channel: str, group: str, entry: str) -> Flow[None]:
    """Take one event out of a log that has only this group, whether the group has it already or not."""
    stream = keys.stream(channel)
    yield Call(
        (
            ("XACK", stream, group, entry),
            ("XDEL", stream, entry),
            ("ZREM", keys.group_delayed(channel, group), entry),
            ("HDEL", keys.group_bodies(channel, group), entry),
        ),
        repeatable=True,
    )


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
