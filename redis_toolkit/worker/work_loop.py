"""The engine on the event loop: claims work of a queue or a group, runs it, and settles it.

Rules:

- One claim at a time, for free places, and for half of all at most: so the server works on the next while
  these are run. It is sent as soon as the one before is answered and a place is free: with the settlements
  of what has just ended, but on a connection of its own, as it may wait.
- Coroutines run in the tasks of `runners.py`, ``def`` jobs in the threads of `job_threads.py`. Where there
  are such jobs, what is claimed fits their free threads as well, or is quick work: else it would wait here.
- What has been claimed is held, so that its lease is renewed, until the server has answered its settlement.
  While that answers nothing, no more is claimed than `OWED`.
- A handler that was cancelled by nobody who may has failed; or its loop ends, and so will this engine: then
  it is given back. So that waits for `CANCELLED_SECONDS`.
- Stopping: claims end, what has not begun is given back, and so is, when the time is up, what still runs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

from redis_toolkit._core.async_link import AsyncLink
from redis_toolkit._core.connection import Connections
from redis_toolkit._core.flows.work import Claimed, Settlement
from redis_toolkit._core.recovery import Failed, Fate
from redis_toolkit.settings import Settings
from redis_toolkit.worker import handling
from redis_toolkit.worker.consumer import Consumer
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.holdings import Item
from redis_toolkit.worker.job_threads import QUICK_SECONDS, JobThreads
from redis_toolkit.worker.loop_links import LoopLinks
from redis_toolkit.worker.packet import Packet
from redis_toolkit.worker.runners import Runners
from redis_toolkit.worker.sent import Answered, Sent
from redis_toolkit.worker.settler import Settler
from redis_toolkit.worker.trouble import Trouble

__all__ = ["WorkLoop"]

OWED = 1000
"""How many ends may wait for the server's answer before nothing more is claimed, if there are few places."""
AHEAD = 16
"""From how many items on the next are claimed before these begin: so the server works meanwhile."""
BATCH = 100
"""How many events a group with one place has here at most."""
CANCELLED_SECONDS = 1.0
"""Seconds that a loop which cancels its tasks has to stop the engine, too."""
LAST_SECONDS = 2.0
"""Seconds that the last settlements get at least to reach the server."""


class WorkLoop:
    """Serves one source on the running event loop.

    Args:
        consumer: the source, and this process's part in it.
        connections: where its two connections come from.
        settings: how long a claim blocks, the reconnect cap, and how many threads there are.
        counters: where everything unusual is counted.
    """

    def __init__(
        self, consumer: Consumer, connections: Connections, settings: Settings, counters: Counters
    ) -> None:
        self._consumer = consumer
        self._rounds = consumer.rounds
        self._performer = consumer.performer
        self._block = settings.block
        name = consumer.source.shown
        self._trouble = Trouble(f"claiming work of {name} is interrupted", f"work of {name} is claimed again")
        self._links = LoopLinks(connections, settings, self._may_claim, self._may_settle, self._log)
        self._settler = Settler(consumer, self._links.rest, counters, self._soon)
        self._half = (consumer.places + 1) // 2
        self._most_owed = max(OWED, 2 * consumer.places)
        self._runners = Runners(consumer.places, consumer.performer, self._ended, self._turn)
        self._threads = JobThreads(settings.concurrency, consumer.performer, counters, self._ended)
        self._in_order = consumer.places == 1 and not consumer.durable.is_queue
        consumer.performer.learns = self._in_order
        self._has_def = any(not job.binding.is_async for job in consumer.durable.jobs.values())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._claiming: Packet | None = None
        self._called = False
        self._later: asyncio.TimerHandle | None = None
        self._cancelled: dict[Item, asyncio.TimerHandle] = {}
        self._stopping = False

    async def start(self) -> None:
        """Connect and begin to claim.

        Raises:
            RedisToolkitError: the server cannot be reached.
        """
        self._loop = asyncio.get_running_loop()
        self._rounds.awake = self._awake
        await self._links.start()

    def runs(self, runner: object) -> bool:
        """Return whether this task, or thread, runs one of its handlers."""
        return self._runners.runs(runner) or self._threads.runs(runner)

    @property
    def wants_recycling(self) -> bool:
        """Whether threads that never end have taken all places of its ``def`` jobs."""
        return self._threads.wants_recycling

    def drain(self) -> None:
        """Claim no more, and give back what has not begun; `stop` follows. Called on the loop."""
        if self._stopping:
            return
        self._stopping = True
        if self._later is not None:
            self._later.cancel()
        for timer in self._cancelled.values():
            timer.cancel()
        waiting = [*self._runners.drain(), *self._threads.drain(), *self._cancelled]
        self._cancelled.clear()
        self._settler.release([item.claimed for item in waiting])
        self._links.unblock()

    async def stop(self, deadline: float) -> bool:
        """Stop claiming; what runs may end, and all else is given back. `close` follows.

        A handler that asks for it is not waited for.

        Args:
            deadline: when running handlers are cancelled and given back (monotonic seconds).

        Returns:
            Whether every handler ended in time.
        """
        self.drain()
        while self._claiming is not None and time.monotonic() < deadline:
            self._links.unblock()
            await asyncio.sleep(0.02)
        return await self._end_handlers(deadline, handling.current())

    async def close(self, deadline: float) -> None:
        """Wait until the server has taken how everything ended, and close.

        Args:
            deadline: until when the handler that asked for the stop may run (monotonic seconds).
        """
        try:
            await self._end_handlers(deadline)
            await self._links.claims.stop()  # what its last claim brought is given back now
            self._give_back()
            await self._settler.finish(max(deadline, time.monotonic() + LAST_SECONDS))
            await self._runners.close()
        finally:
            self._threads.close()
            await self._links.stop()

    async def _end_handlers(self, deadline: float, asker: object = None) -> bool:
        both = self._runners.end(deadline, asker), self._threads.end(deadline, asker)
        return all(await asyncio.gather(*both))

    def _give_back(self) -> None:
        """Give back what was claimed of a source that turned out to be paused."""
        packet, link = self._rounds.next((), 0, 0.0), self._links.rest.link
        if packet.commands and link is not None:
            Sent(self._rounds, packet, link, lambda _answered: None)

    # -- claims -----------------------------------------------------------------------------------

    def _may_claim(self, _link: AsyncLink) -> None:
        self._claiming = None
        self._claim()

    def _turn(self) -> None:
        """Send what has ended, and claim in place of it."""
        self._called = False
        self._settler.flush()
        self._claim()

    def _claim(self, taken: int = 0) -> None:
        """Claim what there are places for beside what was just taken, unless one is under way, or a pause."""
        if self._claiming is not None or self._later is not None or self._stopping:
            return
        free, link = self._free(taken), self._links.claims.link
        if free <= 0 or link is None:
            return
        packet = self._claiming = self._rounds.next((), free, self._block)
        Sent(self._rounds, packet, link, self._claimed)
        link.flush()

    def _free(self, taken: int) -> int:
        """Return how many items may be claimed."""
        load = self._runners.load + taken
        places, half = self._runners.places, self._half
        if self._in_order and (price := self._performer.price()):
            places = max(1, min(BATCH, int(QUICK_SECONDS / price)))
            half = (places + 1) // 2
        free = min(places - load, self._most_owed - self._settler.owed, half)
        if self._has_def:
            room = self._threads.room - taken
            if room < 0:
                return 0
            price = self._performer.price()
            quick = int(QUICK_SECONDS / price) - load if price else 0
            free = min(free - self._threads.load, max(room, quick, 1))
        return free

    def _claimed(self, answered: Answered) -> None:
        self._claiming = None
        taken = answered.taken
        number = len(taken.claimed)
        if self._works(answered):
            if taken.pause:
                self._claim_after(taken.pause)
            elif number >= AHEAD or not number:
                self._claim(number)
        self._begin(taken.claimed)
        self._soon()

    def _works(self, answered: Answered) -> bool:
        """Return whether claims work; else give the connection up."""
        refused = answered.taken.refused
        failure = answered.failure
        if failure is None and refused is not None and refused.fate is not Fate.REFUSED:
            failure = refused
        if failure is not None:
            self._rounds.distrust()
            self._links.claims.fail(failure)
            return False
        if refused is not None:
            self._log(refused)
        else:
            self._trouble.over()
            self._links.claims.worked()
        return True

    def _claim_after(self, seconds: float) -> None:
        assert self._loop is not None
        if not self._stopping:
            self._later = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        self._claim()

    def _awake(self) -> None:
        """End a pause; from any thread."""
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop has been closed
            self._loop.call_soon_threadsafe(self._resume)

    def _soon(self) -> None:
        """Send and claim with this turn of the loop, after what is to begin has begun."""
        if not self._called:
            self._called = True
            assert self._loop is not None
            self._loop.call_soon(self._turn)

    # -- what was claimed --------------------------------------------------------------------------

    def _begin(self, claimed: Sequence[Claimed]) -> None:
        if self._stopping:
            self._settler.release(claimed)
            return
        items, settlements = self._consumer.read(claimed)
        for settlement in settlements:
            self._settler.settle(settlement)
        if not self._has_def:
            self._runners.add(items)
            return
        self._runners.add([item for item in items if item.job.binding.is_async])
        self._threads.add([item for item in items if not item.job.binding.is_async])

    def _ended(self, item: Item, outcome: Settlement | None) -> None:
        if outcome is not None:
            self._settler.settle(outcome)
        elif self._stopping:
            self._settler.release([item.claimed])
        else:
            assert self._loop is not None
            self._cancelled[item] = self._loop.call_later(CANCELLED_SECONDS, self._failed, item)
        self._soon()

    def _failed(self, item: Item) -> None:
        """Settle what was cancelled as failed, as this goes on."""
        del self._cancelled[item]
        error = asyncio.CancelledError("the task of its handler was cancelled")
        self._settler.settle(self._performer.failed(item, error))
        self._soon()

    def _may_settle(self, _link: AsyncLink) -> None:
        self._settler.flush()

    def _log(self, failure: Failed) -> None:
        if not self._stopping:
            self._trouble.tell(failure)
