"""Requests of many callers at once, from one process to one worker process: how many per second."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figures import Section, Target
from benchmarks.stage import Stage
from benchmarks.workloads import pairs
from benchmarks.workloads.pairs import Measure

__all__ = ["sections"]

CALLS = 40_000
ASYNC, SYNC = "ours, async def", "ours, def"
ASYNC_FAST, SYNC_FAST = "ours, async def, uvloop", "ours, def, uvloop"
NATS_FAST = "nats-py, uvloop"


def sections(stage: Stage) -> Iterator[Section]:
    """Measure 100 and 1,000 callers."""
    for callers in (100, 1000):
        yield _section(stage, callers)


def _section(stage: Stage, callers: int) -> Section:
    section = Section(
        f"Requests, {callers:,} concurrent callers", "async callers in one process, one worker process"
    )
    section.targets = [
        Target("per_second", ASYNC, 1.0, "nats-py", stretch=1.5),
        Target("per_second", SYNC, 1.3, "nats-py", stretch=1.5),
        Target("per_second", ASYNC_FAST, 1.0, NATS_FAST, stretch=1.5),
        Target("per_second", SYNC_FAST, 1.3, NATS_FAST, stretch=1.5),
    ]
    calls = stage.calls(CALLS)
    with stage.contestants(section) as them:

        def ours(kind: str, environment: str = "ours") -> Measure:
            return pairs.ours(them, stage, kind, calls, callers, environment=environment)

        them.add(ASYNC, lambda: ours("async def"))
        them.nats(lambda server: pairs.nats(them, server, calls, callers))
        them.add(SYNC, lambda: ours("def"))
        them.add(ASYNC_FAST, lambda: ours("async def", "fast"))
        them.nats(lambda server: pairs.nats(them, server, calls, callers, environment="nats-fast"), NATS_FAST)
        them.add(SYNC_FAST, lambda: ours("def", "fast"))
        them.add("FastStream", lambda: pairs.faststream(them, stage, max(calls // 20, callers), callers))
        them.take_turns()
    return section
