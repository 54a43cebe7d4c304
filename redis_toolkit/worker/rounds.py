"""What one packet of a source's engine asks the server, and what the replies mean; without doing it.

Rules: settlements go first, then what claims. No I/O and no clock but the one given: engines send.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis_toolkit._core.flow import Command, ScriptCall
from redis_toolkit._core.flows.work import Claimed, Held, Settlement
from redis_toolkit.jobs import Durable

__all__ = ["Packet", "Rounds", "Taken"]


@dataclass(slots=True)
class Packet:
    """Commands that leave together.

    Attributes:
        commands: what to send; scripts by their SHA1.
        settles: the settlements that each of the first commands carries.
        asks: what each of the others is about; known to `Rounds` only.
        block: seconds that the last one may wait on the server.
    """

    commands: list[Command | ScriptCall] = field(default_factory=list)
    settles: list[list[Settlement]] = field(default_factory=list)
    asks: list[str] = field(default_factory=list)
    block: float = 0.0


@dataclass(slots=True)
class Taken:
    """What the replies to a packet mean.

    Attributes:
        claimed: new entries, to be read by the performer and added to the holdings.
        counted: settlements that counted.
        waiters: who waits for the end of which id.
        lost: settlements that did not count, as the entry was somebody else's by then.
        unsettled: settlements that the server refused, and why: to be sent again after a pause.
        refused: why nothing could be claimed, or None.
        pause: seconds to wait before the next packet that claims.
    """

    claimed: list[Claimed] = field(default_factory=list)
    counted: list[Settlement] = field(default_factory=list)
    waiters: list[tuple[bytes, list[str]]] = field(default_factory=list)
    lost: list[Settlement] = field(default_factory=list)
    unsettled: list[tuple[Settlement, str]] = field(default_factory=list)
    refused: Exception | None = None
    pause: float = 0.0


class Rounds:
    """Makes the packets of one source in one process.

    Args:
        durable: the source.
        consumer: this process's name in the group.
        lease: seconds.
        now: a clock in seconds.

    Attributes:
        due: called with the server's ms now, and the ms when something of the source is due, or None.
        cancelled: called when the server has cancelled ids of which this process may not have heard.
    """

    def __init__(
        self, durable: Durable, consumer: str, lease: float, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.due: Callable[[int, int | None], None] = lambda now_ms, due_ms: None
        self.cancelled: Callable[[], None] = lambda: None

    def settle(self, settlements: Sequence[Settlement]) -> Packet:
        """Return what only settles."""
        raise NotImplementedError

    def next(self, settlements: Sequence[Settlement], free: int, block: float) -> Packet:
        """Return what settles and then claims.

        Args:
            settlements: any number.
            free: how many may be claimed; 0 claims nothing.
            block: seconds that it may wait when nothing is there; 0 does not wait.
        """
        raise NotImplementedError

    def release(self, held: Sequence[Held]) -> Packet:
        """Return what gives back entries that were not run, without counting the delivery."""
        raise NotImplementedError

    def missing(self, packet: Packet, replies: Sequence[Any]) -> list[int]:
        """Return the places of scripts that the server does not know: they go again, by text."""
        raise NotImplementedError

    def take(self, packet: Packet, replies: Sequence[Any]) -> Taken:
        """Return what the replies mean. There may be fewer than commands, when the connection was lost."""
        raise NotImplementedError

    def hurry(self) -> None:
        """Look for what others have released with the next packet that claims."""
        raise NotImplementedError

    def distrust(self) -> None:
        """The connection was lost, or an answer was slow: leave others' work alone for 7.5 s."""
        raise NotImplementedError
