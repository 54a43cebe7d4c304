"""10,000 requests in flight from one process: all are answered, and nothing of them is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks.actor import Actor, ActorFailed
from benchmarks.environments import Unavailable
from benchmarks.figures import Figures, Section, Target
from benchmarks.stage import Stage
from benchmarks.workloads import pairs

__all__ = ["sections"]

IN_FLIGHT = 10_000


def sections(stage: Stage) -> Iterator[Section]:
    """Send them all at once, several times, and compare what is there before and afterwards."""
    section = Section(
        f"{IN_FLIGHT:,} requests in flight",
        "all sent before the first answer is awaited; before and after: connections, tasks, keys, memory",
    )
    kinds = {"ours, async def": "async def", "ours, def": "def"}
    for name in kinds:
        section.targets += [
            Target("right", name, IN_FLIGHT),
            Target("more_connections", name, 0, at_most=True),
            Target("more_tasks", name, 0, at_most=True),
            Target("more_keys", name, 0, at_most=True),
            Target("more_rss_mb", name, 4, at_most=True),
        ]
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

        for name, kind in kinds.items():
            them.add(name, partial(ours, kind))
        them.take_turns()
        try:
            pairs.faststream(them, stage, IN_FLIGHT, IN_FLIGHT)()
            section.notes.append("FastStream answered all as well.")
        except (ActorFailed, Unavailable) as error:
            section.failures["FastStream"] = str(error)
    yield section


def _state(stage: Stage, caller: Actor) -> dict[str, Any]:
    state: dict[str, Any] = caller.ask("state")
    state["connections"] = stage.valkey.connections()
    state["keys"] = len(stage.valkey.keys())
    return state
