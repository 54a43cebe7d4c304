"""Requests of many callers at once, from one process to one worker process: how many per second."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.figures import Section, Target
from benchmarks.stage import Stage
from benchmarks.workloads import pairs
from benchmarks.workloads.pairs import NATS_FAST, Measure

__all__ = ["TARGETS", "sections"]

CALLS = 40_000
PER_CALLER = 20
CALLERS = (100, 1000)
ASYNC, SYNC = "ours, async def", "ours, def"
ASYNC_FAST, SYNC_FAST = "ours, async def, uvloop", "ours, def, uvloop"
ORJSON = "ours, async def, uvloop, codec orjson"
BATCH_ASYNC, BATCH_SYNC = "batching on redis-py, async def", "batching on redis-py, one thread"


def _title(callers: int) -> str:
    return f"Requests, {callers:,} concurrent callers"


TARGETS = {
    _title(callers): [
        Target("per_second", ASYNC, 1.0, "nats-py", stretch=1.5),
        Target("per_second", ASYNC, None, BATCH_ASYNC),
        Target("per_second", SYNC, 1.3, "nats-py", stretch=1.5),
        Target("per_second", SYNC, None, BATCH_SYNC),
        Target("per_second", ASYNC_FAST, 1.0, NATS_FAST, stretch=1.5),
        Target("per_second", ASYNC_FAST, None, ASYNC),
        Target("per_second", SYNC_FAST, 1.3, NATS_FAST, stretch=1.5),
        Target("per_second", ORJSON, None, ASYNC_FAST),
    ]
    for callers in CALLERS
}


def sections(stage: Stage) -> Iterator[Section]:
    """Measure 100 and 1,000 callers."""
    for callers in CALLERS:
        yield _section(stage, callers)


def _section(stage: Stage, callers: int) -> Section:
    section = Section(
        _title(callers),
        "Async callers in one process, one worker process. The prototypes that batch on redis-py have no "
        "deadlines, no check for live workers and no recovery: they show what batching alone gives.",
        TARGETS[_title(callers)],
    )
    calls = max(stage.calls(CALLS), PER_CALLER * callers)
    with stage.contestants(section) as them:

        def ours(kind: str, environment: str = "ours", codec: str = "json") -> Measure:
            return pairs.ours(them, stage, kind, calls, callers, environment=environment, codec=codec)

        them.add(ASYNC, partial(ours, "async def"))
        them.nats(lambda server: pairs.nats(them, server, calls, callers))
        them.add(SYNC, partial(ours, "def"))
        for name, role in ((BATCH_ASYNC, "async_worker"), (BATCH_SYNC, "worker")):
            them.add(name, partial(pairs.batching, them, stage, role, calls, callers))
        them.add(ASYNC_FAST, partial(ours, "async def", "fast"))
        them.nats(lambda server: pairs.nats(them, server, calls, callers, environment="nats-fast"), NATS_FAST)
        them.add(SYNC_FAST, partial(ours, "def", "fast"))
        if pairs.ORJSON_IS_THERE:
            them.add(ORJSON, partial(ours, "async def", "fast", "orjson"))
        them.add("FastStream", lambda: pairs.faststream(them, stage, callers * 2, callers))
        them.take_turns()
    return section
