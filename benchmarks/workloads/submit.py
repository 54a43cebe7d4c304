"""Submitting tasks: one after the other, and many in few round trips, against ``XADD`` by redis-py."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.environments import OURS as HERE
from benchmarks.figures import Figures, Section, Target
from benchmarks.stage import Contestants, Stage
from benchmarks.workloads.pairs import Measure

__all__ = ["TARGETS", "sections"]

SINGLY, TOGETHER = 5_000, 50_000
ONE, MANY = "submit, one by one", "submit_many"
OURS, LOW, PIPELINE, BULLMQ = (
    "ours",
    "redis-py, low-level calls",
    "redis-py pipeline",
    "BullMQ on Node, addBulk",
)
TARGETS = {
    ONE: [Target("per_second", OURS, 0.8, LOW)],
    MANY: [Target("per_second", OURS, 0.7, PIPELINE), Target("per_second", OURS, None, BULLMQ)],
}


def sections(stage: Stage) -> Iterator[Section]:
    """Measure how many tasks one process submits where no worker is."""
    section = Section(
        ONE,
        "Sync; no worker is there. The floor is one round trip for one `XADD` of a body that is ready.",
        TARGETS[ONE],
    )
    with stage.contestants(section) as them:
        for name, program in ((OURS, "our_tasks"), (LOW, "task_floor")):
            prepare = partial(_submitter, stage, them, program, "one_by_one", stage.calls(SINGLY))
            them.add(name, prepare)
        them.take_turns()
    yield section
    section = Section(
        MANY,
        "Sync, 1,000 tasks with each call; no worker is there. The floor puts 1,000 `XADD` of a body that is "
        "ready into a pipeline.",
        TARGETS[MANY],
    )
    count = stage.calls(TOGETHER)
    with stage.contestants(section) as them:
        them.add(OURS, partial(_submitter, stage, them, "our_tasks", "submit", count))
        them.add(PIPELINE, partial(_submitter, stage, them, "task_floor", "submit", count))
        them.add(BULLMQ, partial(_submitter, stage, them, "bullmq_tasks", "submit", count // 2, "bullmq"))
        them.take_turns()
    yield section


def _submitter(
    stage: Stage, them: Contestants, program: str, do: str, count: int, environment: str = HERE
) -> Measure:
    queue = them.channel("submit")
    actor = them.actor(program, "submitter", environment, url=stage.valkey.url, queue=queue)
    measure = them.costed(stage.valkey, lambda: actor.ask(do, count=count), actor)

    def once() -> Figures:
        try:
            return measure()
        finally:
            stage.valkey.clear()

    return once
