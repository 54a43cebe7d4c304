"""A caller and a worker of each library, and what measures the requests between them.

Rule: each pair has a channel of its own, so that no worker answers for another one.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.environments import OURS
from benchmarks.figures import Figures
from benchmarks.servers import NatsServer
from benchmarks.stage import Contestants, Stage
from redis_toolkit import codecs

__all__ = ["NATS_FAST", "ORJSON_IS_THERE", "Measure", "batching", "faststream", "nats", "ours"]

Measure = Callable[[], Figures]
NATS_FAST = "nats-py, uvloop"
ORJSON_IS_THERE = hasattr(codecs, "OrjsonCodec")


def ours(
    them: Contestants,
    stage: Stage,
    kind: str,
    calls: int,
    callers: int = 1,
    *,
    environment: str = OURS,
    size: int = 0,
    codec: str = "json",
) -> Measure:
    """Return what measures requests with the awaitable client, to a ``def`` or ``async def`` handler."""
    channel, url = them.channel(kind), stage.valkey.url
    worker = them.actor("ours", "worker", environment, url=url, channel=channel, kind=kind, codec=codec)
    worker.children()
    caller = them.actor("ours", "async_caller", environment, url=url, codec=codec)
    given = {"calls": calls, "callers": callers, "channel": channel, "size": size}
    return them.costed(stage.valkey, lambda: caller.ask("ask", **given), caller, worker)


def nats(
    them: Contestants,
    server: NatsServer,
    calls: int,
    callers: int = 1,
    *,
    environment: str = "nats",
    size: int = 0,
) -> Measure:
    """Return what measures requests by nats-py."""
    channel = them.channel("orders")
    worker = them.actor("nats_py", "worker", environment, url=server.url, channel=channel)
    caller = them.actor("nats_py", "caller", environment, url=server.url)
    given = {"calls": calls, "callers": callers, "channel": channel, "size": size}
    return them.costed(server, lambda: caller.ask("ask", **given), caller, worker)


def batching(them: Contestants, stage: Stage, role: str, calls: int, callers: int) -> Measure:
    """Return what measures requests by the prototype that batches, to one of its two workers."""
    channel, url = them.channel("batch"), stage.valkey.url
    worker = them.actor("redis_floor", role, url=url, channel=channel)
    caller = them.actor("redis_floor", "batch_caller", url=url, channel=channel)
    return them.costed(stage.valkey, lambda: caller.ask("ask", calls=calls, callers=callers), caller, worker)


def faststream(them: Contestants, stage: Stage, calls: int, callers: int = 1) -> Measure:
    """Return what measures requests by FastStream."""
    channel, url = them.channel("orders"), stage.valkey.url
    worker = them.actor("fast_stream", "worker", "faststream", url=url, channel=channel)
    caller = them.actor("fast_stream", "caller", "faststream", url=url)
    given = {"calls": calls, "callers": callers, "channel": channel}
    return them.costed(stage.valkey, lambda: caller.ask("ask", **given), caller, worker)
