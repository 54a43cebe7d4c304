"""The commands that a worker process sends for a queue or a group where there is nothing to do."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from functools import partial

from benchmarks.figures import Figures, Section, Target
from benchmarks.stage import Contestants, Stage

__all__ = ["TARGETS", "sections"]

SECONDS, SETTLE = 8.0, 3.0
TITLE = "Idle worker: commands of a queue and a group"
SOURCES = {
    f"ours, {source}, {kind}": (source, kind)
    for source in ("queue", "group")
    for kind in ("def", "async def")
}
TARGETS = {TITLE: [Target("commands_per_second", name, 2.0, at_most=True) for name in SOURCES]}


def sections(stage: Stage) -> Iterator[Section]:
    """Count the commands of some seconds, one worker after the other."""
    section = Section(
        TITLE,
        f"Commands per second over {SECONDS:g} s, one source; those of the worker's own signs of life "
        "are among them.",
        TARGETS[TITLE],
    )
    with stage.contestants(section) as them:
        for name, (source, kind) in SOURCES.items():
            them.add(name, partial(partial, _idle, stage, section, them, source, kind), warm=False)
        them.take_turns()
    yield section


def _idle(stage: Stage, section: Section, them: Contestants, source: str, kind: str) -> Figures:
    given = {"url": stage.valkey.url, "queue": them.channel("idle")}
    actor = them.actor("our_tasks", "idle_worker", source=source, kind=kind, **given)
    time.sleep(SETTLE)
    seen = stage.valkey.watch(SECONDS)
    actor.close()
    sent = Counter(command for command, in_script in seen if not in_script)
    named = ", ".join(f"{name} {count / SECONDS:.2f}" for name, count in sorted(sent.items()))
    section.notes[:] = [note for note in section.notes if not note.startswith(f"{source}, {kind}:")]
    section.notes.append(f"{source}, {kind}: {named} per second")
    return {"commands_per_second": sent.total() / SECONDS, "with_those_in_scripts": len(seen) / SECONDS}
