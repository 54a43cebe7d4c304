"""A packet on its way to the server over a connection of the event loop.

Rules: a script that the server does not know goes again by text, and its reply takes its place. Whoever sent
the packet hears once what the replies mean: all of them, or those that came before the connection was lost.
An answer that no server gives counts as a lost connection, and a slow one makes `Rounds` distrustful.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

from redis_toolkit._core.async_link import AsyncLink
from redis_toolkit._core.flow import by_sha, by_text
from redis_toolkit._core.recovery import Failed, Fate, sort
from redis_toolkit.worker.packet import Packet, Taken
from redis_toolkit.worker.rounds import SLOW, Rounds

__all__ = ["Answered", "Done", "Sent"]

Done = Callable[["Answered"], None]


@dataclass(slots=True)
class Answered:
    """What came of a packet.

    Attributes:
        packet: it.
        replies: in order, as many as came.
        taken: what they mean.
        failure: why there are fewer than commands, or None.
    """

    packet: Packet
    replies: list[Any]
    taken: Taken
    failure: Failed | None

    def passing(self) -> Failed | None:
        """Return the failure of a server that does not serve now, when a reply says so."""
        for reply in self.replies:
            if isinstance(reply, Exception):
                failure = sort(reply, sent=True, where="the server")
                if failure.fate is not Fate.REFUSED:
                    return failure
        return None


class Sent:
    """Sends a packet and collects its replies.

    Args:
        rounds: who made it.
        packet: what to send.
        link: the connection.
        done: called when it is over; perhaps at once, when the connection is lost already.
    """

    __slots__ = ("_began", "_done", "_link", "_missing", "_over", "_packet", "_replies", "_rounds")

    def __init__(self, rounds: Rounds, packet: Packet, link: AsyncLink, done: Done) -> None:
        self._rounds = rounds
        self._packet = packet
        self._link = link
        self._done = done
        self._replies: list[Any] = []
        self._missing: list[int] = []
        self._over = False
        self._began = monotonic()
        link.send([by_sha(one) for one in packet.commands], [self._replied] * len(packet.commands))

    def _replied(self, reply: Any) -> None:
        if self._over:  # one more word about what has failed
            return
        if isinstance(reply, Failed):
            self._end(reply)
            return
        self._replies.append(reply)
        if len(self._replies) == len(self._packet.commands):
            self._missing = self._rounds.missing(self._replies)
            if not self._missing:
                self._end(None)
                return
            texts = [by_text(self._packet.commands[place]) for place in self._missing]
            self._link.send(texts, [partial(self._replaced, place) for place in self._missing])

    def _replaced(self, place: int, reply: Any) -> None:
        if self._over:
            return
        if isinstance(reply, Failed):  # what the other commands brought counts
            self._end(reply)
            return
        self._replies[place] = reply
        if place == self._missing[-1]:
            self._end(None)

    def _end(self, failure: Failed | None) -> None:
        self._over = True
        packet, replies = self._packet, self._replies
        if not packet.block and monotonic() - self._began > SLOW:
            self._rounds.distrust()
        try:
            taken = self._rounds.take(packet, replies)
        except Exception as error:
            taken, replies = Taken(unanswered=[one for some in packet.settles for one in some]), []
            failure = sort(ConnectionError(repr(error)), sent=True, where=self._link.where)
        self._done(Answered(packet, replies, taken, failure))
