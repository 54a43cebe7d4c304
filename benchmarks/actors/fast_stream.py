"""FastStream on Redis: its RPC over Pub/Sub, and its subscribers."""

from __future__ import annotations

import logging
from typing import Any

from faststream.redis import RedisBroker  # type: ignore[import-not-found]

from benchmarks.actors.conversation import aconverse, play
from benchmarks.actors.timing import Arrivals, together
from benchmarks.payload import of_size

TIMEOUT = 60.0


def new_broker(url: str) -> Any:
    """Return a broker that does not log each message: what its documentation advises for production."""
    return RedisBroker(url, logger=None, log_level=logging.ERROR)


async def worker(url: str, channel: str) -> None:
    """Answer requests."""
    broker = new_broker(url)

    @broker.subscriber(channel)  # type: ignore[untyped-decorator, unused-ignore]
    async def answer(order: dict[str, Any]) -> dict[str, Any]:
        return order

    async with broker:
        await broker.start()
        await aconverse()


async def caller(url: str) -> None:
    """Ask, any number at once."""
    broker = new_broker(url)

    async def ask(calls: int, channel: str, callers: int = 1, size: int = 0) -> dict[str, float]:
        payload = of_size(size)

        async def once() -> Any:
            reply = await broker.request(payload, channel, timeout=TIMEOUT)
            return await reply.decode()

        return await together(once, calls, callers)

    async with broker:
        await aconverse(ask=ask)


async def listener(url: str, channel: str) -> None:
    """Hear messages."""
    broker = new_broker(url)
    arrivals = Arrivals()

    @broker.subscriber(channel)  # type: ignore[untyped-decorator, unused-ignore]
    async def hear(order: dict[str, Any]) -> None:
        arrivals.arrived(order)

    async with broker:
        await broker.start()
        await aconverse(expect=arrivals.expect_async, rate=arrivals.rate_async)


if __name__ == "__main__":
    play(worker, caller, listener)
