"""The project itself: a worker that answers, a caller that asks, a listener, a publisher."""

from __future__ import annotations

import asyncio
import gc
import time
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.actors.conversation import aconverse, converse, play
from benchmarks.actors.timing import Arrivals, one_by_one, together
from benchmarks.payload import ORDER, of_size
from redis_toolkit import App
from redis_toolkit._core.loops import new_loop

MAX_PAYLOAD = 2 * 1024 * 1024
TIMEOUT = 60.0


def new_app(url: str, codec: str = "json") -> App:
    return App(url, max_payload=MAX_PAYLOAD, codec=codec)


def work(seconds: float) -> None:
    """Use the processor."""
    if not seconds:
        return
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def worker(
    url: str,
    channel: str,
    kind: str,
    workers: int = 1,
    channels: int = 0,
    seconds: float = 0.0,
    live: bool = False,
    codec: str = "json",
) -> None:
    """Answer requests in worker processes.

    Args:
        url: the server.
        channel: what it serves, and what no other actor serves.
        kind: ``def`` or ``async def``.
        workers: how many processes.
        channels: serve so many, with numbers behind their name, instead of one.
        seconds: processor time that a handler takes.
        live: whether it hears live events too.
        codec: of the replies.
    """
    app = new_app(url, codec)
    names = [f"{channel}{number}" for number in range(channels)] or [channel]

    if kind == "def":

        @app.on(*names, events=live)
        def answer(order: Any) -> Any:
            work(seconds)
            return order

    else:

        @app.on(*names, events=live)
        async def answer_async(order: Any) -> Any:
            work(seconds)
            return order

    app.start(workers=workers)
    converse(pids=lambda: app.worker_pids)
    app.stop()


def caller(url: str) -> None:
    """Ask, one request after the other, with the blocking client."""
    app = new_app(url)

    def ask(calls: int, channel: str) -> dict[str, float]:
        return one_by_one(lambda: app.request(channel, ORDER), calls)

    converse(ask=ask)
    app.stop()


async def async_caller(url: str, codec: str = "json") -> None:
    """Ask with the awaitable client, any number at once."""
    app = new_app(url, codec)

    async def ask(
        calls: int, channel: str, callers: int = 1, channels: int = 0, size: int = 0
    ) -> dict[str, float]:
        payload = of_size(size)
        names = cycle([f"{channel}{number}" for number in range(channels)] or [channel])
        return await together(lambda: app.arequest(next(names), payload, timeout=TIMEOUT), calls, callers)

    async def in_flight(calls: int, channel: str) -> dict[str, float]:
        begun = time.perf_counter()
        answers = await asyncio.gather(
            *(app.arequest(channel, place, timeout=TIMEOUT) for place in range(calls))
        )
        seconds = time.perf_counter() - begun
        return {"right": sum(place == answer for place, answer in enumerate(answers)), "seconds": seconds}

    async def state() -> dict[str, float]:
        gc.collect()
        return {"tasks": len(asyncio.all_tasks()), "rss_mb": rss_mb()}

    await aconverse(ask=ask, in_flight=in_flight, state=state)
    await app.astop()


def listener(url: str, channel: str, kind: str) -> None:
    """Hear live events with a ``def`` or an ``async def`` handler."""
    app = new_app(url)
    arrivals = Arrivals()

    async def arrived(event: Any) -> None:
        arrivals.arrived(event)

    app.on(channel)(arrivals.arrived if kind == "def" else arrived)
    with app:
        converse(expect=arrivals.expect, rate=arrivals.rate)


def publisher(url: str) -> None:
    """Publish, one event after the other."""
    app = new_app(url)
    converse(publish=lambda calls: one_by_one(lambda: app.publish("nobody", ORDER), calls))
    app.stop()


def rss_mb() -> float:
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")
    )
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    play(worker, caller, async_caller, listener, publisher, loop_factory=new_loop)
