"""An idle worker: the commands that it sends, and the memory that it takes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks.figures import Figures, Section, Target
from benchmarks.stage import Contestants, Stage

__all__ = ["TARGETS", "sections"]

SECONDS = 10.0
SETTLE = 3.0
KINDS = {"ours, def": "def", "ours, async def": "async def"}
COMMANDS, MEMORY = "Idle worker: commands", "Idle worker: memory"
TARGETS = {
    COMMANDS: [Target("commands_per_second", name, 2.0, at_most=True) for name in KINDS],
    MEMORY: [Target("rss_mb", name, 45.0, at_most=True) for name in KINDS],
}


def sections(stage: Stage) -> Iterator[Section]:
    """Count the commands of ten seconds, one worker after the other, and look at its memory."""
    commands = Section(
        COMMANDS, f"Commands per second over {_seconds(stage):g} s, one source.", TARGETS[COMMANDS]
    )
    for name, kind in KINDS.items():
        with stage.contestants(commands) as them:
            them.add(name, partial(_idle, stage, commands, them, kind))
            them.take_turns()
    yield commands
    yield _memory(stage)


def _seconds(stage: Stage) -> float:
    return SECONDS if stage.rounds >= 5 else SECONDS / 2


def _idle(stage: Stage, section: Section, them: Contestants, kind: str) -> Callable[[], Figures]:
    them.actor("ours", "worker", url=stage.valkey.url, channel=them.channel("idle"), kind=kind, live=True)
    time.sleep(SETTLE)
    seconds = _seconds(stage)

    def once() -> Figures:
        seen = stage.valkey.watch(seconds)
        sent = Counter(command for command, in_script in seen if not in_script)
        named = ", ".join(f"{name} {count / seconds:.2f}" for name, count in sorted(sent.items()))
        section.notes[:] = [note for note in section.notes if not note.startswith(f"{kind}:")]
        section.notes.append(f"{kind}: {named} per second")
        return {"commands_per_second": sent.total() / seconds, "with_those_in_scripts": len(seen) / seconds}

    return once


def _memory(stage: Stage) -> Section:
    section = Section(MEMORY, "One worker process that has answered nothing yet, MB.", TARGETS[MEMORY])
    with stage.contestants(section) as them:

        def look(program: str, environment: str, given: dict[str, Any]) -> Callable[[], Figures]:
            them.actor(program, "worker", environment, **given).close()  # compiles what it imports
            return them.actor(program, "worker", environment, **given).memory_mb

        url = stage.valkey.url
        for name, kind in KINDS.items():
            given = {"url": url, "channel": them.channel("idle"), "kind": kind, "live": True}
            them.add(name, partial(look, "ours", "ours", given))
        them.nats(lambda server: look("nats_py", "nats", {"url": server.url, "channel": "idle"}))
        them.add("FastStream", partial(look, "fast_stream", "faststream", {"url": url, "channel": "idle"}))
        them.take_turns()
    return section
