"""How work ends: the settlement of an entry whose handler returned or raised, or that was never run.

Rules:

- A failure is tried again as the job's policy says; then the entry is a dead letter, with the reason.
- Who waits for a task gets the bytes that are kept as its record: the envelope of a reply.
- A failure is one log record, and counted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from redis_toolkit import keys
from redis_toolkit._core.flow import Command
from redis_toolkit._core.flows import events, serving
from redis_toolkit._core.flows.work import Claimed, DeadLetter, Ended, Held, Later, Ok, Settlement
from redis_toolkit.envelope_fields import text_of, traceback_text
from redis_toolkit.errors import (
    EncodeError,
    PayloadMismatch,
    RedisToolkitError,
    Reject,
    Retry,
    TaskCancelled,
    one_line,
)
from redis_toolkit.jobs import RESULT_TTL, Durable, Policy
from redis_toolkit.message import Message
from redis_toolkit.settings import MAX_SECONDS
from redis_toolkit.strange import tamed
from redis_toolkit.task_envelope import task_payload
from redis_toolkit.tracebacks import OF_HANDLER
from redis_toolkit.wire import Wire
from redis_toolkit.worker import forked
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.holdings import Item
from redis_toolkit.worker.task_view import started_at, task_dict

__all__ = ["Ending", "Read", "shown_id"]

logger = logging.getLogger("redis_toolkit")

T = TypeVar("T")
COMPLETED, FAILED = "tasks:completed", "tasks:failed"
RETRIES_ASKED_FOR = 25
"""How often `Retry` is heeded, when the policy allows less for failures and says nothing of it."""
ERROR_SIGNS = 2_000
TRACEBACK_SIGNS = 16_000
_OK = Ok()
_FINAL = {PayloadMismatch: "mismatched", Reject: "rejected"}


@dataclass(slots=True)
class Read:
    """What is known of an entry, read or not.

    Attributes:
        claimed: it.
        wire: how its reply is written.
        id: of the task or the event; the entry's when it cannot be known.
        type: of the task, or "".
        unique: the unique key that the task holds, or "".
        ttl: seconds for which its end is kept; 0 keeps none.
        fields: the envelope of the task, as far as it could be read.
        started_at: wall-clock seconds when its handler began, or None.
    """

    claimed: Claimed
    wire: Wire
    id: str | bytes
    type: str = ""
    unique: str = ""
    ttl: float = RESULT_TTL
    fields: dict[str, Any] | None = None
    started_at: float | None = None


class _Told(Settlement):
    """A settlement after which somebody is told: the address of a reply, subscribers, or both."""

    __slots__ = ("reply_to", "then")

    def __init__(
        self,
        held: Held,
        id: str | bytes,
        outcome: Ended | Ok | DeadLetter,
        attempt: int = 1,
        lock: str = "",
        reply_to: str | None = None,
        then: Command | None = None,
    ) -> None:
        super().__init__(held, id, outcome, attempt, lock)
        self.reply_to = reply_to
        self.then = then


class Ending:
    """Makes settlements of one source.

    Args:
        durable: the source.
        worker: how this process is named in tasks.
        counters: where failures are counted.
        send_tracebacks: whether an error reply has the handler's traceback.
    """

    def __init__(self, durable: Durable, worker: str, counters: Counters, *, send_tracebacks: bool) -> None:
        self._durable = durable
        self._source = durable.source
        self._is_queue = durable.is_queue
        self._announces = durable.announces
        self._worker = worker
        self._counters = counters
        self._send_tracebacks = send_tracebacks
        self._tells = durable.announces

    def done(self, item: Item, result: Any) -> Settlement:
        """Return the settlement of what has returned."""
        claimed, fields = item.claimed, item.fields
        if fields is None:
            if item.then is None:
                return Settlement(claimed, item.id, _OK)
            self._tells = True
            return _Told(claimed, item.id, _OK, then=item.then)
        if item.told:
            return self.cancelled(self._read(item))
        job, before = item.job, forked.generation
        try:
            reply = job.wire.reply(item.id, result)
        except BaseException as error:  # a payload's own code runs here too, which may even exit
            error = tamed(error)
            forked.end_fork(before, error)
            if not isinstance(error, EncodeError):
                error = EncodeError(_said(error))
            self._counters.add("failed")
            logger.warning("%s returned what cannot be sent: %s", self._which(item), error)
            return self.bury(self._read(item), "failed", error)
        ttl_ms = int(job.policy.result_ttl * 1000)
        if item.progressed and not ttl_ms:
            ttl_ms = -1
        ended = Ended("done", reply, ttl_ms, fields["task"])
        if self._announces or "reply_to" in fields:
            return self._telling(self._read(item), ended, ("completed", "result", result, "completed_at"))
        return Settlement(claimed, item.id, ended, claimed.attempt, item.unique)

    def failed(self, item: Item, error: BaseException, reason: str = "failed") -> Settlement:
        """Return the settlement of what has raised: another attempt, or the end."""
        error = tamed(error)
        if item.cancelled and self._is_queue:
            return self.cancelled(self._read(item))
        final = next((why for kind, why in _FINAL.items() if isinstance(error, kind)), None)
        attempt = item.claimed.attempt
        wait = _wait(item.job.policy, error, attempt) if final is None else None
        if wait is None or not isinstance(error, Retry):
            self._counters.add(final or "failed")
        self._log(item, error, final, wait)
        if wait is not None:
            self._counters.add("retried")
            return Settlement(item.claimed, item.id, Later(int(wait * 1000)), attempt + 1, item.unique)
        return self.bury(self._read(item), final or reason, error, trace=final is None)

    def unbegun(self, item: Item) -> Settlement:
        """Return the settlement of what is not to be begun any more."""
        if item.cancelled and self._is_queue:
            return self.cancelled(self._read(item))
        return Settlement(item.claimed, item.id, Later(0), item.claimed.attempt, item.unique)  # it is lost

    def cancelled(self, read: Read) -> Settlement:
        """Return the settlement of a task that was cancelled."""
        self._counters.add("cancelled")
        return self.ended(read, "cancelled", TaskCancelled(f"task {read.id!r} was cancelled"))

    def ended(self, read: Read, state: str, error: Exception) -> Settlement:
        """Return the settlement of a task that ends with an error and is no dead letter."""
        reply = read.wire.error_reply(str(read.id), error)
        ended = Ended(state, reply, int(read.ttl * 1000), read.type)
        return self._telling(read, ended, (state, "error", _said(error), "failed_at"))

    def bury(self, read: Read, reason: str, error: BaseException, *, trace: bool = False) -> Settlement:
        """Return the settlement of a dead letter."""
        self._counters.add("dead")
        said, text, reply, ttl = _said(error)[:ERROR_SIGNS], traceback_text(error) if trace else "", b"", 0.0
        if self._is_queue and isinstance(read.id, str):
            reply = read.wire.error_reply(read.id, error, text if self._send_tracebacks else None)
            ttl = read.ttl
        letter = DeadLetter(
            reason,
            said,
            text[-TRACEBACK_SIGNS:],
            reply,
            int(ttl * 1000),
            read.type,
        )
        if not self._is_queue and (then := self._burial(read)) is not None:
            self._tells = True
            return _Told(read.claimed, read.id, letter, read.claimed.attempt, read.unique, then=then)
        return self._telling(read, letter, ("failed", "error", said, "failed_at"))

    def after(
        self, counted: Iterable[Settlement], waiters: Iterable[tuple[bytes, list[str]]]
    ) -> list[Command]:
        """Return what to send once settlements have counted; see `Performer.after`."""
        waiting = list(waiters)
        if not waiting and not self._tells:
            return []
        told: dict[str | bytes, bytes] = {}
        deliveries: list[tuple[str, bytes]] = []
        commands: list[Command] = []
        for one in counted:
            outcome = one.outcome
            reply = outcome.reply if isinstance(outcome, Ended | DeadLetter) else b""
            if waiting:
                told[one.id.encode() if isinstance(one.id, str) else one.id] = reply
            if isinstance(one, _Told):
                if one.reply_to is not None:
                    deliveries.append((one.reply_to, reply))
                if one.then is not None:
                    commands.append(one.then)
        for whose, addresses in waiting:
            known = told.get(whose)
            if known:
                deliveries += [(address, known) for address in addresses if keys.is_reply_key(address)]
        return [*(command for pair in serving.push_replies(deliveries) for command in pair), *commands]

    # -- what they have in common -----------------------------------------------------------------

    def _read(self, item: Item) -> Read:
        job, fields = item.job, item.fields
        kind = fields["task"] if fields is not None else ""
        ttl = job.policy.result_ttl
        if item.progressed and not ttl:
            ttl = -0.001  # the record that progress has made goes
        return Read(item.claimed, job.wire, item.id, kind, item.unique, ttl, fields, started_at(item))

    def _telling(
        self, read: Read, outcome: Ended | DeadLetter, said: tuple[str, str, Any, str]
    ) -> Settlement:
        """Return a settlement, with what is to be told when it counts."""
        held, fields = read.claimed, read.fields
        reply_to = fields.get("reply_to") if fields is not None else None
        if fields is None or not (self._announces or reply_to):
            return Settlement(held, read.id, outcome, held.attempt, read.unique)
        self._tells = True
        announcement = self._announcement(read, fields, *said) if self._announces else None
        return _Told(held, read.id, outcome, held.attempt, read.unique, reply_to, announcement)

    def _burial(self, read: Read) -> Command | None:
        """Return what says that an event is a dead letter, if anybody is told of those."""
        job = self._durable.jobs[""]
        if job.buried is None:
            return None
        try:  # as it came: its handler may have changed what it was given
            data, headers = read.wire.read_live(read.claimed.body or b"")
            return job.buried(Message(self._durable.channel, data, headers, str(read.id)))
        except RedisToolkitError as error:
            logger.warning(
                "nobody is told that %s is a dead letter: %s", shown_id(read.id), one_line(str(error))
            )
            return None

    def _announcement(
        self, read: Read, fields: dict[str, Any], status: str, name: str, what: Any, at: str
    ) -> Command | None:
        more = {
            "worker_id": self._worker,
            "started_at": read.started_at,
            "queue": self._durable.channel,
            at: time.time(),
        }
        channel = COMPLETED if status == "completed" else FAILED
        why: Exception | None = None
        for whole in (True, False):  # together they may be too large
            try:
                payload = _payload(read) if whole else None
                task = task_dict(self._source, read.claimed, fields, payload, status, **more)
                task[name] = what if whole or name == "error" else None
                return events.announcement(channel, read.wire.live(task))
            except Exception as error:  # a result's own code runs here too
                why = error
        logger.warning("the end of task %s is not announced: %s", shown_id(read.id), one_line(str(why)))
        return None

    def _which(self, item: Item) -> str:
        what, where = ("task", "queue ") if self._is_queue else ("event", "")
        return f"handler {item.job.binding.name} on {what} {shown_id(item.id)} of {where}{self._source.shown}"

    def _log(self, item: Item, error: BaseException, final: str | None, wait: float | None) -> None:
        which, attempt = self._which(item), item.claimed.attempt
        then = "it is a dead letter" if wait is None else f"again in {wait:.3g} s"
        if isinstance(error, Retry) and wait is not None:
            logger.info("%s asks for another attempt after attempt %d: %s", which, attempt, then)
        elif final is not None:
            logger.warning("%s: %s: %s", which, one_line(_said(error)), then)
        else:
            logger.warning(
                "%s failed in attempt %d: %s", which, attempt, then, exc_info=error, extra=OF_HANDLER
            )


def _nearest(kinds: Mapping[type[BaseException], T], error: BaseException) -> T | None:
    for kind in type(error).__mro__ if kinds else ():
        found = kinds.get(kind)
        if found is not None:
            return found
    return None


def _wait(policy: Policy, error: BaseException, attempt: int) -> float | None:
    """Return the seconds until the next attempt, or None when this was the last."""
    retries = _nearest(policy.retries_for, error)
    if retries is None:
        retries = policy.retries
        if isinstance(error, Retry):
            retries = max(retries, RETRIES_ASKED_FOR)
    if attempt > retries:
        return None
    asked = _asked_for(error)
    if asked is not None:
        return asked
    return (_nearest(policy.backoff_for, error) or policy.backoff).delay(attempt)


def _asked_for(error: BaseException) -> float | None:
    """Return the seconds that a `Retry` asks for: a user's own kind of it may have anything there."""
    try:
        delay: Any = error.delay if isinstance(error, Retry) else None
        return delay if type(delay) in (int, float) and 0 <= delay <= MAX_SECONDS else None
    except BaseException as failure:  # its own code runs here
        logger.warning("the delay that a handler asked for cannot be read: %s", type(failure).__name__)
        return None


def _payload(read: Read) -> Any:
    """Return the payload of a task as it came: its handler may have changed what it was given."""
    return task_payload(read.wire, read.wire.fields(read.claimed.body or b""))[0]


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {text_of(error)}"


def shown_id(id: str | bytes) -> str:
    """Return an id as a log line has it."""
    return one_line(id if isinstance(id, str) else id.decode("utf-8", "backslashreplace"))[:100]
