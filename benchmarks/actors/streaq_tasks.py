"""streaQ: one worker with a hundred tasks at once, JSON instead of pickle."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from streaq import Worker  # type: ignore[import-not-found]

from benchmarks.actors.conversation import aconverse, play
from benchmarks.actors.tally import Tally
from benchmarks.payload import ORDER

AT_ONCE = 100


def new_worker(url: str, queue: str) -> Any:
    logging.getLogger("streaq").setLevel(logging.ERROR)
    return Worker(
        redis_url=url,
        queue_name=queue,
        concurrency=AT_ONCE,
        handle_signals=False,
        serializer=json.dumps,
        deserializer=json.loads,
    )


async def worker(url: str, queue: str, tally: str) -> None:
    """Carry out tasks."""
    serving = new_worker(url, queue)
    arrived = Tally(tally).arrived

    @serving.task(name="noop")  # type: ignore[untyped-decorator, unused-ignore]
    async def noop(order_id: int, amount: float, customer: str, items: list[int]) -> int:
        arrived()
        return 1

    running = asyncio.create_task(serving.run_async())
    await aconverse()
    running.cancel()


async def submitter(url: str, queue: str) -> None:
    """Submit a hundred in each pipeline."""
    serving = new_worker(url, queue)

    @serving.task(name="noop")  # type: ignore[untyped-decorator, unused-ignore]
    async def noop(order_id: int, amount: float, customer: str, items: list[int]) -> int:
        return 1

    async def submit(count: int) -> None:
        for first in range(0, count, AT_ONCE):
            await serving.enqueue_many([noop.enqueue(**ORDER) for _ in range(min(AT_ONCE, count - first))])

    async with serving:
        await aconverse(submit=submit)


if __name__ == "__main__":
    play(worker, submitter)
