"""``import redis_toolkit`` against ``import redis``: whole processes, from start to end."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.actor import surroundings
from benchmarks.figures import Figures, Section, Target
from benchmarks.stage import Stage

__all__ = ["TARGETS", "sections"]

STARTS = 10
OURS, THEIRS = "import redis_toolkit", "import redis"
TITLE = "Import"
TARGETS = {
    TITLE: [
        Target("min_ms", OURS, 1.25, THEIRS, at_most=True),
        Target("beyond_ms", OURS, 1.25, THEIRS, at_most=True),
    ]
}


def sections(stage: Stage) -> Iterator[Section]:
    """Start each program a number of times in each round, in turns with an empty one."""
    section = Section(
        TITLE,
        f"Whole processes, {STARTS} of each per round; `beyond` is without what an empty one takes.",
        TARGETS[TITLE],
    )
    with stage.contestants(section) as them:
        for program in (OURS, THEIRS):
            them.add(program, partial(_measure, program))
        them.take_turns()
    yield section


def _measure(program: str) -> Callable[[], Figures]:
    return partial(_starts, program)


def _starts(program: str) -> Figures:
    times: dict[str, list[float]] = {"pass": [], program: []}
    for _ in range(STARTS):
        for text, found in times.items():
            found.append(_start(text))
    whole = times[program]
    return {
        "min_ms": min(whole),
        "median_ms": statistics.median(whole),
        "beyond_ms": min(whole) - min(times["pass"]),
    }


def _start(program: str) -> float:
    environment = surroundings()  # the first start compiles what it imports: the fastest ones count
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    return (time.perf_counter() - begun) * 1000
