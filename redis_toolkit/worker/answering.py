"""Answers one request: from its bytes to the bytes of its reply, around one call of the handler.

Rules:

- Whatever the bytes or the handler do, the caller gets an answer if it can be known who that is.
- An expired request is dropped, not executed: its caller has gone.
- Each call of a handler has a context of its own: what it sets in a `ContextVar` ends with it.
- No I/O here: engines claim and deliver.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextvars import copy_context
from typing import Any

from redis_toolkit import keys
from redis_toolkit.codecs import start_of
from redis_toolkit.envelope_fields import text_of, traceback_text
from redis_toolkit.errors import DecodeError, EncodeError, PayloadMismatch
from redis_toolkit.message import Message
from redis_toolkit.routing import Handler
from redis_toolkit.strange import tamed
from redis_toolkit.tracebacks import OF_HANDLER
from redis_toolkit.wire import IncomingRequest, UnreadableEnvelope
from redis_toolkit.worker import forked, handling
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.heartbeat import ServerClock

__all__ = ["QUICK", "Answerer", "Delivery"]

logger = logging.getLogger("redis_toolkit")

QUICK = 0.001
"""Seconds up to which one request counts as quick work."""
OVERHEAD = 0.00002
"""Seconds that a request takes at least, besides its handler."""
SAID_SECONDS = 60.0
"""Seconds for which the same trouble with a list is not said again."""
Delivery = tuple[str, bytes]
"""Where a reply goes, and its body."""


class Answerer:
    """Answers the requests of one list with one handler.

    Args:
        name: the exact channel or the glob whose list it is.
        handler: who answers.
        clock: the server's clock, for expiries.
        counters: where expired, failed and unreadable requests are counted.
        send_tracebacks: whether an error reply has the handler's traceback.

    Attributes:
        expected: seconds that a request takes, by experience; None before the first.
    """

    def __init__(
        self, name: str, handler: Handler, clock: ServerClock, counters: Counters, *, send_tracebacks: bool
    ) -> None:
        self.name = name
        self.handler = handler
        self.expected: float | None = None
        self._pattern = name if name in handler.globs else None
        self._clock = clock
        self._counters = counters
        self._send_tracebacks = send_tracebacks
        self._said, self._said_at = "", 0.0

    def price(self) -> float | None:
        """Return the seconds that one more request of quick work takes in all; None when it is not quick."""
        expected = self.expected
        return None if expected is None or expected > QUICK else max(expected, OVERHEAD)

    def refuse(self, item: bytes, error: BaseException) -> Delivery | None:
        """Answer a request with an error, instead of the handler."""
        request = self._read(item)
        return self._failed(request, error) if isinstance(request, IncomingRequest) else request

    def answer(self, item: bytes) -> Delivery | None:
        """Answer a request with a ``def`` handler.

        Args:
            item: ``<expiry ms> <envelope>``, as it stood in the list. An expiry of 0 means none.

        Returns:
            Where the reply goes and its body; None when nobody waits for one.
        """
        request = self._read(item)
        if not isinstance(request, IncomingRequest):
            return request
        started, before = time.perf_counter(), forked.generation
        try:
            result = copy_context().run(
                self.handler.binding.call, self._message(request), spread=request.spread
            )
        except BaseException as error:
            forked.end_fork(before, error)
            return self._failed(request, error)
        finally:
            self._learn(time.perf_counter() - started)
        if forked.generation != before:
            forked.end_fork(before)
        return self._succeeded(request, result)

    async def answer_async(self, item: bytes) -> Delivery | None:
        """Answer a request with an ``async def`` handler; see `answer`. Being cancelled is an error too."""
        request = self._read(item)
        if not isinstance(request, IncomingRequest):
            return request
        before, task = forked.generation, asyncio.current_task()
        try:
            result = await self.handler.binding.call(self._message(request), spread=request.spread)
        except BaseException as error:
            error = tamed(error)
            if isinstance(error, GeneratorExit) and not handling.is_running(task):
                raise  # its loop is gone: nobody is left to be told
            forked.end_fork(before, error)
            return self._failed(request, error)
        if forked.generation != before:
            forked.end_fork(before)
        return self._succeeded(request, result)

    def set_aside(self, why: Exception) -> None:
        """Log that the list of these requests cannot be read; it is tried once a second from now on."""
        now, text = time.monotonic(), str(why)
        again = text == self._said and now < self._said_at + SAID_SECONDS
        if not again:
            self._said, self._said_at = text, now
        logger.log(
            logging.DEBUG if again else logging.WARNING,
            "requests on %r wait: the list %r is not usable: %s",
            self.name,
            keys.requests(self.name),
            why,
        )

    def _read(self, item: bytes) -> IncomingRequest | Delivery | None:
        """Return the request; or the reply to one that cannot be read; or None to drop it."""
        stamp, _, body = item.partition(b" ")
        if not stamp.isdigit():
            self._counters.add("undecodable")
            logger.warning(
                "dropped from the requests of %r: no expiry in front of %s", self.name, start_of(item)
            )
            return None
        expiry_ms = int(stamp[:20])
        if expiry_ms and self._clock.has_passed(expiry_ms):
            self._counters.add("expired")
            return None
        wire = self.handler.wire
        try:
            return wire.read_request(body)
        except UnreadableEnvelope as error:
            self._counters.add("undecodable")
            reply = wire.error_reply(error.id, DecodeError(str(error)))
            return (error.reply_to, reply) if error.reply_to else None
        except DecodeError as error:
            self._counters.add("undecodable")
            logger.warning("dropped from the requests of %r: %s", self.name, error)
            return None

    def _message(self, request: IncomingRequest) -> Message:
        channel = request.channel or self.name
        return Message(channel, request.data, request.headers, request.id, self._pattern, request.attempt)

    def _failed(self, request: IncomingRequest, error: BaseException) -> Delivery | None:
        error = tamed(error)
        if isinstance(error, PayloadMismatch):
            self._counters.add("mismatched")
            trace = None
        else:
            self._counters.add("failed")
            logger.warning(
                "handler %s failed on a request on %r",
                self.handler.name,
                request.channel or self.name,
                exc_info=error,
                extra=OF_HANDLER,
            )
            trace = traceback_text(error) if self._send_tracebacks else None
        if request.reply_to is None:
            return None
        return request.reply_to, self.handler.wire.error_reply(request.id, error, trace)

    def _succeeded(self, request: IncomingRequest, result: Any) -> Delivery | None:
        if request.reply_to is None:
            return None
        wire, before = self.handler.wire, forked.generation
        try:
            return request.reply_to, wire.reply(request.id, result)
        except BaseException as error:  # a payload's own code runs here too, which may even exit
            error = tamed(error)
            forked.end_fork(before, error)
            if not isinstance(error, EncodeError):
                error = EncodeError(f"{type(error).__name__}: {text_of(error)}")
            self._counters.add("failed")
            logger.warning("handler %s returned what cannot be sent: %s", self.handler.name, error)
            return request.reply_to, wire.error_reply(request.id, error)

    def _learn(self, seconds: float) -> None:
        """Follow a longer duration at once and a shorter one slowly: a mistake upwards costs less."""
        known = self.expected
        self.expected = seconds if known is None or seconds > known else known + (seconds - known) * 0.2
