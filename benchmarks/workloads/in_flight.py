"""10,000 requests in flight from one process: all are answered, and nothing of them is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks.actor import Actor, ActorFailed
from benchmarks.environments import Unavailable
from benchmarks.figures import Figures, Section, Target
from benchmarks.stage import Contestants, Stage
from benchmarks.workloads import pairs
from benchmarks.workloads.pairs import Measure

__all__ = ["TARGETS", "sections"]

IN_FLIGHT = 10_000
TITLE = f"{IN_FLIGHT:,} requests in flight"
KINDS = {"ours, async def": "async def", "ours, def": "def"}
TARGETS = {
    TITLE: [
        target
        for name in KINDS
        for target in (
            Target("right", name, IN_FLIGHT),
            Target("more_connections", name, 0, at_most=True),
            Target("more_tasks", name, 0, at_most=True),
            Target("more_keys", name, 0, at_most=True),
            Target("more_rss_mb", name, 4, at_most=True),
        )
    ]
}


def sections(stage: Stage) -> Iterator[Section]:
    """Send them all at once, several times, and compare what is there before and afterwards."""
    section = Section(
        TITLE,
        "All are sent before the first answer is awaited. What there is more of afterwards than before: "
        "connections, tasks, keys, memory. redis-py's pool and FastStream take a connection for each call.",
        TARGETS[TITLE],
    )
    with stage.contestants(section) as them:

        def ours(kind: str) -> Callable[[], Figures]:
            channel, url = them.channel(kind), stage.valkey.url
            them.actor("ours", "worker", url=url, channel=channel, kind=kind)
            caller = them.actor("ours", "async_caller", url=url)
            for _ in range(2):  # what the first ones leave in allocators is no leak
                caller.ask("in_flight", calls=IN_FLIGHT, channel=channel)

            def once() -> Figures:
                before = _state(stage, caller)
                figures: Figures = caller.ask("in_flight", calls=IN_FLIGHT, channel=channel)
                after = _state(stage, caller)
                figures |= {f"more_{name}": after[name] - before[name] for name in after}
                figures["per_second"] = IN_FLIGHT / figures.pop("seconds")
                return figures

            return once

        for name, kind in KINDS.items():
            them.add(name, partial(ours, kind))
        them.take_turns()
        for name, others in (
            ("FastStream", partial(pairs.faststream, them, stage, IN_FLIGHT, IN_FLIGHT)),
            ("redis-py pool", partial(_pool, stage, them)),
        ):
            try:
                others()()
                section.notes.append(f"{name} answered all as well.")
            except (ActorFailed, Unavailable) as error:
                section.failures[name] = str(error)
    yield section


def _pool(stage: Stage, them: Contestants) -> Measure:
    channel, url = them.channel("pool"), stage.valkey.url
    them.actor("redis_floor", "worker", url=url, channel=channel)
    caller = them.actor("redis_floor", "pool_caller", url=url, channel=channel)
    return lambda: caller.ask("in_flight", calls=IN_FLIGHT)


def _state(stage: Stage, caller: Actor) -> dict[str, Any]:
    state: dict[str, Any] = caller.ask("state")
    state["connections"] = stage.valkey.connections()
    state["keys"] = len(stage.valkey.keys())
    return state
