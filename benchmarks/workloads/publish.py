"""``publish``, one event after the other, against one round trip of redis-py."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.figures import Figures, Section, Target
from benchmarks.stage import Stage

__all__ = ["sections"]

EVENTS = 10_000
OURS, FLOOR = "ours", "redis-py publish"


def sections(stage: Stage) -> Iterator[Section]:
    """Measure publishing to a channel where nobody listens."""
    section = Section("publish, one by one", "sync; nobody listens, so that only the publisher is measured")
    section.targets = [Target("per_second", OURS, 0.85, FLOOR)]
    with stage.contestants(section) as them:

        def publisher(program: str) -> Callable[[], Figures]:
            actor = them.actor(program, "publisher", url=stage.valkey.url)
            return them.costed(stage.valkey, lambda: actor.ask("publish", calls=stage.calls(EVENTS)), actor)

        them.add(OURS, lambda: publisher("ours"))
        them.add(FLOOR, lambda: publisher("redis_py"))
        them.take_turns()
    yield section
