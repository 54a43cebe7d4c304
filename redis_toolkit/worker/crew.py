"""A crew: the threads of one source, of which one leads. What they claim and settle, their kinds say.

The leader alone waits for work. What happens when work comes depends on how long it is expected to take:

- *Quick* work (a few ms in all): the leader does it itself and sends what came of it in the same packet
  as its next claim. One thread, one packet out and one in for each turn; a backlog is claimed in batches.
- Anything else, and work of unknown length: the leader first gives up the lead, so that a follower
  claims while it runs the handler.
- A deputy looks after a leader that runs "quick" work which turns out not to be: after 10 ms it takes
  the lead away, sends what is ready, and hands the rest of the batch to the next leader.

Rules: nothing waits behind a slow handler while a place is free; a thread is started when one is needed and
none is free, and stays. What was claimed is in one thread's batch or among the orphans, which the next
leader takes before it claims. Nothing but a leader's quick batch is taken away from a thread, so outside of
that it needs no lock for what is its own.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from typing import Any, ClassVar, Generic

from redis_toolkit._core.connection import Connections, Link
from redis_toolkit._core.recovery import Failed, pause, sort
from redis_toolkit.settings import Settings
from redis_toolkit.worker import handling
from redis_toolkit.worker.answering import QUICK
from redis_toolkit.worker.aside import Aside
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.member import C, Member, R
from redis_toolkit.worker.trouble import Trouble

__all__ = ["BATCH_SECONDS", "READ_TIMEOUT", "Crew"]

logger = logging.getLogger("redis_toolkit")
BATCH_SECONDS = 0.010
"""Seconds of quick work that are claimed at once."""
READ_TIMEOUT = 5.0
"""Seconds that a reply of the server may take beyond the time it was asked to wait."""
RETRY_SECONDS = 0.2
"""Seconds until what is ready is sent again after a lost connection."""
LOOKS = 20
"""Looks at leaders that do nothing, after which the deputy sleeps until it is woken."""


class Crew(ABC, Generic[C, R]):
    """The threads of one source.

    Args:
        name: what the threads' names begin with.
        places: how many there are at most.
        connections: where each thread's connection comes from.
        settings: how long a claim blocks, and the reconnect cap.
        counters: where everything unusual is counted.
        trouble: what is said when it cannot claim.
    """

    FINISHES: ClassVar[bool]
    """Whether what was claimed and not begun is still run when the crew stops."""

    def __init__(
        self,
        name: str,
        places: int,
        connections: Connections,
        settings: Settings,
        counters: Counters,
        trouble: Trouble,
    ) -> None:
        self._name = name
        self._places = places
        self._connections = connections
        self._settings = settings
        self._counters = counters
        self._aside = Aside(connections, counters)
        self._trouble = trouble
        self._lock = threading.RLock()
        self._turn = threading.Condition(self._lock)
        self._members: list[Member[C, R]] = []
        self._hired = 0
        self._waiting = 0
        self._leader: Member[C, R] | None = None
        self._orphans: deque[C] = deque()
        self._active = threading.Event()
        self._watched = False
        self._look_at = math.inf
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._deputy = threading.Thread(target=self._watch, name=f"{name}-deputy", daemon=True)

    # -- what each kind of crew does in its own way -----------------------------------------------

    @abstractmethod
    def _claim(self, me: Member[C, R], link: Link) -> None:
        """Send what is ready, and fill the batch from the server."""

    @abstractmethod
    def _expected(self, batch: deque[C]) -> list[float]:
        """Return how long each of these takes, in seconds; what is not known counts as not quick."""

    @abstractmethod
    def _do(self, me: Member[C, R], claimed: C) -> None:
        """Run one handler, and add what came of it to what is ready."""

    @abstractmethod
    def _send(self, me: Member[C, R], link: Link) -> None:
        """Send what is ready, without claiming."""

    @abstractmethod
    def _send_aside(self, ready: list[R]) -> None:
        """Send what a leader that is busy has ready, on another connection."""

    @abstractmethod
    def _undelivered(self, ready: list[R]) -> None:
        """Note what cannot be sent while stopping."""

    def _cut(self) -> None:
        """A connection was lost."""

    def _stranded(self) -> None:
        """Nobody is free to take the orphans; called again and again while that lasts."""

    def _look(self) -> None:
        """Look for handlers that run for too long, and set when to look again."""
        self._look_at = math.inf

    # -- starting and stopping --------------------------------------------------------------------

    def start(self) -> None:
        """Start the first thread, which begins to claim at once."""
        self._hire()
        self._deputy.start()

    def runs(self, runner: object) -> bool:
        """Return whether this thread runs its handlers."""
        return any(runner is one.thread for one in [*self._members])

    def stop(self, deadline: float) -> bool:
        """Let what was claimed end, until ``deadline`` (monotonic seconds).

        Returns:
            Whether every handler ended in time.
        """
        while (threads := self._awaited()) and time.monotonic() < deadline:
            self._unblock()
            for thread in threads:
                thread.join(timeout=0.02)
        self._end()
        self._ended.set()
        self._active.set()
        self._deputy.join(timeout=1.0)
        return not threads

    def _awaited(self) -> list[threading.Thread]:
        """Return the threads that still run, but the one that asks: a handler may stop its own app."""
        asks = handling.current()
        threads = [one.thread for one in [*self._members] if one.thread is not None and not one.abandoned]
        return [thread for thread in threads if thread is not asks and thread.is_alive()]

    def _end(self) -> None:
        """Claim no more."""
        self._stopping.set()
        with self._lock:
            self._turn.notify_all()

    def _unblock(self) -> None:
        """Wake a claim that blocks (``CLIENT UNBLOCK``); without the right to, it ends with its slice."""
        leader = self._leader
        if leader is None or leader.link is None or leader.link_id is None or leader.busy_since is not None:
            return
        try:
            self._aside.call([("CLIENT", "UNBLOCK", leader.link_id)], 1.0)
        except Failed as failure:
            logger.debug("a blocking claim ends with its slice: %s", failure)

    # -- one thread -------------------------------------------------------------------------------

    def _hire(self) -> bool:
        """Start another thread if there is a place for it; returns whether there was."""
        me: Member[C, R] = Member()
        with self._lock:
            if self._hired >= self._places:
                return False
            self._hired += 1
            name = f"{self._name}-{self._hired}"
            me.thread = threading.Thread(target=self._work, args=(me,), name=name, daemon=True)
            self._members.append(me)
        try:
            me.thread.start()
        except RuntimeError as error:  # no more threads, or the interpreter ends: those that are there go on
            self._dismiss(me)
            logger.warning("%s goes on with %d threads: %s", self._name, self._hired, error)
            return False
        return True

    def _abandon(self, one: Member[C, R]) -> None:
        """Count a thread out whose handler runs for too long; under the lock."""
        one.abandoned, one.doing = True, None
        self._hired -= 1

    def _dismiss(self, me: Member[C, R]) -> None:
        with self._lock:
            self._members.remove(me)
            if not me.abandoned:
                self._hired -= 1

    def _work(self, me: Member[C, R]) -> None:
        handling.begin()
        try:
            while self._lead(me):
                try:
                    self._fill(me)
                except Failed as failure:
                    self._lose(me, failure)
                except Exception as error:  # an answer that no server gives: the thread goes on
                    self._lose(me, sort(ConnectionError(repr(error)), sent=True, where="the server"))
                else:
                    me.failures = 0
                if me.batch:
                    self._run(me)
                if self._leader is not me and (me.ready or me.after):
                    self._flush(me)
        finally:
            self._resign(me)
            self._flush(me)
            if me.link is not None:
                me.link.close()
            self._dismiss(me)

    def _lead(self, me: Member[C, R]) -> bool:
        """Wait until this thread leads; False when there is nothing more to claim."""
        if self._leader is me and not self._stopping.is_set():
            return True
        with self._lock:
            while not me.abandoned:
                if self._stopping.is_set() and not (self.FINISHES and self._orphans):
                    return False
                if self._leader is None or self._leader is me:
                    self._leader = me
                    return True
                self._waiting += 1
                self._turn.wait()
                self._waiting -= 1
        return False

    def _resign(self, me: Member[C, R]) -> None:
        """Give up the lead."""
        with self._lock:
            if self._leader is not me:
                return
            self._leader = None
        self._follow()

    def _follow(self) -> None:
        """Have a follower take the lead: one that waits, else a new one; else all places are taken."""
        with self._lock:
            if self._leader is not None or (self._stopping.is_set() and not self._orphans):
                return
            if self._waiting:
                self._turn.notify()
                return
        if not self._hire():
            self._stranded()

    def _fill(self, me: Member[C, R]) -> None:
        """Fill the batch: from orphans, or from the server."""
        with self._lock:
            if self._leader is not me:  # deposed as it finished: another claims by now
                return
            orphans = bool(self._orphans)
            if orphans and (not me.ready or me.failures):
                me.batch += self._orphans
                self._orphans.clear()
                return
        if orphans:
            self._send(me, me.link or self._connect(me))
        elif not self._stopping.is_set():
            self._claim(me, me.link or self._connect(me))

    def _run(self, me: Member[C, R]) -> None:
        """Run the batch: as the leader while it is quick work, else after giving up the lead."""
        batch, times = me.batch, self._expected(me.batch)
        if max(times) > QUICK or sum(times) > BATCH_SECONDS:
            quick, total = 0, 0.0
            for seconds in times:
                total += seconds
                if seconds > QUICK or total > BATCH_SECONDS:
                    break
                quick += 1
            with self._lock:  # one of these may take long: nothing that was claimed waits behind it
                while len(batch) > max(quick, 1):
                    self._orphans.appendleft(batch.pop())
            if not quick:
                self._resign(me)
        if self._leader is me:
            me.busy_since = time.monotonic()
            if not self._watched:
                self._active.set()
        while True:
            try:
                claimed = batch.popleft()
            except IndexError:
                break
            self._do(me, claimed)
        me.busy_since = None

    def _flush(self, me: Member[C, R]) -> None:
        """Send what is ready, without claiming."""
        failures = 0
        while me.ready or me.after or me.sent:
            try:
                self._send(me, me.link or self._connect(me))
            except Failed as failure:
                me.link = None
                failures += 1
                self._cut()
                self._log(failure)
                if self._stopping.wait(RETRY_SECONDS) and failures > 1:
                    self._undelivered(me.ready)
                    me.ready, me.after, me.sent = [], [], []

    def _connect(self, me: Member[C, R]) -> Link:
        link = self._connections.dedicated()
        reply: Any = link.call([("CLIENT", "ID")], time.monotonic() + READ_TIMEOUT)[0]
        me.link_id = reply if isinstance(reply, int) else None
        me.link = link
        return link

    def _lose(self, me: Member[C, R], failure: Failed) -> None:
        """Give up a connection; wait before the next, unless there is something to run."""
        if me.link is not None:
            me.link.close()
            me.link = None
        self._cut()
        self._log(failure)
        if not me.batch:
            self._stopping.wait(pause(me.failures, self._settings.reconnect_cap))
        me.failures += 1

    def _log(self, failure: Failed) -> None:
        if not self._stopping.is_set():
            self._trouble.tell(failure)

    # -- the deputy -------------------------------------------------------------------------------

    def _watch(self) -> None:
        """While leaders do quick work, see every 10 ms that none is stuck; asleep when idle."""
        while not self._ended.is_set():
            self._watched = False
            leader = self._leader
            if leader is None or leader.busy_since is None:  # asked after saying that nobody watches
                left = self._look_at - time.monotonic()
                self._active.wait(None if left == math.inf else max(left, 0))
            self._active.clear()
            self._watched = True
            idle = 0
            while idle < LOOKS and not self._ended.wait(BATCH_SECONDS):
                leader, now = self._leader, time.monotonic()
                since = leader.busy_since if leader is not None else None
                idle = idle + 1 if since is None else 0
                try:
                    if leader is not None and since is not None and now - since > BATCH_SECONDS:
                        self._depose(leader)
                    if now >= self._look_at:
                        self._look()
                except Exception:  # one of ours: without a deputy, what gets stuck would stay so
                    logger.exception("the deputy of %s goes on after an error", self._name)

    def _depose(self, leader: Member[C, R]) -> None:
        with self._lock:
            if self._leader is not leader or leader.busy_since is None:
                return
            self._leader = None
            rest: list[C] = []
            with suppress(IndexError):  # the leader may take the last one meanwhile
                while True:
                    rest.append(leader.batch.popleft())
            self._orphans.extendleft(reversed(rest))
            ready, leader.ready = leader.ready, []
        self._follow()
        if ready:
            self._send_aside(ready)
        self._look()
