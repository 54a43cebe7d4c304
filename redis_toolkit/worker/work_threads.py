"""Durable work for ``def`` handlers: a crew whose leader claims from one queue or group, and which settles.

A turn of the leader is one packet: how its last batch ended, then the next claim. `Rounds` says what to send
and what the replies mean, `Performer` runs the handlers; who claims and who runs what, `crew.py` says.

Rules:

- What is claimed is held (and its lease renewed) until the server has answered its settlement, or until it
  was given back. Settlements without an answer are sent again, as settling twice does no harm.
- Who waits for the end of a task is told as soon as that has counted: before anything that may take long.
- A handler that runs beyond its timeout keeps its thread, which is abandoned: another takes its place, and
  how it ends counts no more.
- What was claimed as quick work and turns out not to be, with no thread free for it, is soon given back:
  others may run it. A group with one place keeps it, as it keeps the order.
- When it stops, what was not begun is given back at once, and what still runs when the time is up then.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from redis_toolkit._core.connection import Connections, Link
from redis_toolkit._core.flow import by_sha, by_text
from redis_toolkit._core.flows.work import Claimed, Held, Settlement
from redis_toolkit._core.recovery import Failed, Fate, as_reply, sort
from redis_toolkit.settings import Settings
from redis_toolkit.worker.answering import QUICK
from redis_toolkit.worker.consumer import Consumer
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.crew import BATCH_SECONDS, READ_TIMEOUT, Crew
from redis_toolkit.worker.holdings import Item
from redis_toolkit.worker.member import Member
from redis_toolkit.worker.packet import TWICE, Packet, Taken
from redis_toolkit.worker.trouble import Trouble

__all__ = ["WorkThreads"]

logger = logging.getLogger("redis_toolkit")
BATCH = 100
"""Items that one claim brings at most."""
STRANDED_SECONDS = 0.05
"""Seconds for which what was claimed may wait for a thread when all are busy."""
LAST_SECONDS = 2.0
"""Seconds that a server which does not answer holds up a stop, beyond its deadline."""
UNSETTLED_SECONDS = 1.0
"""Seconds until what the server did not settle is sent again."""

WorkThread = Member[Item, Settlement]


class WorkThreads(Crew[Item, Settlement]):
    """The threads of one queue or group.

    Args:
        consumer: the source, and what its engine shares with the keeper and the timer.
        connections: where each thread's connection comes from.
        settings: how long a claim blocks, and the reconnect cap.
        counters: where everything unusual is counted.
    """

    FINISHES = False

    def __init__(
        self, consumer: Consumer, connections: Connections, settings: Settings, counters: Counters
    ) -> None:
        self._where = where = consumer.source.shown
        trouble = Trouble(f"claiming from {where} is interrupted", f"work of {where} is claimed again")
        super().__init__("rt-work", consumer.places, connections, settings, counters, trouble)
        self._consumer = consumer
        self._rounds, self._performer = consumer.rounds, consumer.performer
        self._holdings = consumer.holdings
        self._unsettled: list[Settlement] = []
        self._unsettled_at = 0.0
        self._stranded_at: float | None = None
        self._settling = Trouble(f"work of {where} cannot be settled", f"work of {where} is settled again")
        self._is_queue = consumer.durable.is_queue
        timeouts = [job.policy.timeout for job in consumer.durable.jobs.values()]
        self._timeout = min((timeout for timeout in timeouts if timeout is not None), default=None)
        self._awake = threading.Event()
        self._until = math.inf
        self._rounds.awake = self._awake.set

    @property
    def abandoned(self) -> int:
        """How many threads run a handler whose timeout is over, or that was given up."""
        return sum(one.abandoned for one in [*self._members])

    @property
    def wants_recycling(self) -> bool:
        """Whether as many threads are abandoned as there are places: a new process would be better."""
        return self.abandoned >= self._places

    # -- starting and stopping --------------------------------------------------------------------

    def drain(self) -> None:
        """Claim no more; give back what was not begun. `stop` follows."""
        self._end()
        self._awake.set()
        self._unblock()

    def stop(self, deadline: float) -> bool:
        """Let handlers end until ``deadline`` (monotonic seconds), then give back what they run on.

        Returns:
            Whether every handler ended in time.
        """
        self.drain()
        ended = super().stop(deadline)
        self._until = time.monotonic() + LAST_SECONDS
        late = self._awaited()
        with self._lock:
            for one in self._members:
                if one.thread in late:
                    self._orphans += one.batch
                    one.batch.clear()
                    if one.doing is not None:
                        self._orphans.append(one.doing)
                        self._abandon(one)
        self._give_back_orphans()
        self._give_back([])
        if self._unsettled:
            self._send_aside(self._take_unsettled())
            self._undelivered(self._take_unsettled())
        self._until = math.inf  # a handler that asked for this stop may still end
        return ended

    def _unblock(self) -> None:
        super()._unblock()
        self._give_back_orphans()

    def _stranded(self) -> None:
        """Have the deputy give back what nobody here gets to; not where that would change the order."""
        with self._lock:
            if self._orphans and self._stranded_at is None and (self._places > 1 or self._is_queue):
                self._stranded_at = time.monotonic() + STRANDED_SECONDS
                self._look_by(self._stranded_at)

    def _give_back_orphans(self) -> None:
        with self._lock:
            orphans = [*self._orphans]
            self._orphans.clear()
        if orphans:
            self._give_back([item.claimed for item in orphans])

    def _give_back(self, held: Sequence[Held]) -> None:
        """Give back what was not run, or not to its end, so that its delivery does not count.

        When there is nothing, that is what was claimed of a source that was paused, or too late to be begun.
        """
        self._holdings.remove(held)
        packet = self._rounds.release(held) if held else self._rounds.next((), 0, 0.0)
        if not packet.commands:
            return
        try:
            self._borrow(WorkThread(), lambda me, link: self._post(me, link, packet))
        except Failed as failure:
            self._say_lost(f"{len(held)} could not be given back: {failure.why}")

    # -- a turn of the leader ---------------------------------------------------------------------

    def _claim(self, me: WorkThread, link: Link) -> None:
        """Send how the last batch ended, and fill the next one."""
        price = self._performer.price()
        free = 1 if price is None else max(1, min(BATCH, int(BATCH_SECONDS / price)))
        taken = self._post(me, link, self._rounds.next(me.ready, free, self._settings.block))
        refused = taken.refused
        if refused is None:
            self._trouble.over()
        else:
            self._log(refused)
        if me.after and (me.batch or taken.pause):  # who waits is not kept waiting by what comes now
            link.send(me.after)
            me.sent += me.after
            me.after = []
        if refused is not None and refused.fate is not Fate.REFUSED:
            raise refused
        if taken.pause and not me.batch and not self._stopping.is_set():
            self._awake.wait(taken.pause)
            self._awake.clear()

    def _expected(self, batch: deque[Item]) -> list[float]:
        expected = self._performer.expected
        return [expected(item) or QUICK * 2 for item in batch]

    def _do(self, me: WorkThread, claimed: Item) -> None:
        me.doing = claimed
        if self._timeout is not None and self._leader is not me:
            self._look_by(time.monotonic() + (claimed.job.policy.timeout or math.inf))
        try:
            settlement = self._performer.perform(claimed)
        except Exception:  # one of ours: it is delivered again when its lease is over
            logger.exception("%r of %s could not be run", claimed.id, self._where)
            self._holdings.remove([claimed.claimed])
            me.doing = None
            return
        with self._lock:
            if me.doing is claimed:  # else it was given up meanwhile
                me.doing = None
                me.ready.append(settlement)

    def _send(self, me: WorkThread, link: Link) -> None:
        """Settle what is ready, and say what follows from that."""
        self._post(me, link, self._rounds.settle(me.ready))
        while me.after or me.sent:
            self._post(me, link, Packet())

    def _send_aside(self, ready: list[Settlement], *, repeats: bool = False) -> None:
        aside = WorkThread(ready=ready, repeats=repeats)
        try:
            self._borrow(aside, self._send)
        except Failed as failure:
            self._log(failure)
            self._put_off(aside.ready)

    def _borrow(self, me: WorkThread, use: Callable[[WorkThread, Link], object]) -> None:
        """Use a connection of the pool, and another if that one is lost."""
        for last in (False, True):
            link = self._connections.acquire(self._patience())
            try:
                use(me, link)
            except Failed:
                if last or time.monotonic() >= self._until:
                    raise
                self._say_again(me)
            else:
                self._connections.release(link)
                return

    def _connect(self, me: WorkThread) -> Link:
        self._say_again(me)
        return super()._connect(me)

    def _say_again(self, me: WorkThread) -> None:
        """Say again what was not answered on a lost connection; subscribers are not told twice."""
        again = [command for command in me.sent if command[0] in TWICE]
        if len(again) < len(me.sent):
            self._counters.add("undelivered", len(me.sent) - len(again))
        me.after[:0] = again
        me.sent.clear()

    def _cut(self) -> None:
        self._rounds.distrust()

    def _undelivered(self, ready: list[Settlement]) -> None:
        if ready:
            self._counters.add("undelivered", len(ready))
            self._say_lost(f"{len(ready)} that have ended could not be settled")

    def _say_lost(self, what: str) -> None:
        logger.warning("of %s %s: they run again when their lease is over", self._where, what)

    # -- one packet -------------------------------------------------------------------------------

    def _post(self, me: WorkThread, link: Link, packet: Packet) -> Taken:
        """Send a packet, behind what is to be said, and take what its replies bring.

        Raises:
            Failed: the connection was lost; what had been answered by then is taken.
        """
        replies: list[Any] = []
        ready, me.ready = (me.ready, []) if packet.settles else ([], me.ready)
        taken = None
        try:
            self._exchange(me, link, packet, replies)
        finally:
            try:
                taken = self._rounds.take(packet, replies)
            finally:
                me.ready += ready if taken is None else taken.unanswered
            if packet.settles:
                self._settled(me, taken)
            if taken.claimed:
                self._claimed(me, taken.claimed)
        return taken

    def _patience(self) -> float:
        """Return until when the server may take to answer (monotonic seconds)."""
        return min(time.monotonic() + READ_TIMEOUT, self._until)

    def _exchange(self, me: WorkThread, link: Link, packet: Packet, replies: list[Any]) -> None:
        commands = [*me.after, *map(by_sha, packet.commands)]
        if commands:
            link.send(commands)
        me.sent += me.after
        me.after = []
        deadline = self._patience()
        for command in me.sent:
            reply = link.read_by(deadline)
            if isinstance(reply, Exception):
                self._counters.add("undelivered")
                logger.warning("the end of work of %s was not told (%s): %s", self._where, command[0], reply)
        me.sent.clear()
        deadline += packet.block
        for _ in packet.commands:
            replies.append(link.read_by(deadline))
        missing = self._rounds.missing(replies)
        if missing:
            link.send([by_text(packet.commands[place]) for place in missing])
            deadline = self._patience()
            for place in missing:
                replies[place] = link.read_by(deadline)

    def _settled(self, me: WorkThread, taken: Taken) -> None:
        """Hold no more what has ended; keep what the server did not settle."""
        me.after += self._consumer.settled(taken, repeats=me.repeats)
        me.repeats = bool(taken.unanswered)
        if taken.unsettled:
            why = as_reply(taken.unsettled[0][1])
            self._settling.tell(sort(why, sent=True, where=self._connections.where, doing="to settle"))
            self._put_off([settlement for settlement, _ in taken.unsettled])
        elif taken.counted:
            self._settling.over()

    def _claimed(self, me: WorkThread, claimed: Sequence[Claimed]) -> None:
        """Read what was claimed, and hold what is to be run."""
        if self._stopping.is_set():
            self._give_back(claimed)
            return
        items, settlements = self._consumer.read(claimed)
        me.batch += items
        me.ready += settlements

    # -- what the deputy does besides -------------------------------------------------------------

    def _put_off(self, settlements: list[Settlement]) -> None:
        """Send settlements again later, on another connection."""
        with self._lock:
            self._unsettled += settlements
            self._unsettled_at = time.monotonic() + UNSETTLED_SECONDS
        self._look_by(self._unsettled_at)

    def _take_unsettled(self) -> list[Settlement]:
        with self._lock:
            unsettled, self._unsettled = self._unsettled, []
        return unsettled

    def _look_by(self, when: float) -> None:
        """See that the deputy looks at that time (monotonic seconds) at the latest."""
        with self._lock:
            sooner = when < self._look_at
            self._look_at = min(when, self._look_at)
        if sooner:
            self._active.set()

    def _look(self) -> None:
        """Abandon threads whose handler runs beyond its timeout; settle again what was put off."""
        now = time.monotonic()
        late: list[Item] = []
        with self._lock:
            super()._look()
            for one in self._members:
                item = one.doing
                if item is None or item.job.policy.timeout is None:
                    continue
                over = (item.started or now) + item.job.policy.timeout
                if over > now or one is self._leader:  # which is deposed before
                    self._look_at = min(self._look_at, max(over, now + BATCH_SECONDS))
                else:
                    self._abandon(one)
                    late.append(item)
            if self._unsettled and self._unsettled_at > now:
                self._look_at = min(self._look_at, self._unsettled_at)
            unsettled = self._take_unsettled() if self._unsettled_at <= now else []
            stranded = self._stranded_at is not None and self._stranded_at <= now
            if stranded or not self._orphans:
                self._stranded_at = None
            if self._stranded_at is not None:
                self._look_at = min(self._look_at, self._stranded_at)
        for item in late:
            self._counters.add("abandoned")
            logger.error(
                "%r of %s runs for more than its timeout of %g s: its thread is abandoned, there are %d such",
                item.id,
                self._where,
                item.job.policy.timeout,
                self.abandoned,
            )
        if stranded and self._leader is None:
            self._give_back_orphans()
        if late:
            self._send_aside([self._performer.timed_out(item) for item in late])
            self._follow()
        if unsettled:
            self._send_aside(unsettled, repeats=True)
