"""Tasks without results, and with three worker processes, against one process that keeps results."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks import cores
from benchmarks.figures import Section, Target
from benchmarks.stage import Stage
from benchmarks.workloads.draining import Drain

__all__ = ["TARGETS", "sections"]

TASKS = 60_000
PROCESSES = 3
KINDS = ("def", "async def")
WITHOUT, MANY = "Tasks, no results", "Tasks, 3 worker processes"


def _pair(kind: str) -> tuple[str, str, str]:
    return f"ours, {kind}, no results", f"ours, {kind}", f"ours, {kind}, {PROCESSES} processes"


TARGETS = {
    WITHOUT: [Target("per_second", _pair(kind)[0], 1.3, _pair(kind)[1]) for kind in KINDS],
    MANY: [
        target
        for kind in KINDS
        for target in (
            Target("per_second", _pair(kind)[2], 2.2, _pair(kind)[1]),
            Target("server_busy", _pair(kind)[2], 0.8),
        )
    ],
}


def sections(stage: Stage) -> Iterator[Section]:
    """Measure how fast a backlog of tasks is drained."""
    yield _compared(
        stage,
        WITHOUT,
        "The same with `result_ttl=0`: nothing of a task that has ended is kept.",
        {"ttl": 0},
    )
    with cores.many_workers():
        yield _compared(
            stage,
            MANY,
            "The same with three worker processes, which share three cores; the server has the fourth. "
            "`server busy` is the share of its core that Redis takes.",
            {"workers": PROCESSES},
        )


def _compared(stage: Stage, title: str, unit: str, given: dict[str, int]) -> Section:
    section = Section(title, unit, TARGETS[title])
    with stage.contestants(section) as them:
        for kind in KINDS:
            without, usual, many = _pair(kind)
            changed = many if "workers" in given else without
            submits = {"ttl": given["ttl"]} if "ttl" in given else {}
            times = given.get("workers", 1)
            drains = {
                usual: Drain("our_tasks", stage.calls(TASKS), given={"kind": kind}),
                changed: Drain(
                    "our_tasks", stage.calls(TASKS * times), given={"kind": kind, **given}, submits=submits
                ),
            }
            for name, drain in drains.items():
                them.add(name, partial(partial, drain.measure, them, stage), warm=False)
        them.take_turns()
    return section
