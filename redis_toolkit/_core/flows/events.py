"""Events: published for those who listen now, and appended for the durable groups of their channel.

Rules:

- A publish is one script: it appends only where a group has made the stream, then publishes.
- When a group may be as far behind as it is allowed to be, the script says so and does nothing; then the
  stream is trimmed of what all groups have finished, and the publish is tried again, or refused.
- A publish is repeated after an unknown outcome only if it carries a dedupe id: nothing in a bare payload
  would tell a subscriber that it is the second copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis_toolkit import keys
from redis_toolkit._core.flow import Call, Command, Flow, ScriptCall
from redis_toolkit._core.flows.durable import Trimmed, group_call, trim
from redis_toolkit._core.scripts import PUBLISH
from redis_toolkit.errors import StreamFull, counted
from redis_toolkit.record import Record

__all__ = ["Event", "Published", "announcement", "ping", "publish", "publish_kept", "publish_many"]

CHUNK = 500
"""Events per round trip: enough to hide the round trip, few enough to keep buffers small."""
_SAME, _CHECK = -1, -2


def announcement(channel: str, body: bytes) -> Command:
    """Return the command that publishes one body to those who listen now, for a packet with others."""
    return ("PUBLISH", channel, body)


class Event(Record):
    """One event to publish; with ``once_ms``, another one with its id adds nothing for that long."""

    __slots__ = ("body", "id", "once_ms")

    def __init__(self, body: bytes, id: str | None = None, once_ms: int = 24 * 3600 * 1000) -> None:
        self.body = body
        self.id = id
        self.once_ms = once_ms


class Published(Record):
    """What came of it: live receivers, and the entry for the groups or "" when there are none.

    ``same``: it was published before; then nothing was sent, and ``entry`` is the first one's.
    """

    __slots__ = ("entry", "receivers", "same")

    def __init__(self, receivers: int, entry: str, same: bool = False) -> None:
        self.receivers = receivers
        self.entry = entry
        self.same = same


def publish(channel: str, event: Event) -> Flow[Published]:
    """Publish one event (``PUBLISH``, and ``XADD`` where a group has made the stream).

    Raises:
        StreamFull: a group is as far behind as its limit allows, and does not drop.
    """
    call, repeatable = _publish_call(channel, channel, event), event.id is not None
    while True:
        [reply] = yield Call((call,), repeatable=repeatable)
        if reply[0] != _CHECK:
            return _published(reply)
        found = yield from trim(channel)
        if found.full:
            raise _refusal(channel, found)


def publish_kept(channel: str, event: Event, log: str, group: str) -> Flow[Published]:
    """Publish one event that a group has under another name, made at its beginning if it is not there."""
    made, call = group_call(log, group, after="0"), _publish_call(channel, log, event)
    replies = yield Call((made, call), repeatable=event.id is not None)
    return _published(replies[1])


def publish_many(channel: str, events: Sequence[Event]) -> Flow[list[Published | StreamFull]]:
    """Publish events in order, in few round trips; returns what came of each.

    After one that is refused, those that follow it are refused as well, so that the order holds.
    """
    done: list[Published | StreamFull | None] = [None] * len(events)
    places = list(range(len(events)))
    while places:
        chunk, places = places[:CHUNK], places[CHUNK:]
        repeatable = all(events[place].id is not None for place in chunk)
        calls = tuple(_publish_call(channel, channel, events[place]) for place in chunk)
        for place, reply in zip(chunk, (yield Call(calls, repeatable=repeatable)), strict=True):
            if reply[0] != _CHECK:
                done[place] = _published(reply)
        left = [place for place in chunk if done[place] is None]
        if left:
            found = yield from trim(channel)
            if found.full:
                return [one or _refusal(channel, found) for one in done]
            places = left + places
    return [one for one in done if one is not None]


def _publish_call(channel: str, log: str, event: Event) -> ScriptCall:
    stream, limits = keys.stream(log), keys.limits(log)
    if event.id is None:
        return ScriptCall(PUBLISH, (stream, limits), (channel, event.body))
    once = keys.published(log, event.id)
    return ScriptCall(PUBLISH, (stream, limits, once), (channel, event.body, event.once_ms))


def _published(reply: list[Any]) -> Published:
    receivers, entry = reply
    same = receivers == _SAME
    return Published(0 if same else receivers, entry.decode("ascii"), same)


def _refusal(channel: str, found: Trimmed) -> StreamFull:
    behind = counted(found.backlog, "event")
    return StreamFull(
        f"group {found.full!r} of channel {channel!r} is {behind} behind and its max_backlog "
        f"is {found.limit:,}: start workers for it, or app.forget_group({channel!r}, {found.full!r})"
    )


def ping() -> Flow[None]:
    """Ask for a sign of life (``PING``)."""
    yield Call((("PING",),), repeatable=True)
