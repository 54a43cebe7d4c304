"""What one packet of a source's engine asks the server, and what the replies mean; without doing it.

Rules:

- Settlements go first, then what gives back, then what looks for others' work, then what claims.
- While nothing is there, a packet waits on all streams. As long as something is, they are swept in their
  order, and a backlog is claimed from its own stream. An end that somebody may wait for is never settled in
  front of a wait: the engine has to read the answer to it first.
- When others' work is looked for and taken over, `others.py` says.
- A source that is paused is asked whether it still is, and gives back what was taken meanwhile.
- What a claim has brought is not begun when its answer is looked at so late that its lease may have run out
  (`LATE`): the next packet renews the lease of what is still ours, which is begun then, and in its order.
  Perhaps it was too much for the way here: so the next claims, or those after a lost one, are for half of it.
- A log that has lost its group gets it again, at the last id that was seen of it.
- No I/O and no clock but the one given: engines send. `next`, and `take` of what it returned, are for one
  thread at a time; all the rest may be called from any.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from redis_toolkit._core.flow import Command, Flow, ScriptCall
from redis_toolkit._core.flows import leases
from redis_toolkit._core.flows.durable import group_call, make_group
from redis_toolkit._core.flows.work import Claim, Claimed, Held, Settled, Settlement
from redis_toolkit._core.recovery import as_reply, describe, lacks_group, lacks_script, sort
from redis_toolkit.jobs import Durable
from redis_toolkit.worker.alone import Alone
from redis_toolkit.worker.doubts import Doubts
from redis_toolkit.worker.others import Others
from redis_toolkit.worker.packet import Ask, Packet, Taken

__all__ = ["SLOW", "Rounds"]

LATE = 0.6
"""Leases after a claim was sent, from which on what it brought is not begun: the next heartbeat might come
when the lease is over."""
SLOW = 1.0
"""Seconds after which an answer shows that the server, the way there or this process stood still."""
PAUSED_SECONDS = 2.0
REFUSED_SECONDS = 1.0
BULK = 16
"""From how many free places on a backlog is claimed from its own stream: it may bring more than are free."""
STRIKES = 3
"""Claims in a row that find no group, although it was made, before the source counts as refused."""
UNHEARD = frozenset({"ok", "later"})
"""Outcomes for which nobody waits."""


class Rounds:
    """Makes the packets of one source in one process.

    Args:
        durable: the source.
        consumer: this process's name in the group.
        lease: seconds.
        alone: the way to the place where suspects run; None: one of its own.
        now: a clock in seconds.

    Attributes:
        due: called with the server's ms now, and the ms when something of the source is due, or None.
        cancelled: called with ids that were cancelled, before what was claimed with that answer is returned.
        state_lost: called when groups that were there had to be made again: the server has lost something.
        awake: set by the engine; called from any thread when there is no reason to wait out a pause any more.
        where: the server's URL without its password, for messages.
        ended: whether something of a log has ended since this was set to False.
    """

    def __init__(
        self,
        durable: Durable,
        consumer: str,
        lease: float,
        alone: Alone | None = None,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.due: Callable[[int, int | None], None] = _nothing_is_due
        self.cancelled: Callable[[list[str]], None] = _nothing_is_cancelled
        self.state_lost: Callable[[], None] = lambda: None
        self.awake: Callable[[], None] = lambda: None
        self.where = "the server"
        self.ended = False
        self._durable = durable
        self._source = durable.source
        self._log = None if durable.is_queue else len(durable.source.streams) - 1
        self._consumer = consumer
        self._lease_ms = int(lease * 1000)
        self._late = LATE * lease
        self._now = now
        self._alone = alone or Alone(now)
        self._others = Others(self._source, consumer, lease, now, self._alone, self._refuse)
        self._doubts = Doubts(self._source, consumer, self._alone, self._refuse)
        self._idle = False  # the last claim brought nothing
        self._most = sys.maxsize  # what one claim asks for
        self._backlog: int | None = None  # the stream of a claim that was full
        self._paused = False
        self._back: list[Held] = []  # taken although the source was paused
        self._last = durable.after  # the last id that was seen of the log
        self._known = False  # all its groups were there
        self._regroup = False
        self._strikes = 0

    def begin(self) -> Flow[bool]:
        """Make the group of a channel if it is missing, note where it stands; returns whether it was made.

        The groups of a queue are made by the first claim.
        """
        if self._log is None:
            return False
        made, self._last = yield from make_group(self._group_call(seen=False))
        self._known = True
        return made

    # -- asking -----------------------------------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> Packet:
        """Return what only settles."""
        packet = Packet()
        for call, batch in leases.settle_calls(self._source, self._consumer, settlements):
            packet.commands.append(call)
            packet.settles.append(batch)
        return packet

    def release(self, held: Sequence[Held]) -> Packet:
        """Return what gives back entries that were not run, without counting the delivery."""
        packet = Packet()
        self._give_back(packet, held)
        return packet

    def next(self, settlements: Sequence[Settlement], free: int, block: float) -> Packet:
        """Return what settles and then claims.

        Args:
            settlements: any number.
            free: how many may be claimed; 0 claims nothing.
            block: seconds that it may wait when nothing is there; 0 does not wait.
        """
        packet = self.settle(settlements) if settlements else Packet()
        if self._paused or not free:
            self._back += self._doubts.dismissed()
        if self._back:
            back, self._back = self._back, []
            self._give_back(packet, back)
        if free > 0:
            self._claim(packet, settlements, free, block)
        packet.sent = self._now()
        return packet

    def _claim(self, packet: Packet, settlements: Sequence[Settlement], free: int, block: float) -> None:
        source, consumer, free = self._source, self._consumer, min(free, self._most)
        if self._paused:
            self._ask(packet, Ask(self._still_paused, (("EXISTS", source.paused),)))
            return
        if self._doubts.held:
            self._ask(packet, self._doubts.ask())
            return
        if self._regroup:
            self._ask(packet, Ask(self._regrouped, (self._group_call(seen=True),)))
        elif (takes := self._others.take(free)) is not None:
            self._ask(packet, takes)
            return
        elif (looks := self._others.look()) is not None:
            self._ask(packet, looks)
            if self._idle:
                return  # what it finds does not wait for a block to end
        soon = self._others.pause() > 0
        if self._idle and block > 0 and not soon and all(one.outcome.state in UNHEARD for one in settlements):
            packet.block = block = min(block, self._others.longest_block())
            ms = max(int(block * 1000), 1)
            self._ask(packet, Ask(self._waited, leases.block(source, consumer, ms)))
        elif self._backlog is not None and free >= BULK:
            both = leases.claim_packet(source, consumer, free, self._backlog)
            self._ask(packet, Ask(self._took_backlog, both, free, self._backlog))
        else:
            self._ask(packet, Ask(self._swept, (leases.claim_call(source, consumer, free),), free))

    def _group_call(self, *, seen: bool) -> ScriptCall:
        durable = self._durable
        return group_call(
            durable.channel,
            self._source.group,
            after=self._last,
            seen=seen,
            max_backlog=durable.max_backlog,
            drop=durable.drop,
            keep_ms=durable.keep_ms,
        )

    def _give_back(self, packet: Packet, held: Sequence[Held]) -> None:
        calls = leases.release_calls(self._source, self._consumer, held, self._lease_ms)
        self._ask(packet, Ask(self._gave_back, calls, held=held))

    @staticmethod
    def _ask(packet: Packet, ask: Ask) -> None:
        packet.commands += ask.commands
        packet.asks.append(ask)

    # -- reading ----------------------------------------------------------------------------------

    @staticmethod
    def missing(replies: Sequence[Any]) -> list[int]:
        """Return the places of scripts that the server does not know: they go again, by text."""
        return [place for place, reply in enumerate(replies) if lacks_script(reply)]

    def take(self, packet: Packet, replies: Sequence[Any]) -> Taken:
        """Return what the replies mean. There may be fewer than commands, when the connection was lost."""
        taken = Taken()
        for batch, reply in zip(packet.settles, replies, strict=False):
            self._settled(batch, reply, taken)
        place = len(packet.settles)
        for batch in packet.settles[len(replies) :]:
            taken.unanswered += batch
        for ask in packet.asks:
            some = replies[place : place + len(ask.commands)]
            if some:
                ask.read(ask, some, taken)
            else:
                self._others.unanswered(ask)
            if ask.number and len(some) < len(ask.commands):
                self._most = max(ask.number // 2, 1)
            place += len(ask.commands)
        took = self._now() - packet.sent if packet.sent else 0.0
        if took > packet.block + SLOW:
            self.distrust()
        self._judge(packet, taken, took)
        return taken

    def _judge(self, packet: Packet, taken: Taken, took: float) -> None:
        """Doubt what came late; ask for less the next time, or for more when much came soon."""
        number, asked = len(taken.claimed), max((ask.number for ask in packet.asks), default=0)
        if took > self._late and number:
            self._most = max(number // 2, 1)
            self._doubts.held += taken.claimed
            taken.claimed = []
        elif self._most == asked <= number and took < self._late / 4:
            self._most *= 2

    def _settled(self, batch: list[Settlement], reply: Any, taken: Taken) -> None:
        if isinstance(reply, Exception):
            why = str(reply)
            if lacks_group(why):  # and with the group it has lost who holds what
                self._idle = False
                taken.lost += batch
            else:
                taken.unsettled += [(one, why) for one in batch]
            return
        if reply[0] or reply[1]:
            settled = Settled()
            leases.read_settled(reply, batch, settled)
            taken.waiters += settled.waiters
            failed = {id(one) for one, _ in settled.failed}
            batch = [one for one in batch if id(one) not in failed]
            for one, why in settled.failed:
                if why == "lost":
                    taken.lost.append(one)
                else:
                    taken.unsettled.append((one, why))
        taken.counted += batch
        if batch and batch[0].held.stream == self._log:
            self.ended = True

    def _swept(self, ask: Ask, replies: Sequence[Any], taken: Taken) -> None:
        [reply] = replies
        if isinstance(reply, Exception):
            self._refuse(reply, ask.commands[0], taken)
            return
        found = leases.read_claim(reply)
        full = len(found.items) >= ask.number
        self._idle = not found.items
        if self._idle:
            taken.pause = self._others.pause()
        self._backlog = found.items[-1].stream if full else None
        self._found_items(found, ask, taken)

    def _took_backlog(self, ask: Ask, replies: Sequence[Any], taken: Taken) -> None:
        first, *second = replies
        if isinstance(first, Exception):
            self._refuse(first, ask.commands[0], taken)
            found = Claim(0, None)
        else:
            found = leases.read_claim(first)
        before = len(found.items)
        for reply in second:
            if isinstance(reply, Exception):
                self._refuse(reply, ask.commands[1], taken)
            else:
                found.items += leases.read_block(self._source, reply)
        self._idle = not found.items
        if before >= ask.number:
            self._backlog = found.items[before - 1].stream
        elif len(found.items) - before < ask.number:
            self._backlog = None
        self._found_items(found, ask, taken)

    def _waited(self, ask: Ask, replies: Sequence[Any], taken: Taken) -> None:
        reply, *paused = replies
        if isinstance(reply, Exception):
            self._idle = False
            self._refuse(reply, ask.commands[0], taken)
            return
        items = leases.read_block(self._source, reply)
        self._idle, self._backlog = not items, None
        if paused == [1]:
            self._pause(items, taken)
        else:
            self._keep(items, taken)

    def _found_items(self, found: Claim, ask: Ask, taken: Taken) -> None:
        """Take what a claim by script brought, and what it said about the source."""
        if found.now:
            self.due(found.now, found.due)
        if found.cancelled:
            self.cancelled(found.cancelled)
        if found.paused:
            self._pause(found.items, taken)
            return
        if found.error:
            self._refuse(as_reply(found.error), ask.commands[0], taken)
        elif taken.refused is None and not self._regroup:
            if (found.made or self._strikes) and self._known:
                self.state_lost()
            self._strikes = 0
            if len(ask.commands) == 1 and len(found.items) < ask.number:
                self._known = True  # every stream was reached, and what was missing made
        self._keep(found.items, taken)

    def _keep(self, items: list[Claimed], taken: Taken) -> None:
        taken.claimed += items
        if items and items[-1].stream == self._log:
            self._last = items[-1].entry.decode("ascii")

    def _pause(self, items: Sequence[Held], taken: Taken) -> None:
        self._paused = True
        self._back += items
        taken.pause = 0.0 if items else PAUSED_SECONDS

    def _still_paused(self, ask: Ask, replies: Sequence[Any], taken: Taken) -> None:
        if isinstance(replies[0], Exception):
            self._refuse(replies[0], ask.commands[0], taken)
        elif replies[0]:
            taken.pause = PAUSED_SECONDS
        else:
            self._paused = self._idle = False

    def _regrouped(self, ask: Ask, replies: Sequence[Any], taken: Taken) -> None:
        if isinstance(replies[0], Exception):
            self._refuse(replies[0], ask.commands[0], taken)
            return
        self._regroup = False
        made, at = replies[0]
        if made:
            self._last = at.decode("ascii")

    def _gave_back(self, ask: Ask, replies: Sequence[Any], taken: Taken) -> None:
        """They are others' to take; where the server refused, when the lease has run out."""

    def _refuse(self, error: Exception, command: Command | ScriptCall, taken: Taken) -> bool:
        """Note why the server did not do something; True: the group is missing, and is made again."""
        if missing := lacks_group(str(error)):
            self._strikes += 1
            self._idle, self._backlog = False, None
            self._regroup = self._log is not None
            if self._strikes <= STRIKES:
                return missing
        taken.refused = sort(error, sent=True, where=self.where, doing=describe(command))
        taken.pause = 0.0 if taken.claimed else REFUSED_SECONDS
        return missing

    # -- what is heard ----------------------------------------------------------------------------

    def hurry(self) -> None:
        """Look for what others have released with the next packet that claims."""
        self._others.hurry()

    def distrust(self) -> None:
        """The connection was lost, or an answer was slow: leave others' work alone for a while."""
        self._others.distrust()

    def pause(self) -> None:
        """The source is said to be paused: ask before the next claim."""
        self._paused = True

    def resume(self) -> None:
        """The source is said to be resumed: ask at once."""
        self.awake()


def _nothing_is_cancelled(_ids: list[str]) -> None:
    """Stand in for who wants to know."""


def _nothing_is_due(_now_ms: int, _due_ms: int | None) -> None:
    """Stand in for who wants to know."""
