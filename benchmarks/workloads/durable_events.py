"""Durable events of one group, drained by one worker process."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.actor import Actor
from benchmarks.actors.tally import empty
from benchmarks.figures import Section, Target
from benchmarks.stage import Stage
from benchmarks.workloads.draining import Drain

__all__ = ["TARGETS", "sections"]

EVENTS = 60_000
TITLE = "Durable events, one group"
OURS, OURS_ASYNC = "ours, def", "ours, async def"
FLOOR, LOW = "redis-py, xreadgroup + xack of 100", "redis-py, low-level calls, nothing parsed"
FASTSTREAM = "FastStream"
TARGETS = {
    TITLE: [
        Target("per_second", OURS, 0.4, FLOOR, stretch=0.6),
        Target("per_second", OURS_ASYNC, 0.4, FLOOR, stretch=0.6),
        Target("per_second", OURS, None, LOW),
        Target("per_second", OURS, None, FASTSTREAM),
        Target("per_second", OURS_ASYNC, None, FASTSTREAM),
    ]
}


def sections(stage: Stage) -> Iterator[Section]:
    """Measure how fast a backlog of events is handled and settled."""
    section = Section(
        TITLE,
        "A backlog of events for one group, handled and settled by one worker process; events/s from the "
        "first to the last. The floors read 100 entries and leave them in the stream: by redis-py's calls, "
        "parsing each body; by its low-level calls, acknowledging with the next read, parsing nothing.",
        TARGETS[TITLE],
    )
    with stage.contestants(section) as them:

        def make_group(kind: str, queue: str) -> None:
            tally = stage.log.with_name("no-tally")
            empty(tally)
            actor: Actor = them.actor(
                "our_tasks", "group", url=stage.valkey.url, queue=queue, kind=kind, tally=str(tally)
            )
            actor.close()

        events = stage.calls(EVENTS)
        drains = {
            name: Drain(
                "our_tasks",
                events,
                role="group",
                submitter="publisher",
                given={"kind": kind},
                before=partial(make_group, kind),
            )
            for name, kind in ((OURS, "def"), (OURS_ASYNC, "async def"))
        }
        drains[FLOOR] = Drain("task_floor", events, role="reading_worker")
        drains[LOW] = Drain("task_floor", events)
        drains[FASTSTREAM] = Drain("faststream_groups", events // 20, "faststream")
        for name, drain in drains.items():
            them.add(name, partial(partial, drain.measure, them, stage), warm=False)
        them.take_turns()
    yield section
