"""How it grows: with callers, with the size of payloads, with channels, with worker processes.

Each figure carries its place on the axis as ``x``; contestants are named ``<series> · <x>``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.figures import Figures, Section
from benchmarks.servers import NatsServer
from benchmarks.stage import Contestants, Stage
from benchmarks.workloads import pairs
from benchmarks.workloads.pairs import Measure

__all__ = ["sections"]

CALLS = 10_000
PER_CALLER = 20
FULL = 5
KINDS = ("async def", "def")
CALLERS = (1, 3, 10, 30, 100, 300, 1000)
SIZES = {100: 1.0, 1_000: 1.0, 10_000: 0.5, 100_000: 0.1, 1_000_000: 0.02}
"""Bytes of a payload, and which share of the usual number of calls is made with it."""
CHANNELS = (1, 10, 100, 1000)
PROCESSES = (1, 2, 3, 4)
BUSY = 0.001
"""Seconds of processor time that a handler takes where processes are compared."""


def sections(stage: Stage) -> Iterator[Section]:
    """Measure along each axis."""
    yield _along("callers", "Async callers at once, one worker process.", stage, _callers)
    yield _along("bytes", "JSON bytes of the payload, there and back; 10 callers.", stage, _sizes)
    yield _along("channels", "Channels in one app, asked in turns; 100 callers.", stage, _channels)
    yield _along(
        "processes",
        f"Worker processes; two processes with 100 callers each, and {BUSY * 1000:g} ms of processor time "
        "for each request. Nothing is pinned; callers, server and workers share the machine.",
        stage,
        _processes,
        pinned=False,
    )


def _along(
    axis: str,
    unit: str,
    stage: Stage,
    begin: Callable[[Stage, Contestants], None],
    *,
    pinned: bool = True,
) -> Section:
    section = Section(f"Scale: {axis}", unit)
    with stage.contestants(section, pinned=pinned) as them:
        begin(stage, them)
        them.take_turns()
    return section


def _points(stage: Stage, points: tuple[int, ...]) -> tuple[int, ...]:
    """Return the points to measure: in a quick run every second one."""
    return points if stage.rounds >= FULL else points[::2]


def _at(x: float, measure: Measure) -> Measure:
    return lambda: {"x": x, **measure()}


def _callers(stage: Stage, them: Contestants) -> None:
    for callers in _points(stage, CALLERS):
        calls = max(stage.calls(CALLS if callers > 3 else CALLS // 4), callers * PER_CALLER)
        _three(stage, them, callers, calls, callers, size=0)


def _sizes(stage: Stage, them: Contestants) -> None:
    for size in _points(stage, tuple(SIZES)):
        _three(stage, them, size, stage.calls(int(CALLS * SIZES[size])), 10, size=size)


def _three(stage: Stage, them: Contestants, x: int, calls: int, callers: int, *, size: int) -> None:
    """Let both kinds of handler and nats-py take part at one place of an axis."""

    def ours(kind: str) -> Measure:
        return _at(x, pairs.ours(them, stage, kind, calls, callers, size=size))

    def nats(server: NatsServer) -> Measure:
        return _at(x, pairs.nats(them, server, calls, callers, size=size))

    for kind in KINDS:
        them.add(f"ours, {kind} · {x}", partial(ours, kind))
    them.nats(nats, f"nats-py · {x}")


def _channels(stage: Stage, them: Contestants) -> None:
    for kind in KINDS:
        for channels in CHANNELS:
            them.add(f"ours, {kind} · {channels}", partial(_many_channels, stage, them, kind, channels))


def _many_channels(stage: Stage, them: Contestants, kind: str, channels: int) -> Measure:
    channel, url = them.channel(kind), stage.valkey.url
    worker = them.actor("ours", "worker", url=url, channel=channel, kind=kind, channels=channels)
    worker.children()
    caller = them.actor("ours", "async_caller", url=url)
    given = {"calls": stage.calls(CALLS), "callers": 100, "channel": channel, "channels": channels}
    return _at(channels, them.costed(stage.valkey, lambda: caller.ask("ask", **given), caller, worker))


def _processes(stage: Stage, them: Contestants) -> None:
    for kind in KINDS:
        for workers in PROCESSES:
            them.add(f"ours, {kind} · {workers}", partial(_many_processes, stage, them, kind, workers))


def _many_processes(stage: Stage, them: Contestants, kind: str, workers: int) -> Measure:
    channel, url = them.channel(kind), stage.valkey.url
    them.actor("ours", "worker", url=url, channel=channel, kind=kind, workers=workers, seconds=BUSY)
    callers = [them.actor("ours", "async_caller", url=url) for _ in range(2)]
    calls = stage.calls(CALLS // 4)

    def once() -> Figures:
        for caller in callers:
            caller.begin("ask", calls=calls, callers=100, channel=channel)
        found: list[Figures] = [caller.end() for caller in callers]
        return {
            "calls": sum(figures["calls"] for figures in found),
            "per_second": sum(figures["per_second"] for figures in found),
            "p50_us": max(figures["p50_us"] for figures in found),
            "p99_us": max(figures["p99_us"] for figures in found),
        }

    return _at(workers, once)
