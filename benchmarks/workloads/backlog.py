"""A backlog of a million tasks: how fast it is drained beside a short one, and what it takes in Redis."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.figures import Figures, Section, Target
from benchmarks.payload import ORDER_JSON
from benchmarks.stage import Contestants, Stage
from benchmarks.workloads.draining import Drain

__all__ = ["TARGETS", "sections"]

TASKS, FEW = 1_000_000, 100_000
TITLE = "Backlog of 1,000,000 tasks"
LONG, SHORT = "ours, def, long backlog", "ours, def, short backlog"
TARGETS = {
    TITLE: [
        Target("per_second", LONG, 0.85, SHORT),
        Target("bytes_beyond_payload", LONG, 250.0, at_most=True),
    ]
}


def sections(stage: Stage) -> Iterator[Section]:
    """Measure the first tasks that are drained."""
    few, many = stage.calls(FEW), stage.calls(TASKS)
    section = Section(
        TITLE,
        f"One worker process with `def`, results kept. Timed are the first {few:,} tasks, which are all of "
        "the short backlog. `bytes` is the memory that a waiting task takes in Redis.",
        TARGETS[TITLE],
    )
    with stage.contestants(section) as them:
        for name, count in ((SHORT, few), (LONG, many)):
            them.add(
                name, partial(_prepared, them, stage, Drain("our_tasks", count, watched=few)), warm=False
            )
        them.take_turns()
    yield section


def _prepared(them: Contestants, stage: Stage, drain: Drain) -> partial[Figures]:
    return partial(_measured, them, stage, drain)


def _measured(them: Contestants, stage: Stage, drain: Drain) -> Figures:
    figures = drain.measure(them, stage)
    return {**figures, "bytes_beyond_payload": figures["bytes"] - len(ORDER_JSON)}
