"""``publish``, one event after the other, against one round trip of redis-py."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.figures import Figures, Section, Target
from benchmarks.stage import Stage

__all__ = ["TARGETS", "sections"]

EVENTS = 10_000
TITLE = "publish, one by one"
OURS, FLOOR, LOW = "ours", "redis-py publish", "redis-py, low-level calls"
TARGETS = {
    TITLE: [Target("per_second", OURS, 0.85, LOW), Target("per_second", OURS, 0.85, FLOOR)],
}


def sections(stage: Stage) -> Iterator[Section]:
    """Measure publishing to a channel where nobody listens."""
    section = Section(
        TITLE,
        "Sync; nobody listens, so that only the publisher is measured. redis-py sends a body that is ready.",
        TARGETS[TITLE],
    )
    with stage.contestants(section) as them:

        def publisher(program: str, role: str = "publisher") -> Callable[[], Figures]:
            actor = them.actor(program, role, url=stage.valkey.url)
            return them.costed(stage.valkey, lambda: actor.ask("publish", calls=stage.calls(EVENTS)), actor)

        them.add(OURS, lambda: publisher("ours"))
        them.add(FLOOR, lambda: publisher("redis_py"))
        them.add(LOW, lambda: publisher("redis_py", "low_level_publisher"))
        them.take_turns()
    yield section
