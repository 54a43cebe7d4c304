"""Requests for ``def`` handlers: a crew whose leader claims them from lists, and which replies.

Rules: a claimed request is answered, whatever its handler or its bytes do, also while stopping; what is
claimed fits into 10 ms of work or into the claiming thread. Replies may be sent twice after a lost
connection: that does no harm (see ``flows/serving.py``). Who claims, and who runs what, `crew.py` says.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from redis_toolkit._core.connection import Connections, Link
from redis_toolkit._core.flow import Command
from redis_toolkit._core.flows import serving
from redis_toolkit._core.recovery import Failed, Fate, describe, sort
from redis_toolkit.settings import Settings
from redis_toolkit.worker.answering import QUICK, Answerer, Delivery
from redis_toolkit.worker.claiming import Claims, Round
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.crew import BATCH_SECONDS, READ_TIMEOUT, Crew
from redis_toolkit.worker.member import Member
from redis_toolkit.worker.trouble import Trouble

__all__ = ["RequestThreads"]

logger = logging.getLogger("redis_toolkit")
CLAIM = "to claim requests (BLPOP, LPOP)"
"""What is said of a claim that the server refuses."""
REFUSED_SECONDS = 1.0
"""Seconds until claims are tried again when the server refuses the command itself."""
SHORTEST_ANSWER = 4
"""Bytes of the shortest answer to a command, ``:1`` and a line end."""

Claimed = tuple[Answerer, bytes]
"""A request as it stood in its list, and who answers it."""
RequestThread = Member[Claimed, Delivery]


class RequestThreads(Crew[Claimed, Delivery]):
    """The threads of one source: all request lists that share them.

    Args:
        answerers: who answers, by the key of the request list.
        threads: how many threads.
        connections: where each thread's connection comes from.
        settings: how long a claim blocks, and the reconnect cap.
        counters: where undelivered replies are counted.
    """

    FINISHES = True

    def __init__(
        self,
        answerers: Mapping[str, Answerer],
        threads: int,
        connections: Connections,
        settings: Settings,
        counters: Counters,
    ) -> None:
        trouble = Trouble("claiming requests is interrupted", "requests are claimed again")
        super().__init__("rt-requests", threads, connections, settings, counters, trouble)
        self._answerers = list(answerers.values())
        self._claims = Claims(list(answerers), lambda number: self._answerers[number].price())
        self._draining: int | None = None

    def drain(self, waiting: int) -> None:
        """Claim no more, but for what was waiting; `stop` follows.

        Args:
            waiting: how many requests waited when this process took itself off the registries: still
                claimed, as perhaps nobody else is there for them.
        """
        with self._lock:
            self._draining = waiting
            if not waiting and self._leader is None:
                self._end()
        self._unblock()

    # -- one thread -------------------------------------------------------------------------------

    def _claim(self, me: RequestThread, link: Link) -> None:
        """Send the replies that are ready, and fill the batch."""
        draining = self._draining is not None
        block = self._settings.block if not draining else 0.01
        this = self._claims.next(BATCH_SECONDS, block, wait=draining)
        if this.replies or me.ready:
            self._exchange(me, link, this, block)
        if self._claims.refused or self._claims.failure:
            self._refused(me)
        elif not self._claims.examining:
            self._trouble.over()
        if this.pause and not draining:
            self._stopping.wait(this.pause)
        if (this.waits or not this.replies) and not self._claims.examining:
            self._drain(len(me.batch), known=draining)

    def _exchange(self, me: RequestThread, link: Link, this: Round | None, block: float = 0) -> None:
        """Send replies and the commands of a round in one packet; what is claimed goes to the batch."""
        replies = me.ready[:]
        pairs = serving.push_replies(replies)
        commands: list[Command | bytes] = [command for pair in pairs for command in pair]
        link.send([*commands, this.packet] if this is not None else commands)
        # Two short answers to each push come at once, and nothing hangs on them: they need not wake anybody.
        few = len(pairs) * 2 * SHORTEST_ANSWER if this is not None and this.replies else 0
        deadline = time.monotonic() + block + READ_TIMEOUT
        refused: list[tuple[Command, Exception]] = []
        again: list[Delivery] = []
        passing: Failed | None = None
        for push, _ in pairs:
            pushed, _ = link.read_by(deadline, few), link.read_by(deadline)
            few = 0
            if isinstance(pushed, Exception):
                failure = sort(pushed, sent=True, where=link.where, doing=describe(push[:2]))
                if failure.fate is Fate.REFUSED:
                    refused.append((push, pushed))
                else:  # it does not serve now: a replica, say, or one that loads its data
                    passing = failure
                    again += [delivery for delivery in replies if delivery[0] == push[1]]
        with self._lock:
            me.ready[: len(replies)] = again
        if refused:  # told on another connection: on this one it would wait behind the claim
            self._aside.refused(refused)
        if this is not None:
            self._read_claims(me, link, this, block)
        elif passing is not None:
            link.close()
            raise passing

    def _read_claims(self, me: RequestThread, link: Link, this: Round, block: float) -> None:
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

    def _refused(self, me: RequestThread) -> None:
        """Say which lists the server refuses; wait when it refuses all of them, or the command."""
        failure = self._claims.tell_refused(lambda number, why: self._answerers[number].set_aside(why))
        if isinstance(failure, Failed):
            self._log(failure)
            if self._draining is not None and not me.batch:
                self._drain(0)  # what is refused will not get empty
            elif not me.batch:
                self._stopping.wait(REFUSED_SECONDS)

    def _expected(self, batch: deque[Claimed]) -> list[float]:
        return [answerer.expected or QUICK * 2 for answerer, _ in batch]

    def _do(self, me: RequestThread, claimed: Claimed) -> None:
        answerer, body = claimed
        try:
            reply = answerer.answer(body)
        except Exception:  # one of ours: the thread and the requests behind it go on
            logger.exception("a request on %r could not be answered", answerer.name)
            return
        if reply is not None:
            with self._lock:
                me.ready.append(reply)

    def _send(self, me: RequestThread, link: Link) -> None:
        self._exchange(me, link, None)

    def _send_aside(self, ready: list[Delivery]) -> None:
        try:
            self._aside.send(ready)
        except Failed as failure:
            self._undelivered(ready)
            self._log(failure)

    def _undelivered(self, ready: list[Delivery]) -> None:
        self._counters.add("undelivered", len(ready))

    def _lose(self, me: RequestThread, failure: Failed) -> None:
        if me.failures and not me.batch:
            self._drain(0)  # while stopping: what is out of reach will not get empty
        super()._lose(me, failure)

    # -- stopping ---------------------------------------------------------------------------------

    def _drain(self, claimed: int, *, known: bool = True) -> None:
        """While stopping: an empty claim, or as many as waited, is the end; not of one that left before."""
        with self._lock:
            if self._draining is not None:
                self._draining -= claimed if known else 0
                if (known and not claimed) or self._draining <= 0:
                    self._end()
