"""Notifications: sent to one user or to everybody, read by each user, and marked as read.

Rules:

- What a user has not read is a stream of the user's own; to mark it as read is to delete it there.
- A broadcast is one entry of one stream, however many users there are. What a user has read of them is a
  position, and the ids after it that were read before others.
- The two lie in different slots of a cluster: they are read one after the other, and merged by time.
- The id of a broadcast is that of its entry with a ``b`` in front: both streams may have entries of one id.
- Reading and marking may be repeated; sending may be if it carries a dedupe id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import total_ordering
from typing import Any

from redis_toolkit import keys
from redis_toolkit._core.flow import Arg, Call, Flow, ScriptCall
from redis_toolkit._core.scripts import BROADCASTS, MARK_READ, NOTIFICATIONS, NOTIFY

__all__ = [
    "ALL",
    "BROADCAST",
    "START",
    "Kept",
    "Limits",
    "NoticeId",
    "Notice",
    "Position",
    "Unread",
    "channel_of",
    "dropped",
    "mark_all",
    "mark_read",
    "position",
    "send",
    "unread",
]

ALL = "notifications:all"
"""Channel of all notifications, for whoever watches them."""
BROADCAST = "notifications:broadcast"
"""Channel that the clients of all users hear."""
ONCE_MS = 24 * 3600 * 1000
"""How long the id that a sender has chosen counts."""
_ID = re.compile(r"(b?)([0-9]{1,15})-([0-9]{1,15})", re.ASCII)


def channel_of(user: str) -> str:
    """Return the channel of one user's notifications."""
    return f"notifications:user:{user}"


@total_ordering
@dataclass(frozen=True, slots=True)
class NoticeId:
    """The id of a notification; ids are ordered by time.

    Attributes:
        ms: server ms at which it was sent.
        number: which of those of that ms.
        broadcast: whether it is a broadcast's.
    """

    ms: int
    number: int = 0
    broadcast: bool = False

    @classmethod
    def read(cls, text: object) -> NoticeId | None:
        """Return the id that a text is; None for any other value."""
        found = _ID.fullmatch(text) if isinstance(text, str) else None
        return cls(int(found[2]), int(found[3]), bool(found[1])) if found else None

    @property
    def entry(self) -> str:
        """The id of its entry."""
        return f"{self.ms}-{self.number}"

    def __str__(self) -> str:
        return f"b{self.entry}" if self.broadcast else self.entry

    def __lt__(self, other: NoticeId) -> bool:
        mine, theirs = (self.ms, self.number), (other.ms, other.number)
        return (*mine, self.broadcast) < (*theirs, other.broadcast)


@dataclass(frozen=True, slots=True)
class Position:
    """How far somebody has come among a user's notifications and among the broadcasts."""

    own: NoticeId = NoticeId(0)
    broadcast: NoticeId = NoticeId(0, broadcast=True)

    def moved(self, to: NoticeId) -> Position:
        """Return the position after one more has been seen."""
        if to.broadcast:
            return Position(self.own, max(self.broadcast, to))
        return Position(max(self.own, to), self.broadcast)

    def is_past(self, id: NoticeId) -> bool:
        """Return whether a notification lies before it."""
        return id <= (self.broadcast if id.broadcast else self.own)

    @classmethod
    def after(cls, id: NoticeId) -> Position:
        """Return the position of who has seen all up to one of either kind."""
        own = id if not id.broadcast else NoticeId(id.ms, id.number)
        other = NoticeId(id.ms, id.number, broadcast=True) if id.broadcast else _before(id)
        return cls(own, other)


START = Position()
"""Before all that is kept."""


def _before(id: NoticeId) -> NoticeId:
    """Return the id before which a broadcast comes with one of a user: it comes after it at the same time."""
    if id.number:
        return NoticeId(id.ms, id.number - 1, broadcast=True)
    return NoticeId(max(id.ms - 1, 0), 10**15 - 1 if id.ms else 0, broadcast=True)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many are kept, of a user and of the broadcasts, and for how long."""

    keep: int
    age_ms: int


@dataclass(frozen=True, slots=True)
class Notice:
    """One notification as it is sent.

    Attributes:
        body: a JSON object.
        user: who gets it, or None: everybody.
        user_json: that, as JSON.
        id: what its sender calls it; another one with that id is not sent.
        timed: whether the server's time is added.
    """

    body: bytes
    user: str | None
    user_json: bytes
    id: str | None = None
    timed: bool = True


@dataclass(frozen=True, slots=True)
class Kept:
    """One notification as it is kept."""

    id: NoticeId
    body: bytes


@dataclass(slots=True)
class Unread:
    """What somebody has not read.

    Attributes:
        items: some of it, in order.
        count: how many there are in all, as far as they were counted.
        more: whether there are more after these.
        lost: reasons why some of what came after the position may be missing.
        since: the position, moved to where what is kept begins.
    """

    items: list[Kept]
    count: int
    more: bool = False
    lost: list[str] = field(default_factory=list)
    since: Position = Position()


def send(notice: Notice, limits: Limits) -> Flow[NoticeId]:
    """Keep one notification as unread and publish it (`notify.lua`); returns its id, or the first one's."""
    user, chosen = notice.user, notice.id
    if user is None:
        names = [keys.broadcasts(), keys.broadcast_dropped()]
        channel, once = BROADCAST, None if chosen is None else keys.broadcast_id(chosen)
    else:
        names = [keys.notifications(user), keys.notification_dropped(user)]
        channel, once = channel_of(user), None if chosen is None else keys.notification_id(user, chosen)
    names += [] if once is None else [once]
    args = (channel, notice.body, "b" if user is None else "", int(notice.timed), ALL, notice.user_json)
    call = ScriptCall(NOTIFY, tuple(names), (*args, limits.keep, limits.age_ms, ONCE_MS))
    [[_, entry]] = yield Call((call,), repeatable=chosen is not None)
    return _id(entry, broadcast=user is None)


def unread(
    user: str, limits: Limits, *, limit: int, after: Position = START, count: bool = False
) -> Flow[Unread]:
    """Return what a user has not read after a position, oldest first (two scripts, one after the other).

    Args:
        user: whose.
        limits: older ones are left out.
        limit: how many at most.
        after: the position.
        count: whether all of them are counted.
    """
    mine = yield from _own(user, limits, limit, after)
    oldest = NoticeId(max(mine.now - limits.age_ms, 0), broadcast=True)
    # Each is asked for one more than is wanted, to know whether there are more.
    since = max(after.broadcast, mine.read_to, oldest)
    theirs = yield from _broadcasts(since, limit + 1 if limit else 0, mine.read, count=count)
    items = sorted(mine.items + theirs.items, key=lambda item: item.id)
    own, lost = _begins(after.own, mine.exists, mine.upto, oldest.ms, "notifications")
    broadcast, lost_too = _begins(after.broadcast, theirs.exists, theirs.upto, oldest.ms, "broadcasts")
    since_then = Position(own, broadcast)
    return Unread(items[:limit], mine.count + theirs.count, len(items) > limit, lost + lost_too, since_then)


def position(user: str) -> Flow[Position]:
    """Return where the last notifications are, so that what comes later is after it."""
    lasts = yield Call(
        (
            ("XREVRANGE", keys.notifications(user), "+", "-", "COUNT", 1),
            ("HGET", keys.notification_dropped(user), "upto"),
            ("XREVRANGE", keys.broadcasts(), "+", "-", "COUNT", 1),
            ("HGET", keys.broadcast_dropped(), "upto"),
        ),
        repeatable=True,
    )
    own = [entries[0][0] for entries in lasts[:1] if entries] + [lasts[1]]
    broadcast = [entries[0][0] for entries in lasts[2:3] if entries] + [lasts[3]]
    return Position(
        max(_id(entry or b"0-0") for entry in own),
        max(_id(entry or b"0-0", broadcast=True) for entry in broadcast),
    )


def mark_read(user: str, ids: Sequence[NoticeId], event: bytes, limits: Limits) -> Flow[int]:
    """Mark some as read, if any, and tell the user's devices; returns how many were unread."""
    if not ids:
        return 0
    own = [one for one in ids if not one.broadcast]
    broadcasts = [one for one in ids if one.broadcast]
    if not broadcasts:
        return (yield from _mark(user, limits, event, own=own))
    mine = yield from _own(user, limits, 0, START)
    since = max(mine.read_to, NoticeId(max(mine.now - limits.age_ms, 0), broadcast=True))
    theirs = yield from _broadcasts(since, 0, mine.read | {one.entry for one in broadcasts}, count=True)
    known = [one for one in broadcasts if one.entry in theirs.known]  # others would be stored for nothing
    beyond = [one for one in known if one > theirs.read_to]
    upto = theirs.read_to if theirs.read_to > since else None
    gone = yield from _mark(user, limits, event, own=own, broadcasts=beyond, upto=upto)
    return gone + sum(one.entry not in mine.read for one in known)


def mark_all(user: str, event: bytes, limits: Limits) -> Flow[int]:
    """Mark all that there are now as read, and tell the user's devices; returns how many were unread."""
    mine = yield from _own(user, limits, 0, START)
    since = max(mine.read_to, NoticeId(max(mine.now - limits.age_ms, 0), broadcast=True))
    theirs = yield from _broadcasts(since, 0, mine.read, count=True)
    last = (yield from position(user)).own
    below = f"{last.ms}-{last.number + 1}"
    upto = theirs.last if theirs.last > since else None
    yield from _mark(user, limits, event, below=below, upto=upto)
    return mine.count + theirs.count


def dropped(user: str | None) -> Flow[int]:
    """Return how many unread notifications of a user, or broadcasts, have made room for later ones."""
    key = keys.broadcast_dropped() if user is None else keys.notification_dropped(user)
    [count] = yield Call((("HGET", key, "dropped"),), repeatable=True)
    return int(count or 0)


@dataclass(slots=True)
class _Own:
    """What is stored of one user."""

    now: int
    exists: bool
    items: list[Kept]
    count: int
    upto: NoticeId
    read_to: NoticeId
    read: set[str]


@dataclass(slots=True)
class _Broadcasts:
    """What is stored of the broadcasts, as one user sees it."""

    exists: bool
    items: list[Kept]
    count: int
    read_to: NoticeId
    last: NoticeId
    upto: NoticeId
    known: set[str]


def _own(user: str, limits: Limits, limit: int, after: Position) -> Flow[_Own]:
    names = (keys.notifications(user), keys.notification_dropped(user), keys.notification_read(user))
    call = ScriptCall(NOTIFICATIONS, names, (after.own.entry, limit + 1 if limit else 0, limits.age_ms))
    [reply] = yield Call((call,), repeatable=True)
    now, exists, found, count, _, upto, flat = reply
    read = {name.decode("ascii"): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
    read_to = _id(read.pop("upto", b"0-0"), broadcast=True)
    return _Own(int(now), bool(exists), _kept(found), count, _id(upto or b"0-0"), read_to, set(read))


def _broadcasts(since: NoticeId, limit: int, read: set[str], *, count: bool) -> Flow[_Broadcasts]:
    names = (keys.broadcasts(), keys.broadcast_dropped())
    call = ScriptCall(BROADCASTS, names, (since.entry, limit, int(count), *sorted(read)))
    [reply] = yield Call((call,), repeatable=True)
    exists, found, unread, read_to, last, _, upto, known = reply
    read_to, last, upto = (_id(entry or b"0-0", broadcast=True) for entry in (read_to, last, upto))
    there = {entry.decode("ascii") for entry in known}
    return _Broadcasts(bool(exists), _kept(found, broadcast=True), unread, read_to, last, upto, there)


def _mark(
    user: str,
    limits: Limits,
    event: bytes,
    *,
    own: Sequence[NoticeId] = (),
    broadcasts: Sequence[NoticeId] = (),
    upto: NoticeId | None = None,
    below: str = "",
) -> Flow[int]:
    names = (keys.notifications(user), keys.notification_read(user))
    head = (keys.notification_events(user), event, limits.age_ms, upto.entry if upto else "", below)
    args: tuple[Arg, ...] = (*head, len(own), *(one.entry for one in own), *(one.entry for one in broadcasts))
    [gone] = yield Call((ScriptCall(MARK_READ, names, args),), repeatable=True)
    return int(gone)


def _begins(
    seen: NoticeId, exists: bool, upto: NoticeId, oldest_ms: int, what: str
) -> tuple[NoticeId, list[str]]:
    """Return after which id nothing is missing, and why something before it may be."""
    if upto > seen:
        return upto, [f"{what} were dropped: more came than are kept, or they were too old"]
    if seen.ms > oldest_ms and not exists:
        return NoticeId(0, broadcast=seen.broadcast), [f"the server has lost its {what}"]
    return seen, []


def _kept(found: list[Any], *, broadcast: bool = False) -> list[Kept]:
    return [Kept(_id(entry, broadcast=broadcast), body) for entry, body in found]


def _id(entry: bytes, *, broadcast: bool = False) -> NoticeId:
    ms, _, number = entry.decode("ascii").partition("-")
    return NoticeId(int(ms), int(number or 0), broadcast)
