"""An engine of one line: sends what rounds ask for on one connection, and takes the replies."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from redis_toolkit._core.connection import Connections
from redis_toolkit._core.flow import ScriptCall, by_sha, by_text
from redis_toolkit._core.flows import durable, tasks
from redis_toolkit._core.flows.work import Claimed, Ended, Held, Later, Ok, Settlement
from redis_toolkit.jobs import Durable
from redis_toolkit.worker.alone import Alone
from redis_toolkit.worker.packet import Packet, Taken
from redis_toolkit.worker.rounds import Rounds
from tests.kit.servers import Server

DEADLINE = 30.0
QUEUE = Durable(tasks.queue_source("q", ("high", "low")), {}, "q", is_queue=True)
GROUP = Durable(durable.group_source("c", "g"), {}, "c", is_queue=False)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Turns:
    """One consumer of a source, whose packets are sent by hand.

    Attributes:
        asked: the names of the commands of the last packet.
        lost: how often the server had lost its groups.
    """

    def __init__(
        self, server: Server, of: Durable = QUEUE, consumer: str = "me", lease: float = 10.0
    ) -> None:
        self.link = Connections(server.url).dedicated()
        self.clock = Clock()
        self.alone = Alone(self.clock)
        self.rounds = Rounds(of, consumer, lease, self.alone, now=self.clock)
        self.asked: list[str] = []
        self.due: list[tuple[int, int | None]] = []
        self.cancelled: list[str] = []
        self.lost = 0
        self.rounds.due = lambda now_ms, due_ms: self.due.append((now_ms, due_ms))
        self.rounds.cancelled = self.cancelled.extend
        self.rounds.state_lost = self._note_lost

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *_: object) -> None:
        self.link.close()
        self.alone.close()

    def turn(self, *settlements: Settlement, free: int = 10, block: float = 0.0) -> Taken:
        """Settle and claim."""
        return self.post(self.rounds.next(settlements, free, block))

    def post(self, packet: Packet) -> Taken:
        """Send a packet and take what comes of it."""
        return self.rounds.take(packet, self.replies(packet))

    def replies(self, packet: Packet) -> list[Any]:
        """Send a packet; scripts that the server lacks go again."""
        commands = packet.commands
        self.asked = [name_of(command) for command in commands]
        replies = self.link.call([by_sha(command) for command in commands], time.monotonic() + DEADLINE)
        for place in self.rounds.missing(replies):
            [replies[place]] = self.link.call([by_text(commands[place])], time.monotonic() + DEADLINE)
        return replies

    def until_claimed(self, free: int = 10) -> list[Claimed]:
        """Take turns until one brings something."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            found = self.turn(free=free, block=0.05).claimed
            if found:
                return found
            self.clock.now += 0.1
        raise AssertionError("nothing was claimed")

    def _note_lost(self) -> None:
        self.lost += 1


def name_of(command: Any) -> str:
    return command.script.name if isinstance(command, ScriptCall) else str(command[0])


def done(claimed: Held, id: str = "7") -> Settlement:
    return Settlement(claimed, id, Ended("done", b"{}", 60_000))


def ok(claimed: Held) -> Settlement:
    return Settlement(claimed, "7", Ok())


def later(claimed: Held, id: str = "7", ms: int = 60_000) -> Settlement:
    return Settlement(claimed, id, Later(ms), attempt=2)


def bodies(claimed: Sequence[Claimed]) -> list[bytes | None]:
    return [one.body for one in claimed]
