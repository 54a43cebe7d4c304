"""FastStream on Redis streams: one subscriber of a group, and its publisher."""

from __future__ import annotations

import asyncio
from typing import Any

from faststream.redis import StreamSub  # type: ignore[import-not-found]

from benchmarks.actors.conversation import aconverse, play
from benchmarks.actors.fast_stream import new_broker
from benchmarks.actors.tally import Tally
from benchmarks.payload import ORDER

AT_ONCE = 50


async def worker(url: str, queue: str, tally: str) -> None:
    """Handle the events of a group, a hundred with each read; they are acknowledged one by one."""
    broker = new_broker(url)
    arrived = Tally(tally).arrived
    stream = StreamSub(queue, group="billing", consumer="one", last_id=">", max_records=100)

    @broker.subscriber(stream=stream)  # type: ignore[untyped-decorator, unused-ignore]
    async def bill(order: dict[str, Any]) -> None:
        arrived()

    async with broker:
        await broker.start()
        await aconverse()


async def submitter(url: str, queue: str) -> None:
    """Publish, fifty at once, what a group that begins with the first event is to get."""
    broker = new_broker(url)

    async def submit(count: int) -> None:
        await broker._connection.xgroup_create(queue, "billing", "0", mkstream=True)
        for first in range(0, count, AT_ONCE):
            many = min(AT_ONCE, count - first)
            await asyncio.gather(*(broker.publish(ORDER, stream=queue) for _ in range(many)))

    async with broker:
        await broker.start()
        await aconverse(submit=submit)


if __name__ == "__main__":
    play(worker, submitter)
