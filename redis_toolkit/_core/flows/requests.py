"""Requests, the caller's side: one outcome for each call.

Rules:

- A request goes to the list of its exact channel. Only when that is refused are the globs asked for
  that answer requests, and the best match tried: the longest literal prefix first.
- It is sent once. ``retries`` repeats a call whose outcome is a timeout or unknown, with the same id
  and a higher ``attempt``, so that a handler can tell.
- A reply that carries another id is not this call's answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis_toolkit import keys
from redis_toolkit._core.flow import (
    REFUSED,
    Call,
    Deadline,
    Exchange,
    ExchangeMany,
    Flow,
    Outgoing,
    Refused,
    ScriptCall,
)
from redis_toolkit._core.scripts import PATTERNS, REQUEST
from redis_toolkit.errors import DecodeError, NoResponders, OutcomeUnknown, RedisToolkitError, RequestTimeout
from redis_toolkit.record import Record
from redis_toolkit.wire import Reply, UnreadableEnvelope, Wire

__all__ = ["MARKER", "OutgoingRequest", "request", "request_many"]

MARKER = "!"
"""What a refused request leaves in its reply list, followed by its id: no envelope starts with it."""


@dataclass(slots=True, eq=False, repr=False)
class OutgoingRequest(Record):
    """What a caller asks: where, what, and how.

    Attributes:
        channel: exact name of the channel.
        id: a new id, never used before.
        data: the payload.
        headers: text by name, or None.
        spread: whether ``data`` is a map of the handler's parameters.
        list_channel: whose request list it goes to: the channel's own, or that of a glob.
        attempt: which try this is, from 1.
        reply_id: names the reply list when several requests share one, else the id does.
    """

    channel: str
    id: str
    data: Any
    headers: Mapping[str, str] | None = None
    spread: bool = False
    list_channel: str | None = None
    attempt: int = 1
    reply_id: str | None = None

    def outgoing(self, wire: Wire) -> Outgoing:
        """Return the step's form of it. The payload is encoded only when the driver sends it."""
        target = self.list_channel or self.channel
        reply_key = keys.reply(target, self.reply_id or self.id)

        def build(reply_to: str, timeout_ms: int) -> ScriptCall:
            envelope = wire.request(
                self.id,
                reply_to,
                self.data,
                headers=self.headers,
                channel=self.channel if self.list_channel else None,
                spread=self.spread,
                attempt=self.attempt,
            )
            own = (reply_key,) if reply_to == reply_key else ()
            return ScriptCall(
                REQUEST,
                (keys.requests(target), keys.servers(target), *own),
                (keys.serve(target), timeout_ms, envelope, MARKER + self.id),
            )

        return Outgoing(self.id, self.channel, reply_key, build)

    def at(self, list_channel: str) -> OutgoingRequest:
        """Return the same request, addressed to the list of a glob."""
        return replace(self, list_channel=list_channel)

    def again(self) -> OutgoingRequest:
        """Return the next try of the same request."""
        return replace(self, attempt=self.attempt + 1)


Rank = Callable[[str, Sequence[str]], list[str]]
"""Given a channel and the live globs: those that match it, best first."""


def request(call: OutgoingRequest, wire: Wire, rank: Rank, *, timeout_ms: int, retries: int = 0) -> Flow[Any]:
    """Ask, and return what the handler returned.

    Raises:
        RemoteError: the handler raised.
        NoResponders: nobody serves the channel.
        RequestTimeout: no answer after ``timeout_ms`` in any of the tries.
        OutcomeUnknown: the connection was cut meanwhile.
    """
    for _ in range(retries):
        try:
            return (yield from _once(call, wire, rank, timeout_ms))
        except NoResponders:
            raise
        except (RequestTimeout, OutcomeUnknown):
            call = call.again()
    return (yield from _once(call, wire, rank, timeout_ms))


def _once(call: OutgoingRequest, wire: Wire, rank: Rank, timeout_ms: int) -> Flow[Any]:
    deadline = Deadline(timeout_ms)
    try:
        outcome = yield Exchange(call.outgoing(wire), wire.read_reply, deadline)
        if outcome is REFUSED:
            globs = yield from _globs(call.channel, deadline)
            for glob in rank(call.channel, globs):
                outcome = yield Exchange(call.at(glob).outgoing(wire), wire.read_reply, deadline)
                if outcome is not REFUSED:
                    break
    except UnreadableEnvelope as error:
        raise _unreadable(error, call) from error.__cause__
    return _result(outcome, call)


def _unreadable(error: UnreadableEnvelope, call: OutgoingRequest) -> DecodeError:
    return DecodeError(f"the reply to request {call.id} on {call.channel!r} cannot be read: {error}")


def request_many(
    calls: Sequence[OutgoingRequest], wire: Wire, rank: Rank, *, timeout_ms: int, window: int
) -> Flow[list[Any]]:
    """Ask many times; returns in their order what the handler returned, or the exception."""
    if not calls:
        return []
    step = ExchangeMany([call.outgoing(wire) for call in calls], wire.read_reply, timeout_ms, window)
    outcomes: list[Any] = yield step
    refused = [place for place, outcome in enumerate(outcomes) if outcome is REFUSED]
    if refused:
        for glob in rank(calls[0].channel, (yield from _globs(calls[0].channel, Deadline(timeout_ms)))):
            again = [calls[place].at(glob).outgoing(wire) for place in refused]
            step = ExchangeMany(again, wire.read_reply, timeout_ms, window)
            for place, outcome in zip(refused, (yield step), strict=True):
                outcomes[place] = outcome
            refused = [place for place in refused if outcomes[place] is REFUSED]
            if not refused:
                break
    return [_settled(outcome, call) for outcome, call in zip(outcomes, calls, strict=True)]


def _globs(channel: str, deadline: Deadline) -> Flow[list[str]]:
    lookup = ScriptCall(PATTERNS, (keys.patterns(),), ())
    try:
        replies = yield Call((lookup,), repeatable=True, deadline=deadline)
    except OutcomeUnknown as error:
        raise RequestTimeout(
            f"who serves {channel!r} was not known by the deadline; nothing was sent"
        ) from error
    return [glob.decode("utf-8", "replace") for glob in replies[0]]


def _settled(outcome: Any, call: OutgoingRequest) -> Any:
    if isinstance(outcome, UnreadableEnvelope):
        return _unreadable(outcome, call)
    if isinstance(outcome, Exception):
        return outcome
    try:
        return _result(outcome, call)
    except RedisToolkitError as error:  # the outcome of one of many: it is returned in its place
        return error


def _result(outcome: Reply | Refused, call: OutgoingRequest) -> Any:
    if isinstance(outcome, Refused):
        raise NoResponders(
            f"nobody serves requests on {call.channel!r}: start an app that has @app.on({call.channel!r})"
        )
    if outcome.id != call.id:
        raise DecodeError(
            f"a reply with id {outcome.id!r} arrived for request {call.id!r} on {call.channel!r}"
        )
    if outcome.error is not None:
        raise outcome.error
    return outcome.data
