"""Live events to one ``def`` handler in another process: how many per second it handles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks.figures import Figures, Section, Target
from benchmarks.flood import flood_nats, flood_redis
from benchmarks.payload import ORDER_JSON
from benchmarks.servers import NatsServer
from benchmarks.stage import Stage

__all__ = ["TARGETS", "sections"]

EVENTS = 100_000
TITLE = "Live events"
OURS, OURS_ASYNC = "ours, def", "ours, async def"
GET_MESSAGE, BARE, BARE_ASYNC = (
    "redis-py get_message",
    "redis-py read_response",
    "redis.asyncio read_response",
)
TARGETS = {
    TITLE: [
        Target("per_second", OURS, 0.7, "nats-py", stretch=1.0),
        Target("per_second", OURS, 1.0, GET_MESSAGE),
        Target("per_second", OURS, None, BARE),
        Target("per_second", OURS_ASYNC, None, "nats-py"),
        Target("per_second", OURS_ASYNC, None, BARE_ASYNC),
    ]
}

Measure = Callable[[], Figures]


def sections(stage: Stage) -> Iterator[Section]:
    """Measure how fast a flood of events is handled."""
    section = Section(
        TITLE,
        "One handler, events from one bare socket; events/s from the first to the last handled.",
        TARGETS[TITLE],
    )
    url, events = stage.valkey.url, stage.calls(EVENTS)
    with stage.contestants(section) as them:

        def on_redis(
            channel: str,
            program: str,
            environment: str = "ours",
            role: str = "listener",
            share: int = 1,
            **given: Any,
        ) -> Measure:
            count = events // share
            listener = them.actor(program, role, environment, url=url, channel=channel, **given)

            def once() -> Figures:
                listener.ask("expect", count=count)
                flood_redis(stage.valkey.port, channel, ORDER_JSON, count)
                figures: Figures = listener.ask("rate")
                return figures

            return them.costed(stage.valkey, once, listener)

        def on_nats(server: NatsServer) -> Measure:
            listener = them.actor("nats_py", "listener", "nats", url=server.url, channel="live-nats")

            def once() -> Figures:
                listener.ask("expect", count=events)
                flood_nats(server.port, "live-nats", ORDER_JSON, events)
                figures: Figures = listener.ask("rate")
                return figures

            return them.costed(server, once, listener)

        for name, kind in ((OURS, "def"), (OURS_ASYNC, "async def")):
            them.add(name, partial(on_redis, them.channel("live"), "ours", kind=kind))
        them.nats(on_nats)
        for name, channel, bare in ((BARE, "live-bare", True), (GET_MESSAGE, "live-get", False)):
            them.add(name, partial(on_redis, channel, "redis_py", bare=bare))
        them.add(BARE_ASYNC, lambda: on_redis("live-async", "redis_py", role="async_listener"))
        them.add("FastStream", lambda: on_redis("live-faststream", "fast_stream", "faststream", share=10))
        them.take_turns()
    yield section
