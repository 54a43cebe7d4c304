"""The thread engine: threads that claim requests, run ``def`` handlers, and reply.

Of the threads of one source, one leads: it alone waits for work. What happens when work comes depends
on how long the handlers have taken so far:

- *Quick* work (a few ms in all): the leader does it itself and sends the replies in the same packet as
  its next claim. One thread, one packet out and one in for each request; a backlog is claimed in
  batches.
- Anything else, and work of unknown length: the leader first gives up the lead, so that a follower
  claims while it runs the handler.
- A deputy looks after a leader that runs "quick" work which turns out not to be: after 10 ms it takes
  the lead away, sends the replies that are ready, and hands the rest of the batch to the next leader.

Rules: a claimed request is answered, whatever its handler or its bytes do; nothing waits behind a slow
handler while a thread is free; what is claimed fits into 10 ms of work or into the claiming thread.
Replies may be sent twice after a lost connection: that does no harm (see ``flows/serving.py``).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from redis_toolkit._core.connection import Connections, Link
from redis_toolkit._core.flow import Command
from redis_toolkit._core.flows import serving
from redis_toolkit._core.recovery import Failed, Fate, pause, sort
from redis_toolkit.settings import Settings
from redis_toolkit.worker import handling
from redis_toolkit.worker.answering import QUICK, Answerer, Delivery
from redis_toolkit.worker.aside import Aside
from redis_toolkit.worker.claiming import Claims, Round
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.trouble import Trouble

__all__ = ["RequestThreads"]

logger = logging.getLogger("redis_toolkit")
CLAIM = "to claim requests (BLPOP, LPOP)"
"""What is said of a claim that the server refuses."""
BATCH_SECONDS = 0.010
"""Seconds of quick work that are claimed at once."""
REFUSED_SECONDS = 1.0
"""Seconds until claims are tried again when the server refuses the command itself."""
READ_TIMEOUT = 5.0
"""Seconds that a reply of the server may take beyond the time it was asked to wait."""

Claimed = tuple[Answerer, bytes]
"""A request as it stood in its list, and who answers it."""
SHORTEST_ANSWER = 4
"""Bytes of the shortest answer to a command, ``:1`` and a line end."""


@dataclass(eq=False, slots=True)
class _Worker:
    """One thread: its connection, what it has claimed, and the replies it has not sent."""

    number: int
    link: Link | None = None
    link_id: int | None = None
    batch: deque[Claimed] = field(default_factory=deque)
    replies: list[Delivery] = field(default_factory=list)
    busy_since: float | None = None
    failures: int = 0


class RequestThreads:
    """The threads of one source: all request lists that share them.

    Args:
        answerers: who answers, by the key of the request list.
        threads: how many threads.
        connections: where each thread's connection comes from.
        settings: how long a claim blocks, and the reconnect cap.
        counters: where undelivered replies are counted.
    """

    def __init__(
        self,
        answerers: Mapping[str, Answerer],
        threads: int,
        connections: Connections,
        settings: Settings,
        counters: Counters,
    ) -> None:
        self._answerers = list(answerers.values())
        self._claims = Claims(list(answerers), lambda number: self._answerers[number].price())
        self._connections = connections
        self._settings = settings
        self._counters = counters
        self._aside = Aside(connections, counters)
        self._trouble = Trouble("claiming requests is interrupted", "requests are claimed again")
        self._turn = threading.Condition()
        self._leader: _Worker | None = None
        self._orphans: deque[Claimed] = deque()
        self._active = threading.Event()
        self._watched = False
        self._draining: int | None = None
        self._stopping = threading.Event()
        self._workers = [_Worker(number) for number in range(threads)]
        self._threads = [
            threading.Thread(target=self._work, args=(one,), name=f"rt-requests-{one.number}", daemon=True)
            for one in self._workers
        ]
        self._deputy = threading.Thread(target=self._watch, name="rt-requests-deputy", daemon=True)

    def start(self) -> None:
        """Start the threads; the first begins to claim at once."""
        for thread in (*self._threads, self._deputy):
            thread.start()

    def runs(self, runner: object) -> bool:
        """Return whether this thread runs its handlers."""
        return runner in self._threads

    def drain(self, waiting: int) -> None:
        """Claim no more, but for what was waiting; `stop` follows.

        Args:
            waiting: how many requests waited when this process took itself off the registries: still
                claimed, as perhaps nobody else is there for them.
        """
        with self._turn:
            self._draining = waiting
            if not waiting and self._leader is None:
                self._end()
        self._unblock()

    def stop(self, deadline: float) -> bool:
        """Let what was claimed be answered, until ``deadline`` (monotonic seconds).

        Returns:
            Whether every handler ended in time.
        """
        # One of them may have asked, when its handler stops its own app: it ends afterwards.
        threads = [one for one in self._threads if one is not handling.current()]
        while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline:
            self._unblock()
            for thread in threads:
                thread.join(timeout=0.02)
        self._end()
        self._active.set()
        self._deputy.join(timeout=1.0)
        return not any(thread.is_alive() for thread in threads)

    # -- one thread -------------------------------------------------------------------------------

    def _work(self, me: _Worker) -> None:
        handling.begin()
        try:
            while self._lead(me):
                try:
                    self._claim(me)
                except Failed as failure:
                    self._lose(me, failure)
                except Exception as error:  # an answer that no server gives: the thread goes on
                    self._lose(me, sort(ConnectionError(repr(error)), sent=True, where="the server"))
                else:
                    me.failures = 0
                if me.batch:
                    self._run(me)
                if self._leader is not me and me.replies:
                    self._flush(me)
        finally:
            self._resign(me)
            self._flush(me)
            if me.link is not None:
                me.link.close()

    def _lead(self, me: _Worker) -> bool:
        """Wait until this thread leads; False when there is nothing more to claim."""
        if self._leader is me and not self._stopping.is_set():
            return True
        with self._turn:
            while self._leader not in (None, me) and not self._stopping.is_set():
                self._turn.wait()
            if self._stopping.is_set() and not self._orphans:
                return False
            self._leader = me
            return True

    def _resign(self, me: _Worker) -> None:
        with self._turn:
            if self._leader is me:
                self._leader = None
                self._turn.notify()

    def _claim(self, me: _Worker) -> None:
        """Send the replies that are ready, and fill the batch: from orphans, or from the server."""
        with self._turn:
            if self._leader is not me:  # deposed as it finished: another claims by now
                return
            while self._orphans:
                me.batch.append(self._orphans.popleft())
        if me.batch or self._stopping.is_set():
            return
        if me.link is None:
            self._connect(me)
        assert me.link is not None
        draining = self._draining is not None
        block = self._settings.block if not draining else 0.01
        this = self._claims.next(BATCH_SECONDS, block, wait=draining)
        if this.replies or me.replies:
            self._exchange(me, me.link, this, block)
        if self._claims.refused or self._claims.failure:
            self._refused(me)
        elif not self._claims.examining:
            self._trouble.over()
        if this.pause and not draining:
            self._stopping.wait(this.pause)
        if (this.waits or not this.replies) and not self._claims.examining:
            self._drain(len(me.batch), known=draining)

    def _exchange(self, me: _Worker, link: Link, this: Round | None, block: float = 0) -> None:
        """Send replies and the commands of a round in one packet; what is claimed goes to the batch."""
        replies = me.replies[:]
        pairs = serving.push_replies(replies)
        commands: list[Command | bytes] = [command for pair in pairs for command in pair]
        link.send([*commands, this.packet] if this is not None else commands)
        # Two short answers to each push come at once, and nothing hangs on them: they need not wake anybody.
        few = len(pairs) * 2 * SHORTEST_ANSWER if this is not None and this.replies else 0
        deadline = time.monotonic() + block + READ_TIMEOUT
        refused: list[tuple[Command, Exception]] = []
        for push, _ in pairs:
            pushed, _ = link.read_by(deadline, few), link.read_by(deadline)
            few = 0
            if isinstance(pushed, Exception):
                refused.append((push, pushed))
        with self._turn:
            del me.replies[: len(replies)]
        if refused:  # told on another connection: on this one it would wait behind the claim
            self._aside.refused(refused)
        if this is not None:
            self._read_claims(me, link, this, block)

    def _read_claims(self, me: _Worker, link: Link, this: Round, block: float) -> None:
        got: list[Any] = []
        try:
            for _ in range(this.replies):
                reply = link.read(block + READ_TIMEOUT)
                if isinstance(reply, Exception):
                    failure = sort(reply, sent=True, where=link.where, doing=CLAIM)
                    if failure.fate is not Fate.REFUSED:
                        link.close()
                        raise failure from reply
                    reply = failure
                got.append(reply)
        finally:  # what was popped is popped, also when the rest of the replies is lost
            me.batch.extend(
                [(self._answerers[number], body) for number, body in self._claims.take(this, got)]
            )

    def _refused(self, me: _Worker) -> None:
        """Say which lists the server refuses; wait when it refuses all of them, or the command."""
        claims = self._claims
        for number, why in claims.refused:
            self._answerers[number].set_aside(why)
        claims.refused.clear()
        failure, claims.failure = claims.failure, None
        if isinstance(failure, Failed):
            self._log(failure)
            if self._draining is not None and not me.batch:
                self._drain(0)  # what is refused will not get empty
            elif not me.batch:
                self._stopping.wait(REFUSED_SECONDS)

    def _run(self, me: _Worker) -> None:
        """Answer the batch: as the leader while it is quick work, else after giving up the lead."""
        times = [answerer.expected or QUICK * 2 for answerer, _ in me.batch]
        if max(times) > QUICK or sum(times) > BATCH_SECONDS:
            with self._turn:  # one of these may take long: nothing that was claimed waits behind it
                while len(me.batch) > 1:
                    self._orphans.appendleft(me.batch.pop())
            self._resign(me)
        else:
            me.busy_since = time.monotonic()
            if not self._watched:
                self._active.set()
        while True:
            try:
                answerer, body = me.batch.popleft()
            except IndexError:
                break
            try:
                reply = answerer.answer(body)
            except Exception:  # one of ours: the thread and the requests behind it go on
                logger.exception("a request on %r could not be answered", answerer.name)
                continue
            if reply is not None:
                with self._turn:
                    me.replies.append(reply)
        me.busy_since = None

    def _flush(self, me: _Worker) -> None:
        """Send the replies that are ready, without claiming."""
        while me.replies:
            try:
                if me.link is None:
                    self._connect(me)
                assert me.link is not None
                self._exchange(me, me.link, None)
            except Failed as failure:
                me.link = None
                self._log(failure)
                if self._stopping.wait(0.2):
                    self._counters.add("undelivered", len(me.replies))
                    return

    def _connect(self, me: _Worker) -> None:
        link = self._connections.dedicated()
        reply = link.call([("CLIENT", "ID")], time.monotonic() + READ_TIMEOUT)[0]
        me.link_id = reply if isinstance(reply, int) else None
        me.link = link

    def _lose(self, me: _Worker, failure: Failed) -> None:
        if me.link is not None:
            me.link.close()
            me.link = None
        self._log(failure)
        if me.failures and not me.batch:
            self._drain(0)  # while stopping: what is out of reach will not get empty
        if not me.batch:
            self._stopping.wait(pause(me.failures, self._settings.reconnect_cap))
        me.failures += 1

    # -- stopping ---------------------------------------------------------------------------------

    def _drain(self, claimed: int, *, known: bool = True) -> None:
        """While stopping: an empty claim, or as many as waited, is the end; not of one that left before."""
        with self._turn:
            if self._draining is not None:
                self._draining -= claimed if known else 0
                if (known and not claimed) or self._draining <= 0:
                    self._end()

    def _end(self) -> None:
        self._stopping.set()
        with self._turn:
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

    # -- the deputy -------------------------------------------------------------------------------

    def _watch(self) -> None:
        """While leaders do quick work, see every 10 ms that none is stuck; asleep when idle."""
        while not self._stopping.is_set():
            self._watched = False
            leader = self._leader
            if leader is None or leader.busy_since is None:  # asked after saying that nobody watches
                self._active.wait()
            self._active.clear()
            self._watched = True
            idle = 0
            while idle < 20 and not self._stopping.wait(BATCH_SECONDS):
                leader = self._leader
                since = leader.busy_since if leader is not None else None
                idle = idle + 1 if since is None else 0
                if leader is not None and since is not None and time.monotonic() - since > BATCH_SECONDS:
                    self._depose(leader)

    def _depose(self, leader: _Worker) -> None:
        with self._turn:
            if self._leader is not leader or leader.busy_since is None:
                return
            self._leader = None
            with suppress(IndexError):  # the leader may take the last one meanwhile
                while True:
                    self._orphans.append(leader.batch.popleft())
            ready, leader.replies = leader.replies, []
            self._turn.notify()
        if ready:
            try:
                self._aside.send(ready)
            except Failed as failure:
                self._counters.add("undelivered", len(ready))
                self._log(failure)

    def _log(self, failure: Failed) -> None:
        if not self._stopping.is_set():
            self._trouble.tell(failure)
