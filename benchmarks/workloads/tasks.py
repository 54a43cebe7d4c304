"""Tasks that do nothing, drained by one worker process that keeps their results."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.figures import Section, Target
from benchmarks.stage import Stage
from benchmarks.workloads.draining import Drain

__all__ = ["TARGETS", "sections"]

TITLE = "Tasks, results kept"
OURS, OURS_ASYNC = "ours, def", "ours, async def"
TASKIQ, DRAMATIQ, BULLMQ = "taskiq", "dramatiq", "BullMQ on Node"
CONTESTANTS = {
    OURS: Drain("our_tasks", 60_000, given={"kind": "def"}),
    OURS_ASYNC: Drain("our_tasks", 60_000, given={"kind": "async def"}),
    TASKIQ: Drain("taskiq_tasks", 5_000, "taskiq"),
    BULLMQ: Drain("bullmq_tasks", 20_000, "bullmq"),
    DRAMATIQ: Drain("dramatiq_tasks", 4_000, "dramatiq"),
    "arq": Drain("arq_tasks", 3_000, "arq"),
    "celery": Drain("celery_tasks", 1_500, "celery"),
    "streaQ": Drain("streaq_tasks", 2_000, "streaq"),
}
TARGETS = {
    TITLE: [
        *(Target("per_second", OURS, 5.0, name, stretch=10.0) for name in (DRAMATIQ, TASKIQ)),
        *(Target("per_second", OURS_ASYNC, 10.0, name) for name in (DRAMATIQ, TASKIQ)),
        Target("per_second", OURS, None, BULLMQ),
        Target("per_second", OURS_ASYNC, 2.0, BULLMQ),
        *(Target("per_second", OURS, None, name) for name in ("arq", "celery", "streaQ")),
    ]
}


def sections(stage: Stage) -> Iterator[Section]:
    """Measure how fast a backlog of tasks is drained."""
    section = Section(
        TITLE,
        "A backlog of tasks with the order as their arguments, which do nothing; one worker process, "
        "results kept; tasks/s from the first to the last.",
        TARGETS[TITLE],
    )
    with stage.contestants(section) as them:
        for name, drain in CONTESTANTS.items():
            drain.count = stage.calls(drain.count)
            them.add(name, partial(partial, drain.measure, them, stage), warm=False)
        them.take_turns()
    yield section
