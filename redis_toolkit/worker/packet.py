"""One packet of a source's engine: what it sends, and what the replies turn out to mean.

Rules: nothing here does anything; `rounds.py` makes these, and engines send them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis_toolkit._core.flow import Command, ScriptCall
from redis_toolkit._core.flows.work import Claimed, Held, Settlement
from redis_toolkit._core.recovery import Failed

__all__ = ["TWICE", "Ask", "Packet", "Taken"]

TWICE = frozenset({"RPUSH", "PEXPIRE"})
"""Of what follows from settlements, what may be said twice: who waits takes the first."""


@dataclass(slots=True)
class Ask:
    """What some commands of a packet are about, after those that settle.

    Attributes:
        read: takes their replies, which may be fewer.
        commands: what they are.
        number: what they were asked with: how many at most.
        main: the stream of the backlog.
        held: what they give back.
        entered: whether the place of suspects was entered for what they take (`alone.py`).
    """

    read: Callable[[Ask, Sequence[Any], Taken], None]
    commands: Sequence[Command | ScriptCall]
    number: int = 0
    main: int = 0
    held: Sequence[Held] = ()
    entered: bool = False


@dataclass(slots=True)
class Packet:
    """Commands that leave together.

    Attributes:
        commands: what to send; scripts by their SHA1.
        settles: the settlements that each of the first commands carries.
        asks: what the others are about; for `Rounds` only.
        block: seconds that the last ones may wait on the server.
        sent: about when, on the clock of `Rounds`; 0 when it does not matter.
    """

    commands: list[Command | ScriptCall] = field(default_factory=list)
    settles: list[list[Settlement]] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    block: float = 0.0
    sent: float = 0.0


@dataclass(slots=True)
class Taken:
    """What the replies to a packet mean.

    Attributes:
        claimed: new entries, to be read by the performer and added to the holdings.
        counted: settlements that counted.
        waiters: who waits for the end of which id.
        lost: settlements that did not count, as the entry was somebody else's by then.
        unsettled: settlements that the server refused, and why: to be sent again after a pause.
        unanswered: settlements whose reply is missing: to be sent again with the next connection.
        refused: why nothing could be claimed, or None. When its fate is not ``REFUSED`` the server does not
            serve now, and the connection is better closed.
        pause: seconds to wait before the next packet that claims; `Rounds.awake` ends the wait.
    """

    claimed: list[Claimed] = field(default_factory=list)
    counted: list[Settlement] = field(default_factory=list)
    waiters: list[tuple[bytes, list[str]]] = field(default_factory=list)
    lost: list[Settlement] = field(default_factory=list)
    unsettled: list[tuple[Settlement, str]] = field(default_factory=list)
    unanswered: list[Settlement] = field(default_factory=list)
    refused: Failed | None = None
    pause: float = 0.0
