"""Requests of one caller, one after the other: how long one takes."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figures import Section, Target
from benchmarks.stage import Stage
from benchmarks.workloads import pairs
from benchmarks.workloads.pairs import Measure

__all__ = ["sections"]

CALLS = 3000
SYNC, ASYNC, UVLOOP = "ours, def + sync client", "ours, async def + async client", "ours, async, uvloop"
RAW = "raw sockets + hiredis"


def sections(stage: Stage) -> Iterator[Section]:
    """Measure the latency of a request."""
    section = Section("Request, one caller", "one caller, one request after the other, a worker process")
    section.targets = [
        Target("p50_us", SYNC, 0.65, "nats-py", at_most=True, stretch=0.5),
        Target("p50_us", SYNC, 2.0, RAW, at_most=True),
        Target("p50_us", ASYNC, 0.9, "nats-py", at_most=True, stretch=0.7),
        Target("p50_us", UVLOOP, 0.9, "nats-py", at_most=True, stretch=0.7),
    ]
    calls = stage.calls(CALLS)
    with stage.contestants(section) as them:

        def blocking() -> Measure:
            channel, url = them.channel("def"), stage.valkey.url
            worker = them.actor("ours", "worker", url=url, channel=channel, kind="def")
            worker.children()
            caller = them.actor("ours", "caller", url=url)
            return them.costed(
                stage.valkey, lambda: caller.ask("ask", calls=calls, channel=channel), caller, worker
            )

        def raw() -> Measure:
            worker = them.actor("floor", "worker", port=stage.valkey.port)
            caller = them.actor("floor", "caller", port=stage.valkey.port)
            return them.costed(stage.valkey, lambda: caller.ask("ask", calls=calls), caller, worker)

        them.add(SYNC, blocking)
        them.nats(lambda server: pairs.nats(them, server, calls))
        them.add(RAW, raw)
        them.add("FastStream", lambda: pairs.faststream(them, stage, calls // 5))
        them.add(ASYNC, lambda: pairs.ours(them, stage, "async def", calls))
        them.add(UVLOOP, lambda: pairs.ours(them, stage, "async def", calls, environment="fast"))
        them.take_turns()
    yield section
