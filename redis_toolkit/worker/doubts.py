"""What a claim has brought so late that its lease may have run out: it may be somebody else's by now.

Rules:

- Nothing renews what has not been looked at. So the server is asked, by what renews a lease, and what is
  still this consumer's is begun then, in the order in which it was claimed.
- What is somebody else's is dropped: nothing was begun, and no more is known of it.
- Until the server has answered it stays here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from redis_toolkit._core.flow import Command, ScriptCall
from redis_toolkit._core.flows import leases
from redis_toolkit._core.flows.work import Claimed, Source
from redis_toolkit.worker.alone import Alone
from redis_toolkit.worker.packet import Ask, Taken

__all__ = ["Doubts"]

Refuse = Callable[[Exception, Command | ScriptCall, Taken], bool]


class Doubts:
    """Asks whether what came late is still held.

    Args:
        source: its keys.
        consumer: this process's name in the group.
        alone: this consumer's way to the place of suspects, as one of these may be one.
        refuse: called with an error that the server answered; returns whether the group is missing.

    Attributes:
        held: what came late.
    """

    def __init__(self, source: Source, consumer: str, alone: Alone, refuse: Refuse) -> None:
        self._source = source
        self._consumer = consumer
        self._alone = alone
        self._refuse = refuse
        self.held: list[Claimed] = []

    def dismissed(self) -> list[Claimed]:
        """Return what is to be given back, as nothing is begun now."""
        held, self.held = self.held, []
        self._alone.leave(held)
        return held

    def ask(self) -> Ask:
        """Return what renews the leases of all that came late."""
        renewals = leases.renew_calls(self._source, self._consumer, self.held)
        read = partial(self._renewed, [batch for _, batch in renewals])
        return Ask(read, [call for call, _ in renewals])

    def _renewed(self, batches: list[list[Claimed]], ask: Ask, replies: Sequence[Any], taken: Taken) -> None:
        self.held = [one for batch in batches[len(replies) :] for one in batch]
        for batch, command, reply in zip(batches, ask.commands, replies, strict=False):
            if not isinstance(reply, Exception):
                kept, lost = leases.read_renewed(reply, batch)
                taken.claimed += kept
                self._alone.leave(lost)
            elif self._refuse(reply, command, taken):
                self._alone.leave(batch)
            else:
                self.held += batch
