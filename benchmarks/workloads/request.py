"""Requests of one caller, one after the other: how long one takes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks.figures import Section, Target
from benchmarks.stage import Contestants, Stage
from benchmarks.workloads import pairs
from benchmarks.workloads.pairs import Measure

__all__ = ["TARGETS", "sections"]

CALLS = 5000
TITLE, ANYWHERE = "Request, one caller", "Request, one caller, nobody pinned"
SYNC, ASYNC, UVLOOP = "ours, def + sync client", "ours, async def + async client", "ours, async, uvloop"
RAW, RAW_SCRIPT = "raw sockets + hiredis", "raw sockets + hiredis, our script"
PROTOCOL, PROTOCOL_SCRIPT = "asyncio protocol + hiredis", "asyncio protocol + hiredis, our script"
REDIS_PY, REDIS_ASYNCIO = "redis-py, low-level calls", "redis.asyncio, low-level calls"
TARGETS = {
    TITLE: [
        Target("p50_us", SYNC, 0.65, "nats-py", at_most=True, stretch=0.5),
        Target("p50_us", SYNC, 2.0, RAW_SCRIPT, at_most=True),
        Target("p50_us", SYNC, None, RAW),
        Target("p50_us", SYNC, None, REDIS_PY),
        Target("p50_us", ASYNC, 0.9, "nats-py", at_most=True, stretch=0.7),
        Target("p50_us", ASYNC, None, PROTOCOL_SCRIPT),
        Target("p50_us", ASYNC, None, PROTOCOL),
        Target("p50_us", ASYNC, None, REDIS_ASYNCIO),
        Target("p50_us", UVLOOP, 0.9, pairs.NATS_FAST, at_most=True, stretch=0.7),
    ],
    ANYWHERE: [
        Target("p50_us", SYNC, 0.65, "nats-py", at_most=True, stretch=0.5),
        Target("p50_us", SYNC, 2.0, RAW_SCRIPT, at_most=True),
        Target("p50_us", ASYNC, 0.9, "nats-py", at_most=True, stretch=0.7),
    ],
}


def sections(stage: Stage) -> Iterator[Section]:
    """Measure the latency of a request, with everybody on cores of their own and on any core."""
    section = Section(
        TITLE,
        "One caller, one request after the other, one worker process. The floors parse nothing. They send a "
        '`RPUSH` and a `BLPOP` in one packet, or "our script", which looks for a live worker and stamps the '
        "deadline, and a `BLPOP`; a worker on a raw socket answers them.",
        TARGETS[TITLE],
    )
    calls = stage.calls(CALLS)
    with stage.contestants(section) as them:
        _main_contestants(stage, them, calls)
        them.add(UVLOOP, lambda: pairs.ours(them, stage, "async def", calls, environment="fast"))
        them.nats(lambda server: pairs.nats(them, server, calls, environment="nats-fast"), pairs.NATS_FAST)
        bare, scripted = {"port": stage.valkey.port}, {"port": stage.valkey.port, "scripted": True}
        given: dict[str, Any]
        for name, program, role, given in (
            (RAW, "floor", "caller", bare),
            (REDIS_PY, "redis_floor", "caller", {"url": stage.valkey.url}),
            (PROTOCOL, "floor", "async_caller", bare),
            (PROTOCOL_SCRIPT, "floor", "async_caller", scripted),
            (REDIS_ASYNCIO, "redis_floor", "async_caller", {"url": stage.valkey.url}),
        ):
            them.add(name, partial(_floor, stage, them, calls, program, role, given))
        them.add("FastStream", lambda: pairs.faststream(them, stage, calls // 5))
        them.take_turns()
    yield section
    if stage.pinned:
        section = Section(
            ANYWHERE,
            "The same, with the scheduler free to put everybody anywhere. Then two processes that hand "
            "messages to each other may share a core, where waking one up costs less.",
            TARGETS[ANYWHERE],
        )
        with stage.contestants(section, pinned=False) as them:
            _main_contestants(stage, them, calls)
            them.take_turns()
        yield section


def _main_contestants(stage: Stage, them: Contestants, calls: int) -> None:
    them.add(SYNC, partial(_blocking, stage, them, calls))
    them.nats(lambda server: pairs.nats(them, server, calls))
    them.add(ASYNC, lambda: pairs.ours(them, stage, "async def", calls))
    scripted = {"port": stage.valkey.port, "scripted": True}
    them.add(RAW_SCRIPT, partial(_floor, stage, them, calls, "floor", "caller", scripted))


def _blocking(stage: Stage, them: Contestants, calls: int) -> Measure:
    channel, url = them.channel("def"), stage.valkey.url
    worker = them.actor("ours", "worker", url=url, channel=channel, kind="def")
    worker.children()
    caller = them.actor("ours", "caller", url=url)
    return them.costed(stage.valkey, lambda: caller.ask("ask", calls=calls, channel=channel), caller, worker)


def _floor(
    stage: Stage, them: Contestants, calls: int, program: str, role: str, given: dict[str, Any]
) -> Measure:
    channel = them.channel("floor")
    worker = them.actor("floor", "worker", port=stage.valkey.port, channel=channel)
    caller = them.actor(program, role, channel=channel, **given)
    return them.costed(stage.valkey, lambda: caller.ask("ask", calls=calls), caller, worker)
