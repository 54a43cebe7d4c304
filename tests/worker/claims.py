"""Durable work without a server: what was claimed is made by hand, and settlements are looked at."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from redis_toolkit._core.flows.durable import group_source
from redis_toolkit._core.flows.tasks import queue_source
from redis_toolkit._core.flows.work import Claimed, DeadLetter, Ended, Later, Settlement
from redis_toolkit.binding import Binding
from redis_toolkit.codecs import Codec, JSONCodec
from redis_toolkit.jobs import Durable, Job, policy_of
from redis_toolkit.wire import Wire
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.heartbeat import ServerClock
from redis_toolkit.worker.holdings import Holdings, Item
from redis_toolkit.worker.performing import Performer

NOW_MS = 1_000_000
Function = Callable[..., Any]


def job_of(
    function: Function,
    kind: str = "",
    *,
    as_task: bool = False,
    app: object = None,
    codec: Codec | None = None,
    then: Any = None,
    **options: Any,
) -> Job:
    """Return a job as a registration makes it; ``options`` are those of its policy."""
    wire = Wire(codec or JSONCodec(), 10_000)
    return Job(kind, Binding(function, app), wire, policy_of(**options), as_task, then)


class StoppedClock(ServerClock):
    """A server's clock that shows what it is told."""

    def __init__(self, now: int | None) -> None:
        super().__init__()
        self.now = now

    def now_ms(self) -> int | None:
        return self.now

    def has_passed(self, server_ms: int) -> bool:
        return self.now is not None and self.now > server_ms


class Rig:
    """A performer whose server clock shows `NOW_MS` at first, and what it counted."""

    def __init__(self, durable: Durable, *, trace: bool = False, clock: bool = True) -> None:
        self.durable = durable
        self.counters = Counters()
        self.holdings = Holdings()
        self.clock = StoppedClock(NOW_MS if clock else None)
        self.performer = Performer(
            durable, "me", self.clock, self.counters, self.holdings, consumer="host:1", send_tracebacks=trace
        )

    @property
    def counted(self) -> dict[str, int]:
        return self.counters.snapshot()

    def item(self, claimed: Claimed) -> Item:
        item = self.performer.read(claimed)
        assert isinstance(item, Item), item
        return item

    def unread(self, claimed: Claimed) -> Settlement:
        settlement = self.performer.read(claimed)
        assert isinstance(settlement, Settlement), settlement
        return settlement

    def run(self, claimed: Claimed) -> Settlement:
        """Read what was claimed and run its handler, of either kind."""
        item = self.item(claimed)
        if item.job.binding.is_async:
            return asyncio.run(self.performer.aperform(item))
        return self.performer.perform(item)


def queue(*jobs: Job, trace: bool = False, clock: bool = True, **options: Any) -> Rig:
    """Return a rig of the queue "q"."""
    source = queue_source("q", ("high", "low"))
    return Rig(
        Durable(source, {job.type: job for job in jobs}, "q", is_queue=True, **options),
        trace=trace,
        clock=clock,
    )


def group(job: Job, **options: Any) -> Rig:
    """Return a rig of the group "billing" of "orders"."""
    source = group_source("orders", "billing")
    return Rig(Durable(source, {"": job}, "orders", is_queue=False), **options)


def task(data: Any = None, kind: str = "add", **fields: Any) -> bytes:
    """Return the envelope of a task with id "7"; `...` leaves a field out."""
    whole = {"id": "7", "task": kind, "data": data, **fields}
    return json.dumps({name: value for name, value in whole.items() if value is not ...}).encode()


def claimed(body: bytes | None, **more: Any) -> Claimed:
    """Return an entry of the second stream, as a claim brings it."""
    return Claimed(**{"stream": 1, "entry": b"5000-0", "deliveries": 1, "body": body, **more})


def reply_of(settlement: Settlement) -> Any:
    """Return the envelope that callers get."""
    assert isinstance(settlement.outcome, Ended | DeadLetter), settlement
    return json.loads(settlement.outcome.reply)


def letter_of(settlement: Settlement) -> DeadLetter:
    assert isinstance(settlement.outcome, DeadLetter), settlement
    return settlement.outcome


def wait_of(settlement: Settlement) -> tuple[int, int | str]:
    """Return after how many ms which attempt follows."""
    assert isinstance(settlement.outcome, Later), settlement
    return settlement.outcome.delay_ms, settlement.attempt
