"""How long after it was submitted a task starts in a worker that was idle, and how late one with a delay."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.figures import Figures, Section, Target
from benchmarks.stage import Contestants, Stage
from benchmarks.workloads.pairs import Measure

__all__ = ["TARGETS", "sections"]

TASKS, DELAYED = 300, 100
GAP, DELAY = 0.01, 0.5
KINDS = {"ours, def": "def", "ours, async def": "async def"}
IDLE, LATE = "Idle task to handler", "Delayed task"
TARGETS = {
    IDLE: [
        target
        for name in KINDS
        for target in (
            Target("p50_us", name, 600.0, at_most=True),
            Target("p99_us", name, 3000.0, at_most=True),
        )
    ],
    LATE: [Target("p99_us", name, 20_000.0, at_most=True) for name in KINDS],
}


def sections(stage: Stage) -> Iterator[Section]:
    """Measure from just before the submit to the first line of the handler."""
    yield _timed(
        stage,
        IDLE,
        f"One task each {GAP * 1000:g} ms, so that the worker waits for it; from just before the submit to "
        "the first line of the handler, which runs in another process.",
        TASKS,
    )
    yield _timed(
        stage,
        LATE,
        f"Submitted one each {GAP * 1000:g} ms with a delay of {DELAY:g} s; how long after its time a task "
        "starts.",
        DELAYED,
        DELAY,
    )


def _timed(stage: Stage, title: str, unit: str, count: int, delay: float = 0.0) -> Section:
    section = Section(title, unit, TARGETS[title])
    with stage.contestants(section) as them:
        for name, kind in KINDS.items():
            them.add(name, partial(_pair, stage, them, kind, max(stage.calls(count), 50), delay))
        them.take_turns()
    return section


def _pair(stage: Stage, them: Contestants, kind: str, count: int, delay: float) -> Measure:
    given = {"url": stage.valkey.url, "queue": them.channel("timed")}
    worker = them.actor("our_tasks", "timed_worker", kind=kind, **given)
    submitter = them.actor("our_tasks", "timed_submitter", **given)

    def once() -> Figures:
        worker.ask("expect")
        submitter.ask("submit", count=count, gap=GAP, delay=delay)
        figures: Figures = worker.ask("late", count=count)
        return {name: figures[name] for name in ("p50_us", "p99_us", "worst_us")}

    return once
