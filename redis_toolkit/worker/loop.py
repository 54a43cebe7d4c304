"""The loop engine: claims requests for ``async def`` handlers, runs them as tasks, and replies.

Rules:

- One round of claims at a time (see ``claiming.py``), for as many requests as there are free places. The
  next is sent as soon as it is answered and a place is free; while all are taken nothing is claimed.
- Claims and replies have a connection each, as a reply behind a blocking claim would wait for it. When
  one is lost, the other goes on.
- Replies of one turn of the loop leave in one write. Those whose connection was lost are sent again on
  the next: that does no harm.
- Stopping: claims end, running tasks get the grace period, and those that are left are cancelled; their
  callers get the error. Until then replies are sent again as always.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from redis_toolkit._core.async_link import AsyncLink
from redis_toolkit._core.connection import Connections
from redis_toolkit._core.flows import serving
from redis_toolkit._core.recovery import Failed, Fate, describe, sort
from redis_toolkit.settings import Settings
from redis_toolkit.worker import handling
from redis_toolkit.worker.answering import Answerer, Delivery
from redis_toolkit.worker.claiming import Claims, Round
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.loop_links import LoopLinks
from redis_toolkit.worker.trouble import Trouble
from redis_toolkit.worker.undelivered import instead_of

__all__ = ["RequestLoop"]

logger = logging.getLogger("redis_toolkit")

CLAIM = "to claim requests (BLPOP, LPOP)"
"""What is said of a claim that the server refuses."""
CANCEL_SECONDS = 1.0
"""Seconds that a cancelled handler has to end, before it is given up."""
REFUSED_SECONDS = 1.0
"""Seconds until claims are tried again when the server refuses the command itself."""
LAST_SECONDS = 2.0
"""Seconds that the last replies get at least to reach the server."""


class RequestLoop:
    """Serves the request lists of ``async def`` handlers on one event loop.

    Args:
        answerers: who answers, by the key of the request list.
        concurrency: how many requests are handled at once.
        connections: where its two connections come from.
        settings: how long a claim blocks, and the reconnect cap.
        counters: where undelivered replies are counted.
    """

    def __init__(
        self,
        answerers: Mapping[str, Answerer],
        concurrency: int,
        connections: Connections,
        settings: Settings,
        counters: Counters,
    ) -> None:
        self._answerers = list(answerers.values())
        self._claims = Claims(list(answerers), lambda _: 1.0, waiting_price=1.0)
        self._concurrency = concurrency
        self._settings = settings
        self._counters = counters
        self._trouble = Trouble("claiming requests is interrupted", "requests are claimed again")
        self._links = LoopLinks(
            connections, settings, self._opened_for_claims, self._opened_for_replies, self._log
        )
        self._claim_link, self._reply_link = self._links.claims, self._links.rest
        self._claiming = False
        self._round: Round | None = None
        self._replies: list[Any] = []
        self._draining: int | None = None  # how many are still to be claimed; None: no end
        self._drains = False  # whether the last round was sent when that was known
        self._ended = False
        self._closed = False
        self._later: asyncio.TimerHandle | None = None
        self._running: dict[asyncio.Task[None], tuple[Answerer, bytes]] = {}
        self._given_up: set[asyncio.Task[None]] = set()
        self._ready: list[Delivery] = []
        self._owed = 0

    async def start(self) -> None:
        """Connect and begin to claim.

        Raises:
            RedisToolkitError: the server cannot be reached.
        """
        await self._links.start()

    def runs(self, runner: object) -> bool:
        """Return whether this task runs one of its handlers."""
        return runner in self._running

    async def stop(self, deadline: float, waiting: int) -> bool:
        """Stop claiming and let what was claimed be answered; as in the thread engine. `close` follows.

        A handler that asks for it is not waited for.

        Args:
            deadline: when running handlers are cancelled (monotonic seconds).
            waiting: up to how many requests are still claimed, as perhaps nobody else is there.

        Returns:
            Whether every handler ended in time.
        """
        self._draining = waiting
        if not self._claiming:
            self._claim()
        try:
            while not self._ended and time.monotonic() < deadline and self._may_claim(waiting):
                if self._claiming:
                    self._links.unblock()
                await asyncio.sleep(0.02)
        finally:
            self._ended = True
        return await self._handlers_end(deadline, handling.current())

    def _may_claim(self, waiting: int) -> bool:
        """Return whether, while stopping, there is a claim under way, or still one to be sent."""
        link = self._claim_link.link
        if link is None:  # what waits is claimed after a lost connection, but not if none can be had
            return waiting > 0 and self._claim_link.reachable
        return waiting > 0 or self._claiming

    async def _handlers_end(self, deadline: float, asker: object = None) -> bool:
        """Wait for the handlers; those that are late are cancelled, and given up a second later."""
        running = {task for task in self._running if task is not asker} - self._given_up
        late: set[asyncio.Task[None]] = set()
        if running:
            _, late = await asyncio.wait(running, timeout=max(deadline - time.monotonic(), 0))
        for task in late:
            task.cancel()
        if late:
            _, given_up = await asyncio.wait(late, timeout=CANCEL_SECONDS)
            self._given_up |= given_up
        return not late

    async def close(self, deadline: float) -> None:
        """Wait until the last replies have been taken by the server, and close.

        Args:
            deadline: until when the handler that asked for the stop may run, and replies are sent again.
        """
        try:
            await self._handlers_end(deadline)
            await self._claim_link.stop()  # what its last round had popped is answered now
            deadline = max(deadline, time.monotonic() + LAST_SECONDS)
            while self._owed and time.monotonic() < deadline:
                self._send_replies()
                await asyncio.sleep(0.005)
        finally:
            if self._later is not None:
                self._later.cancel()
            self._closed = True
            self._undelivered(self._owed, "the worker stopped")
            await self._links.stop()

    # -- claims -----------------------------------------------------------------------------------

    def _opened_for_claims(self, _link: AsyncLink) -> None:
        self._claiming = False
        self._claim()

    def _claim(self) -> None:
        """Claim as many requests as there are free places, if no claim is under way."""
        free = self._concurrency - len(self._running)
        if self._claiming or self._ended or free <= 0:
            return
        link = self._claim_link.link
        if link is None:
            return
        self._drains = draining = self._draining is not None
        if self._draining is not None and self._draining <= 0:
            self._ended = True
            return
        self._claiming = True
        block = self._settings.block if not draining else 0.01
        this = self._claims.next(free, block, wait=draining)
        if not this.replies:
            if draining:
                self._ended = True
            self._claiming = False
            self._claim_after(this.pause)
            return
        self._round, self._replies = this, []
        link.send([this.packet], [partial(self._replied, this)] * this.replies)

    def _replied(self, this: Round, reply: Any) -> None:
        """Take one reply of a round; the last one, or the loss of the connection, ends the round."""
        if self._round is not this:  # it has failed: this is one more word about that
            return
        replies = self._replies
        if isinstance(reply, Exception):
            link = self._claim_link.link
            if not isinstance(reply, Failed):
                where = link.where if link is not None else "the server"
                reply = sort(reply, sent=True, where=where, doing=CLAIM)
            if reply.fate is not Fate.REFUSED:
                self._claim_failed(this, reply)
                return
        replies.append(reply)
        if len(replies) == this.replies:
            self._claimed(this)
            self._claim_link.worked()
            if self._claiming:
                self._claim_again()

    def _claimed(self, this: Round, *, complete: bool = True) -> None:
        claimed = self._claims.take(this, self._replies)
        for number, body in claimed:
            self._begin(self._answerers[number], body)
        if self._claims.refused or self._claims.failure:
            self._refused()
        elif complete and not self._claims.examining:
            self._trouble.over()
        if self._drains and self._draining is not None:
            self._draining -= len(claimed)
            if complete and this.waits and not claimed and not self._claims.examining:
                self._draining = 0

    def _claim_failed(self, this: Round, failure: Failed) -> None:
        """Begin what had been popped before the connection was lost."""
        self._round = None
        self._claimed(this, complete=False)
        self._claiming = False
        self._claim_link.fail(failure)

    def _claim_after(self, seconds: float) -> None:
        if self._later is not None:
            self._later.cancel()
        self._later = asyncio.get_running_loop().call_later(seconds, self._claim)

    def _claim_again(self) -> None:
        self._claiming = False
        self._claim()

    def _refused(self) -> None:
        """Say which lists the server refuses; wait when it refuses the command itself."""
        failure = self._claims.tell_refused(lambda number, why: self._answerers[number].set_aside(why))
        if isinstance(failure, Failed):
            self._log(failure)
            self._ended = self._ended or self._draining is not None
            if self._claiming:
                self._claiming = False
                self._claim_after(REFUSED_SECONDS)

    # -- handlers and replies ---------------------------------------------------------------------

    def _begin(self, answerer: Answerer, body: bytes) -> None:
        if self._ended and self._draining is not None:  # the round was under way when the time was up
            delivery = answerer.refuse(body, asyncio.CancelledError("the worker stopped before it began"))
            self._deliver(delivery)
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._serve(loop, answerer, body))
        self._running[task] = answerer, body
        task.add_done_callback(self._finished)

    async def _serve(self, loop: asyncio.AbstractEventLoop, answerer: Answerer, body: bytes) -> None:
        handling.begin(loop)
        self._deliver(await answerer.answer_async(body))

    def _finished(self, task: asyncio.Task[None]) -> None:
        answerer, body = self._running.pop(task)
        if task.cancelled():  # before its first step: after that, being cancelled is an answer
            self._deliver(answerer.refuse(body, asyncio.CancelledError("cancelled before it began")))
        if not self._claiming:
            self._claim()

    def _deliver(self, delivery: Delivery | None) -> None:
        if delivery is None:
            return
        if self._closed:  # of a handler that was given up
            self._undelivered(1, "the worker stopped")
            return
        self._owed += 1
        if not self._ready:
            asyncio.get_running_loop().call_soon(self._send_replies)
        self._ready.append(delivery)

    def _opened_for_replies(self, _link: AsyncLink) -> None:
        self._send_replies()

    def _send_replies(self) -> None:
        link = self._reply_link.link
        if link is None or not self._ready:
            return
        ready, self._ready = self._ready, []
        for push, expire in serving.push_replies(ready):
            link.send((push, expire), (partial(self._delivered, push), _ignore))

    def _delivered(self, push: Any, reply: Any) -> None:
        _, reply_to, *bodies = push
        if isinstance(reply, Exception) and not isinstance(reply, Failed):
            link = self._reply_link.link
            where = link.where if link is not None else "the server"
            failure = sort(reply, sent=True, where=where, doing=describe(push[:2]))
            if failure.fate is Fate.REFUSED:
                self._owed -= len(bodies)
                self._undelivered(len(bodies), str(failure))
                self._tell(push, reply)
                return
            reply = failure  # it does not serve now: a replica, say, or one that loads its data
        if isinstance(reply, Failed):
            self._ready += [(reply_to, body) for body in bodies]
            self._reply_link.fail(reply)
            return
        self._owed -= len(bodies)
        self._reply_link.worked()

    def _undelivered(self, count: int, why: str) -> None:
        if count:
            self._counters.add("undelivered", count)
            logger.warning("%d replies were not delivered: %s", count, why)

    def _tell(self, push: Any, why: Exception) -> None:
        """Say to callers that their replies were refused; stopping waits for that, too."""
        link = self._reply_link.link
        if link is None:
            return
        for command in instead_of(push, why):
            self._owed += 1
            link.send([command], [self._told])

    def _told(self, outcome: Any) -> None:
        self._owed -= 1
        if isinstance(outcome, Exception):
            logger.warning("callers could not be told of it: %s", outcome)

    def _log(self, failure: Failed) -> None:
        if not self._ended:
            self._trouble.tell(failure)


def _ignore(_reply: Any) -> None:
    """Take a reply that says nothing new."""
