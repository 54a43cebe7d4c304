"""taskiq on Redis streams with results kept: the broker that its documentation advises, as in its worker."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from taskiq.api import run_receiver_task  # type: ignore[import-not-found]
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker  # type: ignore[import-not-found]

from benchmarks.actors.conversation import aconverse, play
from benchmarks.actors.tally import Tally
from benchmarks.payload import ORDER

AT_ONCE = 100
KEPT = 3600


def new_broker(url: str, queue: str) -> Any:
    logging.getLogger("taskiq").setLevel(logging.ERROR)
    backend = RedisAsyncResultBackend(url, result_ex_time=KEPT)
    return RedisStreamBroker(url, queue_name=queue, consumer_id="0").with_result_backend(backend)


async def worker(url: str, queue: str, tally: str) -> None:
    """Carry out tasks, with the settings of ``taskiq worker``."""
    broker = new_broker(url, queue)
    arrived = Tally(tally).arrived

    @broker.task(task_name="noop")  # type: ignore[untyped-decorator, unused-ignore]
    async def noop(order_id: int, amount: float, customer: str, items: list[int]) -> int:
        arrived()
        return 1

    broker.is_worker_process = True
    await broker.startup()
    serving = asyncio.create_task(run_receiver_task(broker, max_async_tasks=100))
    await aconverse()
    serving.cancel()


async def submitter(url: str, queue: str) -> None:
    """Submit, a hundred at once: it has no call that takes many."""
    broker = new_broker(url, queue)

    @broker.task(task_name="noop")  # type: ignore[untyped-decorator, unused-ignore]
    async def noop(order_id: int, amount: float, customer: str, items: list[int]) -> int:
        return 1

    await broker.startup()

    async def submit(count: int) -> None:
        for first in range(0, count, AT_ONCE):
            await asyncio.gather(*(noop.kiq(**ORDER) for _ in range(min(AT_ONCE, count - first))))

    await aconverse(submit=submit)
    await broker.shutdown()


if __name__ == "__main__":
    play(worker, submitter)
