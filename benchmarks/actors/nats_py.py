"""nats-py on a NATS server: request and reply, and plain subscriptions. On uvloop where that is installed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import nats  # type: ignore[import-not-found]

from benchmarks.actors.conversation import aconverse, play
from benchmarks.actors.timing import Arrivals, together
from benchmarks.payload import of_size

TIMEOUT = 60.0


async def worker(url: str, channel: str) -> None:
    """Answer requests."""
    client = await nats.connect(url)

    async def answer(message: Any) -> None:
        await message.respond(json.dumps(json.loads(message.data)).encode())

    await client.subscribe(channel, cb=answer)
    await client.flush()
    await aconverse()
    await client.close()


async def caller(url: str) -> None:
    """Ask, any number at once."""
    client = await nats.connect(url)

    async def ask(calls: int, channel: str, callers: int = 1, size: int = 0) -> dict[str, float]:
        payload = of_size(size)

        async def once() -> Any:
            reply = await client.request(channel, json.dumps(payload).encode(), timeout=TIMEOUT)
            return json.loads(reply.data)

        return await together(once, calls, callers)

    await aconverse(ask=ask)
    await client.close()


async def listener(url: str, channel: str) -> None:
    """Hear messages."""
    client = await nats.connect(url)
    arrivals = Arrivals()

    async def hear(message: Any) -> None:
        arrivals.arrived(json.loads(message.data))

    await client.subscribe(channel, cb=hear)
    await client.flush()
    await aconverse(expect=arrivals.expect_async, rate=arrivals.rate_async)
    await client.close()


def new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


if __name__ == "__main__":
    play(worker, caller, listener, loop_factory=new_loop)
