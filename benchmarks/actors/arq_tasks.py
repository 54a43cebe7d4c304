"""arq: one worker with a hundred jobs at once instead of ten, and results kept for an hour, its default."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from arq import create_pool  # type: ignore[import-not-found]
from arq.connections import RedisSettings  # type: ignore[import-not-found]
from arq.worker import Worker, func  # type: ignore[import-not-found]

from benchmarks.actors.conversation import aconverse, play
from benchmarks.actors.tally import Tally
from benchmarks.payload import ORDER

JOBS = 100


async def worker(url: str, queue: str, tally: str) -> None:
    """Carry out tasks."""
    logging.getLogger("arq").setLevel(logging.ERROR)
    arrived = Tally(tally).arrived

    async def noop(context: Any, **order: Any) -> int:
        arrived()
        return 1

    serving = Worker(
        [func(noop, name="noop")],
        queue_name=queue,
        redis_settings=RedisSettings.from_dsn(url),
        max_jobs=JOBS,
        poll_delay=0.05,
        handle_signals=False,
    )
    running = asyncio.create_task(serving.async_run())
    await aconverse()
    running.cancel()


async def submitter(url: str, queue: str) -> None:
    """Submit, a hundred at once: it has no call that takes many."""
    pool = await create_pool(RedisSettings.from_dsn(url), default_queue_name=queue)

    async def submit(count: int) -> None:
        for first in range(0, count, JOBS):
            calls = (pool.enqueue_job("noop", **ORDER) for _ in range(min(JOBS, count - first)))
            await asyncio.gather(*calls)

    await aconverse(submit=submit)
    await pool.aclose()


if __name__ == "__main__":
    play(worker, submitter)
