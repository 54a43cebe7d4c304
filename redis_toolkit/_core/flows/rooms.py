"""Rooms: what is said in them, who is there, and what was said before.

Rules:

- The log of a room gives all its messages their ids, direct ones too: ids only grow, and tell the order.
- A user is in a room while one of the user's connections says so at least once per lease. Whose time has run
  out is taken out by whoever looks after the room, and announced once.
- A join, a beat and a leave may be repeated. A message is repeated only if its sender gave it an id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis_toolkit import keys
from redis_toolkit._core.flow import Arg, Call, Command, Flow, ScriptCall
from redis_toolkit._core.scripts import (
    ROOM_DIRECT,
    ROOM_HERE,
    ROOM_LEAVE,
    ROOM_READ,
    ROOM_SEEN,
    ROOM_SEND,
    ROOM_SWEEP,
    ROOM_TYPING,
)

__all__ = [
    "Connected",
    "Entry",
    "Here",
    "Kept",
    "Page",
    "UserConnections",
    "announce",
    "beat",
    "history",
    "join",
    "leave",
    "members",
    "metadata",
    "read",
    "rooms",
    "send",
    "send_direct",
    "set_metadata",
    "sweep",
]

CHUNK = 100
"""Rooms per round trip."""
FEW = 500
"""Users per round trip, and connections per script."""
SWEPT = 100
"""How many lost users one sweep announces at most."""
ONCE_MS = 24 * 3600 * 1000
"""How long another message with the same id of its sender is not sent."""
FORGET_MS = 3600 * 1000
"""How long it is known of a room that it had members."""

LAST_ID = f"{2**64 - 1}-{2**64 - 1}"
"""The last id that there can be."""

Entry = tuple[bytes, bytes]
"""Id and body of a message in a log."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a room: how many messages, and for how many ms or 0 for any time."""

    count: int
    age_ms: int


@dataclass(slots=True)
class Connected:
    """One connection of a user to a room; ``since_ms`` is None until the server has said it."""

    user: str
    connection: str
    metadata: bytes
    since_ms: int | None = None


@dataclass(slots=True)
class Here:
    """What a room said to those who are in it.

    Attributes:
        now: the server's ms.
        lapsed: users whose time has run out.
        last: the last id of the log, or "".
        announced: for each connection the entry that announces its user, or "".
    """

    now: int
    lapsed: int
    last: str
    announced: list[str]


@dataclass(slots=True)
class Page:
    """What a member has not seen yet.

    Attributes:
        first: the first id of the log, or "".
        last: the last id that the log has ever had, or "".
        entries: the messages, in order.
        complete: whether these are all.
    """

    first: str
    last: str
    entries: list[Entry]
    complete: bool


@dataclass(slots=True)
class UserConnections:
    """A user and the connections that live: since when (ms), and metadata, the newest last."""

    user: str
    connections: list[tuple[int, bytes]]


# -- saying ------------------------------------------------------------------------------------------


def send(room: str, user: str, body: bytes, kept: Kept, client_id: str | None) -> Flow[str]:
    """Send a message to all of a room; returns its id."""
    once = () if client_id is None else (keys.room_sent(room, user, client_id),)
    call = ScriptCall(
        ROOM_SEND,
        (keys.room_log(room), *once),
        (keys.room_channel(room), body, kept.count, kept.age_ms, ONCE_MS),
    )
    [entry] = yield Call((call,), repeatable=client_id is not None)
    return str(entry.decode("ascii"))


def send_direct(room: str, user: str, to: str, body: bytes, kept: Kept, client_id: str | None) -> Flow[str]:
    """Send a message to one user of a room; returns its id."""
    once = () if client_id is None else (keys.room_sent(room, user, client_id),)
    call = ScriptCall(
        ROOM_DIRECT,
        (keys.room_log(room), keys.room_direct(room, to), keys.room_direct(room, user), *once),
        (
            keys.room_user_channel(room, to),
            keys.room_user_channel(room, user),
            body,
            kept.count,
            kept.age_ms,
            ONCE_MS,
        ),
    )
    [entry] = yield Call((call,), repeatable=client_id is not None)
    return str(entry.decode("ascii"))


def announce(room: str, body: bytes) -> Flow[None]:
    """Say something that is not kept."""
    call = ScriptCall(ROOM_TYPING, (keys.room_log(room),), (keys.room_channel(room), body))
    yield Call((call,), repeatable=True)


# -- being there -------------------------------------------------------------------------------------


def _here_call(room: str, kept: Kept, lease_ms: int, some: Sequence[Connected]) -> ScriptCall:
    connections: list[Arg] = []
    for one in some:
        since: Arg = "" if one.since_ms is None else one.since_ms
        connections += (one.user, one.connection, since, one.metadata)
    return ScriptCall(
        ROOM_HERE,
        (keys.room_log(room), keys.room_members(room), keys.room_users(room)),
        (keys.room_channel(room), lease_ms, FORGET_MS, kept.count, kept.age_ms, *connections),
    )


def _sweep_call(room: str, kept: Kept, margin_ms: int) -> ScriptCall:
    return ScriptCall(
        ROOM_SWEEP,
        (keys.room_log(room), keys.room_members(room), keys.room_users(room)),
        (keys.room_channel(room), kept.count, kept.age_ms, margin_ms, SWEPT),
    )


def _seen_calls(names: Sequence[str]) -> list[ScriptCall]:
    return [
        ScriptCall(ROOM_SEEN, (keys.rooms(),), (FORGET_MS, *names[start : start + FEW]))
        for start in range(0, len(names), FEW)
    ]


def _read_here(reply: list[Any]) -> Here:
    now, lapsed, last, *announced = reply
    return Here(int(now), lapsed, last.decode("ascii"), [one.decode("ascii") for one in announced])


def join(
    room: str, kept: Kept, lease_ms: int, one: Connected, history: int
) -> Flow[tuple[Here, list[Entry]]]:
    """Enter a room; returns also the last messages before that, in order.

    Who was lost long ago is taken out first. Others may just not have been able to say that they are there.
    """
    replies = yield Call(
        (
            _sweep_call(room, kept, lease_ms),
            _here_call(room, kept, lease_ms, [one]),
            *_seen_calls([room]),
        ),
        repeatable=True,
    )
    here = _read_here(replies[1])
    if not history or not here.last:
        return here, []
    end = here.last
    logs = (keys.room_log(room), keys.room_direct(room, one.user))
    found = yield Call(
        tuple(("XREVRANGE", log, end, "-", "COUNT", history + 1) for log in logs), repeatable=True
    )
    own = here.announced[0].encode("ascii")
    entries = [one for one in _merged(*map(_entries, found)) if one[0] != own]
    return here, entries[-history:]


def beat(rooms: Sequence[tuple[str, Kept, Sequence[Connected]]], lease_ms: int) -> Flow[list[Here]]:
    """Say that connections are still there, in any number of rooms; returns what each room said."""
    done: list[Here] = []
    for start in range(0, len(rooms), CHUNK):
        chunk = rooms[start : start + CHUNK]
        calls, counts = [], []
        for room, kept, some in chunk:
            parts = [some[begin : begin + FEW] for begin in range(0, len(some), FEW)]
            calls += [_here_call(room, kept, lease_ms, part) for part in parts]
            counts.append(len(parts))
        names = [room for room, _, _ in chunk]
        replies = yield Call((*calls, *_seen_calls(names)), repeatable=True)
        heard = map(_read_here, replies)
        for count in counts:
            first = next(heard)
            for _ in range(count - 1):
                more = next(heard)
                first.announced += more.announced
                first.lapsed, first.last = more.lapsed, more.last
            done.append(first)
    return done


def sweep(rooms: Sequence[tuple[str, Kept]], margin_ms: int = 0) -> Flow[int]:
    """Take out whose time has run out, and announce it; returns how many."""
    swept = 0
    for start in range(0, len(rooms), CHUNK):
        calls = tuple(_sweep_call(room, kept, margin_ms) for room, kept in rooms[start : start + CHUNK])
        swept += sum((yield Call(calls, repeatable=True)))
    return swept


def leave(rooms: Sequence[tuple[str, Kept, Sequence[Connected]]]) -> Flow[None]:
    """Take connections out of rooms."""
    calls = []
    for room, kept, some in rooms:
        for start in range(0, len(some), FEW):
            parts = [part for one in some[start : start + FEW] for part in (one.user, one.connection)]
            calls.append(
                ScriptCall(
                    ROOM_LEAVE,
                    (keys.room_log(room), keys.room_members(room), keys.room_users(room)),
                    (keys.room_channel(room), kept.count, kept.age_ms, *parts),
                )
            )
    for start in range(0, len(calls), CHUNK):
        yield Call(tuple(calls[start : start + CHUNK]), repeatable=True)


# -- looking -----------------------------------------------------------------------------------------


def read(room: str, user: str, after: str, count: int) -> Flow[Page]:
    """Read what a member has not seen."""
    call = ScriptCall(ROOM_READ, (keys.room_log(room), keys.room_direct(room, user)), (after, count))
    [[first, last, log, direct]] = yield Call((call,), repeatable=True)
    full = [_entries(one) for one in (log, direct) if len(one) == count]
    entries = _merged(_entries(log), _entries(direct))
    if full:  # what comes behind the end of a page that is full may not be in the other one
        end = min(_order(one[-1]) for one in full)
        entries = [one for one in entries if _order(one) <= end]
    return Page(first.decode("ascii"), last.decode("ascii"), entries, complete=not full)


def history(key: str, limit: int, before: str | None, after: str | None) -> Flow[list[Entry]]:
    """Read a log: the last messages (before an id), or the first ones after an id; in order."""
    if before == "0-0" or after == LAST_ID:
        return []  # the server refuses to look beyond
    start, end = "-" if after is None else f"({after}", "+" if before is None else f"({before}"
    command: Command = ("XRANGE", key, start, end, "COUNT", limit)
    if after is None:
        command = ("XREVRANGE", key, end, start, "COUNT", limit)
    [found] = yield Call((command,), repeatable=True)
    return sorted(_entries(found), key=_order)


def members(room: str) -> Flow[list[UserConnections]]:
    """Tell who is in a room."""
    [time, flat] = yield Call(
        (("TIME",), ("ZRANGE", keys.room_members(room), 0, -1, "WITHSCORES")), repeatable=True
    )
    now = _ms(time)
    users = _texts(user for user, expiry in zip(flat[::2], flat[1::2], strict=True) if float(expiry) > now)
    found = []
    for start in range(0, len(users), FEW):
        some = users[start : start + FEW]
        replies = yield Call(tuple(("HVALS", keys.room_user(room, user)) for user in some), repeatable=True)
        for user, values in zip(some, replies, strict=True):
            known = [_connection(value) for value in values]
            lives = sorted((since, metadata) for expiry, since, metadata in known if expiry > now)
            found.append(UserConnections(user, lives))
    return found


def rooms() -> Flow[list[tuple[str, int]]]:
    """Tell which rooms have members, and how many."""
    [time, names] = yield Call((("TIME",), ("ZRANGE", keys.rooms(), 0, -1)), repeatable=True)
    now, known, found = _ms(time), _texts(names), []
    for start in range(0, len(known), FEW):
        some = known[start : start + FEW]
        counts = yield Call(
            tuple(("ZCOUNT", keys.room_members(name), f"({now}", "+inf") for name in some), repeatable=True
        )
        found += [(name, count) for name, count in zip(some, counts, strict=True) if count]
    return sorted(found)


def metadata(room: str) -> Flow[dict[str, bytes]]:
    """Tell what is said about a room: JSON by name."""
    [flat] = yield Call((("HGETALL", keys.room_meta(room)),), repeatable=True)
    return {
        name.decode("utf-8", "backslashreplace"): value
        for name, value in zip(flat[::2], flat[1::2], strict=True)
    }


def set_metadata(room: str, fields: dict[str, bytes], gone: Iterable[str]) -> Flow[None]:
    """Say something about a room, and take something back."""
    key = keys.room_meta(room)
    commands: list[Command] = []
    removed = list(gone)
    if removed:
        commands.append(("HDEL", key, *removed))
    if fields:
        commands.append(("HSET", key, *[part for pair in fields.items() for part in pair]))
    if commands:
        yield Call(tuple(commands), repeatable=True)


def _entries(found: list[Any]) -> list[Entry]:
    """Return the entries that have a body; what somebody else has put there is left out."""
    entries = []
    for entry, flat in found:
        fields = dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}
        entries.append((entry, fields.get(b"b", b"")))
    return entries


def _merged(one: list[Entry], other: list[Entry]) -> list[Entry]:
    return sorted(one + other, key=_order)


def _order(entry: Entry) -> tuple[int, int]:
    ms, _, number = entry[0].partition(b"-")
    return int(ms), int(number)


def _texts(names: Iterable[bytes]) -> list[str]:
    """Return names; what is no text was put there by somebody else."""
    found = []
    for name in names:
        with suppress(UnicodeDecodeError):
            found.append(name.decode("utf-8"))
    return found


def _ms(time: list[bytes]) -> int:
    return int(time[0]) * 1000 + int(time[1]) // 1000


def _connection(value: bytes) -> tuple[int, int, bytes]:
    """Return expiry, since when, and metadata of a connection; what is none is taken for one that lapsed."""
    parts = value.split(b" ", 2)
    if len(parts) != 3 or not (parts[0].isdigit() and parts[1].isdigit()):
        return 0, 0, b"{}"
    return int(parts[0]), int(parts[1]), parts[2]
