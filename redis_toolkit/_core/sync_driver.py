"""Runs flows on the caller's own thread and a pooled connection: one packet out, one wait.

Rules:

- A request and the wait for its reply leave in one packet: the script by its text (EVAL), as an
  EVALSHA that the server does not know would leave the BLPOP behind it blocking. Any error reply to
  the script closes the connection for the same reason.
- A first try is bare. Only when it failed, and may be repeated, is the retrier entered.
- A connection goes back to the pool only after everything that was asked for has been read; an
  interrupt (Ctrl-C) in the middle closes it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from redis.exceptions import NoScriptError, ResponseError

from redis_toolkit._core.connection import Connections, Link
from redis_toolkit._core.flow import (
    REFUSED,
    Call,
    Command,
    Exchange,
    ExchangeMany,
    Flow,
    by_sha,
    by_text,
)
from redis_toolkit._core.flows.requests import MARKER
from redis_toolkit._core.recovery import Failed, Fate, describe, partly, retrying, sort
from redis_toolkit.errors import DecodeError, RedisToolkitError
from redis_toolkit.settings import Settings
from redis_toolkit.wire import UnreadableEnvelope

__all__ = ["LinkDriver", "SyncDriver", "call_on"]

T = TypeVar("T")
READ_MARGIN = 0.25
"""Seconds that a read waits beyond the server's own timeout, which is rounded up to 100 ms."""
ACCEPTED_BYTES = len(":1\r\n")
"""What the script answers before the reply comes: not worth to be woken for."""


class SyncDriver:
    """Runs flows for callers in any number of threads.

    Args:
        connections: where connections come from.
        settings: the app's durations.
    """

    def __init__(self, connections: Connections, settings: Settings) -> None:
        self._connections = connections
        self._settings = settings

    def run(self, flow: Flow[T]) -> T:
        """Carry out the steps of a flow and return its result; raises what the flow raises."""
        try:
            step = next(flow)
            while True:
                try:
                    answer = self._perform(step)
                except Exception as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    def _perform(self, step: Call | Exchange | ExchangeMany) -> Any:
        if isinstance(step, Call):
            now = time.monotonic()
            if step.deadline is None:
                deadline = now + self._settings.command_timeout
            else:
                deadline = step.deadline.begin(now)
            once = partial(self._call, step, deadline)
            return self._patiently(once, deadline, repeatable=step.repeatable)
        if isinstance(step, Exchange):
            deadline = step.deadline.begin(time.monotonic())
            return self._patiently(lambda: self._exchange(step, deadline), deadline, repeatable=False)
        return _Many(self._connections, step, self._patiently).outcomes()

    def _patiently(self, once: Callable[[], T], deadline: float, *, repeatable: bool) -> T:
        """Try once; where that is safe, try again until the deadline, if the server was ever there."""
        try:
            try:
                return once()
            except Failed as failure:
                hopeless = not failure.passes(repeatable=repeatable) or not self._connections.reached
                if hopeless or time.monotonic() >= deadline:
                    raise
            return retrying(deadline, repeatable=repeatable)(once)
        except Failed as failure:
            raise failure.error from failure.__cause__

    def _call(self, step: Call, deadline: float) -> list[Any]:
        link = self._connections.acquire(deadline)
        replies = call_on(link, step, deadline)
        self._connections.release(link)
        return replies

    def _exchange(self, step: Exchange, deadline: float) -> Any:
        request = step.request
        link = self._connections.acquire(deadline)
        left = deadline - time.monotonic()
        try:
            script = request.build(request.reply_key, max(int(left * 1000), 1))
        except BaseException:
            self._connections.release(link)
            raise
        link.send((by_text(script), ("BLPOP", request.reply_key, _block(left))), deadline)
        try:
            accepted = link.read_by(deadline + READ_MARGIN, ACCEPTED_BYTES)
            if isinstance(accepted, ResponseError):
                link.close()
                raise sort(accepted, sent=True, where=link.where, doing=describe(script)) from accepted
            popped = self._popped(link, deadline)
        except Failed as failure:
            if failure.fate is Fate.UNKNOWN and time.monotonic() >= deadline:
                raise request.timeout() from failure
            raise
        if isinstance(popped, ResponseError):
            link.close()
            doing = describe(("BLPOP", request.reply_key, 0)) + ", the reply to a request that was sent,"
            raise partly(sort(popped, sent=True, where=link.where, doing=doing), link.where) from popped
        if popped is not None and not _is_pop_of(request.reply_key, popped):
            link.close()
            raise sort(_Shifted(popped), sent=True, where=link.where)
        self._connections.release(link)
        if popped is None:
            raise request.timeout()
        return step.read(popped[1]) if accepted else REFUSED

    @staticmethod
    def _popped(link: Link, deadline: float) -> Any:
        """Return the reply of the pop behind the script; the request has been sent by then."""
        try:
            return link.read_by(deadline + READ_MARGIN)
        except Failed as failure:
            raise partly(failure, link.where) from failure


class _Shifted(ConnectionError):
    """A reply that cannot be the answer to what was asked: this connection is not to be trusted."""

    def __init__(self, reply: Any) -> None:
        super().__init__(f"a reply out of order: {ascii(reply)[:80]}")


def _is_pop_of(key: str, reply: Any) -> bool:
    return isinstance(reply, list) and len(reply) == 2 and reply[0] == key.encode("utf-8")


def call_on(link: Link, step: Call, deadline: float) -> list[Any]:
    """Carry out a call on a connection: scripts by SHA1, and by text where the server lacks one.

    Raises:
        Failed: the connection was lost (it is closed), or the server refused a command.
    """
    replies = link.call([by_sha(command) for command in step.commands], deadline)
    for reply in replies:
        if isinstance(reply, Exception):
            return _with_errors(link, step, replies, deadline)
    return replies


def _with_errors(link: Link, step: Call, replies: list[Any], deadline: float) -> list[Any]:
    """Send those scripts by their text that the server lacks; raise what failed otherwise."""
    missing = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if missing:
        again = link.call([by_text(step.commands[place]) for place in missing], deadline)
        for place, reply in zip(missing, again, strict=True):
            replies[place] = reply
    for command, reply in zip(step.commands, replies, strict=True):
        if isinstance(reply, ResponseError):
            link.close()
            failure = sort(reply, sent=True, where=link.where, doing=describe(command))
            some = any(not isinstance(other, Exception) for other in replies)
            raise (partly(failure, link.where) if some else failure) from reply
    return replies


def _block(left: float) -> float:
    """Return a BLPOP timeout: never 0, which would wait for ever."""
    return max(round(left, 3), 0.001)


class _Many:
    """One run of an `ExchangeMany`: a window of requests on one connection and one reply list."""

    def __init__(self, connections: Connections, step: ExchangeMany, patiently: Callable[..., Any]) -> None:
        self.connections = connections
        self.step = step
        self.patiently = patiently
        self.results: dict[int, Any] = {}
        self.waiting: dict[str, int] = {}
        self.deadlines: deque[tuple[float, str]] = deque()
        self.following = 0

    def outcomes(self) -> list[Any]:
        """Return the outcome of each request, in order."""
        requests = self.step.requests
        link: Link | None = None
        try:
            while len(self.results) < len(requests):
                try:
                    link = link or self._connect()
                    self._round(link)
                except Failed as failure:
                    link = None
                    self._lost(failure)
                except RedisToolkitError as error:  # no connection by the deadline: the rest ends so
                    return [self.results.get(place, error) for place in range(len(requests))]
        except BaseException:
            if link is not None:
                link.close()
            raise
        if link is not None:
            self.connections.release(link)
        return [self.results[place] for place in range(len(requests))]

    def _connect(self) -> Link:
        deadline = time.monotonic() + self.step.timeout_ms / 1000
        link: Link = self.patiently(lambda: self.connections.acquire(deadline), deadline, repeatable=True)
        return link

    def _round(self, link: Link) -> None:
        """Fill the window, wait for replies, and note them."""
        packet, sent = self._fill()
        now = time.monotonic()
        if not self.waiting:
            return
        reply_key = self.step.requests[0].reply_key
        left = self.deadlines[0][0] - now
        packet.append(("BLPOP", reply_key, _block(left)))
        packet.append(("LPOP", reply_key, self.step.window))
        link.send(packet, now + self.step.timeout_ms / 1000)
        until = now + left + READ_MARGIN
        self._take_answers(link, sent, until)
        popped, more = (link.read_by(until) for _ in range(2))
        for reply in (popped, more):
            if isinstance(reply, ResponseError):
                link.close()
                raise partly(sort(reply, sent=True, where=link.where), link.where)
        whole = (popped is None or _is_pop_of(reply_key, popped)) and (more is None or type(more) is list)
        if not whole:
            link.close()
            raise sort(_Shifted([popped, more]), sent=True, where=link.where)
        for body in [*(popped[1:] if popped else ()), *(more or ())]:
            self._arrived(body)
        self._expire()

    def _take_answers(self, link: Link, sent: Sequence[str], until: float) -> None:
        """Read what the server says to each request; a refusal is about that one only."""
        failure: Failed | None = None
        for request_id in sent:
            accepted = link.read_by(until)
            if isinstance(accepted, ResponseError):
                failure = sort(accepted, sent=True, where=link.where)
                self._note(request_id, failure.error)
            elif not accepted:
                self._note(request_id, REFUSED)
        if failure is not None and not self.waiting:
            link.close()  # the pop behind them would wait for nothing
            raise failure

    def _fill(self) -> tuple[list[Command], list[str]]:
        packet: list[Command] = []
        sent: list[str] = []
        while len(self.waiting) < self.step.window and self.following < len(self.step.requests):
            place, self.following = self.following, self.following + 1
            request = self.step.requests[place]
            try:
                script = request.build(request.reply_key, self.step.timeout_ms)
            except Exception as error:  # the outcome of this one: its payload cannot be written
                self.results[place] = error
                continue
            packet.append(by_text(script))
            sent.append(request.id)
            self.waiting[request.id] = place
            self.deadlines.append((time.monotonic() + self.step.timeout_ms / 1000, request.id))
        return packet, sent

    def _arrived(self, body: bytes) -> None:
        if body.startswith(MARKER.encode()):
            self._note(body[len(MARKER) :].decode(), REFUSED)
            return
        try:
            reply = self.step.read(body)
        except UnreadableEnvelope as error:
            self._note(error.id, error)
        except DecodeError:
            return  # nobody knows whose it was: its request runs out of time
        else:
            self._note(reply.id, reply)

    def _note(self, request_id: str, outcome: Any) -> None:
        place = self.waiting.pop(request_id, None)
        if place is not None:
            self.results[place] = outcome

    def _expire(self) -> None:
        now = time.monotonic()
        while self.deadlines and (self.deadlines[0][1] not in self.waiting or self.deadlines[0][0] <= now):
            _, request_id = self.deadlines.popleft()
            if request_id in self.waiting:
                self._note(request_id, self.step.requests[self.waiting[request_id]].timeout())

    def _lost(self, failure: Failed) -> None:
        """The connection is gone: what was sent on it has an unknown outcome, or ran out of time."""
        self._expire()
        if self.waiting:
            failure = partly(failure, self.connections.where)  # they had been sent
        for request_id in list(self.waiting):
            self._note(request_id, failure.error)
        self.deadlines.clear()


class LinkDriver:
    """Runs flows that only call, on one dedicated connection, for one thread: heartbeats and the like.

    Args:
        connections: where the connection comes from; it is made anew after a failure.
        timeout: seconds that one call may take.
    """

    def __init__(self, connections: Connections, timeout: float) -> None:
        self._connections = connections
        self._timeout = timeout
        self._link: Link | None = None

    def run(self, flow: Flow[T]) -> T:
        """Carry out a flow.

        Raises:
            Failed: a call failed; it was tried once.
        """
        try:
            step = next(flow)
            while True:
                if not isinstance(step, Call):
                    raise TypeError(f"a LinkDriver runs calls only, not {step!r}")
                step = flow.send(self._call(step))
        except StopIteration as end:
            result: T = end.value
            return result

    def close(self) -> None:
        """Close the connection."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _call(self, step: Call) -> list[Any]:
        deadline = time.monotonic() + self._timeout
        if self._link is None:
            self._link = self._connections.dedicated(deadline)
        try:
            return call_on(self._link, step, deadline)
        except Failed:
            self.close()
            raise
