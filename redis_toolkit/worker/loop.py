"""The loop engine: claims requests for ``async def`` handlers, runs them as tasks, and replies.

Rules:

- One blocking claim at a time, for as many requests as there are free places. It is sent again as soon
  as it is answered and a place is free; while all are taken nothing is claimed.
- Claims and replies have a connection each, as a reply behind a blocking claim would wait for it.
  Replies of one turn of the loop leave in one write.
- A reply whose connection was lost is sent again on the next: that does no harm.
- Stopping: claims end, running tasks get the grace period, and those that are left are cancelled; their
  callers get the error.
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
from redis_toolkit._core.flow import Command
from redis_toolkit._core.flows import serving
from redis_toolkit._core.recovery import Failed, pause, reconnecting_async, sort
from redis_toolkit.settings import Settings
from redis_toolkit.worker.answering import Answerer, Delivery
from redis_toolkit.worker.counters import Counters

__all__ = ["RequestLoop"]

logger = logging.getLogger("redis_toolkit")

BATCH = 100
"""Requests that are claimed at once at most."""
CONNECT_SECONDS = 5.0
MARGIN = 5.0
"""Seconds beyond its block after which the connection of a claim counts as dead."""


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
        self._answerers = {key.encode("utf-8"): answerer for key, answerer in answerers.items()}
        self._keys = list(answerers)
        self._hot = self._keys[0]
        self._concurrency = concurrency
        self._connections = connections
        self._settings = settings
        self._counters = counters
        self._claims: AsyncLink | None = None
        self._replies: AsyncLink | None = None
        self._claim_id: int | None = None
        self._claiming = False
        self._draining: int | None = None
        self._ended = False
        self._failures = 0
        self._lost: asyncio.Event | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._unsent: list[Delivery] = []

    async def start(self) -> None:
        """Connect and begin to claim.

        Raises:
            RedisToolkitError: the server cannot be reached.
        """
        self._lost = asyncio.Event()
        try:
            await self._connect()
        except Failed as failure:
            raise failure.error from failure.__cause__
        self._keeper = asyncio.create_task(self._keep(), name="rt-request-loop")

    async def stop(self, deadline: float, waiting: int) -> bool:
        """Stop claiming and let what was claimed be answered; as in the thread engine.

        Args:
            deadline: when running handlers are cancelled (monotonic seconds).
            waiting: up to how many requests are still claimed, as perhaps nobody else is there.

        Returns:
            Whether every handler ended in time.
        """
        self._draining = waiting
        while not self._ended and time.monotonic() < deadline and self._claims is not None:
            if not waiting and not self._claiming:
                break
            self._unblock()
            await asyncio.sleep(0.02)
        self._ended = True
        running = {task for task in self._running if task is not asyncio.current_task()}
        late: set[asyncio.Task[None]] = set()
        if running:
            _, late = await asyncio.wait(running, timeout=max(deadline - time.monotonic(), 0))
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1.0)
        await self._close()
        return not late

    # -- connections ------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Claim; after each loss of the connections, connect again until stopped."""
        assert self._lost is not None
        while not self._ended:
            self._claim()
            await self._lost.wait()
            await asyncio.sleep(pause(self._failures, self._settings.reconnect_cap) if self._failures else 0)
            self._failures += 1
            if not self._ended:
                again = reconnecting_async(self._settings.reconnect_cap, lambda: self._ended, self._log)
                try:
                    await again(self._connect)
                except Failed:
                    return

    async def _connect(self) -> None:
        assert self._lost is not None
        await self._drop_links()
        deadline = time.monotonic() + CONNECT_SECONDS
        claims = await AsyncLink.open(self._connections, deadline)
        try:
            self._replies = await AsyncLink.open(self._connections, deadline)
        except BaseException:
            claims.close()
            raise
        self._claims = claims  # not before: a handler that ends meanwhile would claim on it
        self._claiming = False
        self._lost.clear()
        self._claims.send([("CLIENT", "ID")], [self._identified])
        unsent, self._unsent = self._unsent, []
        for delivery in unsent:
            self._deliver(delivery)

    async def _close(self) -> None:
        """Wait until the last replies have been taken by the server, and close."""
        if self._replies is not None and self._replies.lost is None:
            done = asyncio.get_running_loop().create_future()
            self._replies.send([("PING",)], [partial(_settle, done)])
            await asyncio.wait([done], timeout=2.0)
        if self._unsent:
            self._counters.add("undelivered", len(self._unsent))
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        await self._drop_links()

    async def _drop_links(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
        for link in (self._claims, self._replies):
            if link is not None:
                await link.aclose()

    def _identified(self, reply: Any) -> None:
        self._claim_id = reply if isinstance(reply, int) else None

    def _fail(self, failure: Failed) -> None:
        assert self._lost is not None
        if not self._lost.is_set():
            self._lost.set()
            if not self._ended:
                self._log(failure)

    # -- claims -----------------------------------------------------------------------------------

    def _claim(self) -> None:
        """Claim as many requests as there are free places, if no claim is under way."""
        link, free = self._claims, self._concurrency - len(self._running)
        if self._claiming or self._ended or free <= 0 or link is None:
            return
        if link.lost is not None:  # while all places were taken, and nobody asked it for anything
            self._fail(link.lost)
            return
        self._claiming = True
        block = self._settings.block if self._draining is None else 0.01
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._watchdog = asyncio.get_running_loop().call_later(block + MARGIN, link.close)
        commands: list[Command] = [serving.claim(self._keys, block)]
        if free > 1:
            commands.append(serving.claim_backlog(self._hot, min(free - 1, BATCH)))
            link.send(commands, [partial(self._popped, last=False), partial(self._popped_backlog, self._hot)])
        else:
            link.send(commands, [partial(self._popped, last=True)])

    def _popped(self, reply: Any, *, last: bool) -> None:
        if isinstance(reply, Exception):
            self._claim_failed(reply)
            return
        if reply:
            key, body = reply
            self._hot = key.decode("utf-8")
            self._begin(key, body)
            if len(self._keys) > 1:
                self._keys.append(self._keys.pop(0))
        self._drain(len(reply[1:]) if reply else 0)
        if last:
            self._claim_again()

    def _popped_backlog(self, key: str, reply: Any) -> None:
        if isinstance(reply, Exception):
            self._claim_failed(reply)
            return
        if reply:
            name = key.encode("utf-8")
            for body in reply:
                self._begin(name, body)
            self._drain(len(reply))
        self._claim_again()

    def _claim_again(self) -> None:
        self._claiming = False
        self._failures = 0
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._claim()

    def _claim_failed(self, error: Exception) -> None:
        link = self._claims
        failure = error if isinstance(error, Failed) else None
        if failure is None:
            failure = sort(error, sent=True, where=link.where if link is not None else "the server")
        if link is not None:
            link.close(failure)
        self._claiming = False
        self._fail(failure)

    def _drain(self, claimed: int) -> None:
        """While stopping: an empty claim, or as many as waited, is the end."""
        if self._draining is not None:
            self._draining -= claimed
            if not claimed or self._draining <= 0:
                self._ended = True

    def _unblock(self) -> None:
        """Wake a claim that blocks; without the right to, it ends with its slice."""
        if self._claiming and self._claim_id is not None and self._replies is not None:
            self._replies.send([("CLIENT", "UNBLOCK", self._claim_id)], [_ignore])

    # -- handlers and replies ---------------------------------------------------------------------

    def _begin(self, key: bytes, body: bytes) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(self._answerers[key], body))
        self._running.add(task)
        task.add_done_callback(self._finished)

    async def _serve(self, answerer: Answerer, body: bytes) -> None:
        delivery = await answerer.answer_async(body)
        if delivery is not None:
            self._deliver(delivery)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not self._claiming:
            self._claim()

    def _deliver(self, delivery: Delivery) -> None:
        link = self._replies
        if link is None or link.lost is not None:
            self._unsent.append(delivery)
            if link is not None and link.lost is not None:
                self._fail(link.lost)
        else:
            link.send(serving.push_reply(*delivery), (partial(self._delivered, delivery), _ignore))

    def _delivered(self, delivery: Delivery, reply: Any) -> None:
        if isinstance(reply, Failed):
            self._unsent.append(delivery)
            self._fail(reply)
        elif isinstance(reply, Exception):
            self._counters.add("undelivered")
            logger.warning("a reply was refused by the server: %s", reply)

    def _log(self, failure: Failed) -> None:
        logger.warning("claiming requests is interrupted, trying again: %s", failure)


def _settle(done: asyncio.Future[None], _reply: Any) -> None:
    if not done.done():
        done.set_result(None)


def _ignore(_reply: Any) -> None:
    """Take a reply that says nothing new."""
