"""Consumers without an engine, and what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from redis_toolkit._core.flows.work import Claimed
from redis_toolkit.binding import Binding
from redis_toolkit.codecs import resolve_codec
from redis_toolkit.jobs import Durable, Job, Policy
from redis_toolkit.message import Message
from redis_toolkit.settings import Settings
from redis_toolkit.wire import Wire
from redis_toolkit.worker.consumer import Consumer
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.heartbeat import ServerClock
from redis_toolkit.worker.holdings import Item
from tests.kit.servers import Server
from tests.lua import trips
from tests.lua.driving import ask, drive
from tests.worker.turns import QUEUE


def _handler(data: Any) -> None: ...


JOB = Job("", Binding(_handler), Wire(resolve_codec("json"), 1024), Policy())


def consumer_of(
    of: Durable = QUEUE, *, lease: float = 0.4, clock: ServerClock | None = None, **settings: Any
) -> Consumer:
    """Return this process's part in a queue or group: it is called "me"."""
    with_job = replace(of, jobs={"": JOB})
    return Consumer(with_job, "me", Settings(lease=lease, **settings), clock or ServerClock(), Counters())


def hold(consumer: Consumer, server: Server, free: int = 100) -> list[Item]:
    """Claim what is there, long ago."""
    claimed = drive(server, trips.claim(consumer.source, consumer.name, free)).items
    items = [item_of(one, str(number)) for number, one in enumerate(claimed, 1)]
    for item in items:
        consumer.holdings.add(item)
    return items


def item_of(claimed: Claimed, id: str) -> Item:
    message = Message(id=id, channel="q", data=None)
    return Item(claimed, id, JOB, message, since=0.0)


def idle_ms(server: Server, stream: str, group: str) -> dict[str, int]:
    """Return for how long each entry has had no sign of life."""
    return {row[0]: row[2] for row in ask(server, "XPENDING", stream, group, "-", "+", 1000)}


def age(server: Server, stream: str, group: str, item: Item, ms: int = 100_000) -> None:
    """Have a claimed entry look as if nothing had been heard of it for long."""
    entry = item.claimed.entry
    server.execute(
        "XCLAIM", stream, group, "me", 0, entry, "IDLE", ms, "RETRYCOUNT", item.claimed.deliveries, "JUSTID"
    )


@contextmanager
def running(part: Any) -> Iterator[None]:
    """Start something, and stop it at the end."""
    part.start()
    try:
        yield
    finally:
        part.stop()
