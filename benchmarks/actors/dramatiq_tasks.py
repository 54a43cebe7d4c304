"""dramatiq on Redis with its results middleware; one worker process with eight threads, its default."""

from __future__ import annotations

import logging
import sys
from typing import Any

import dramatiq  # type: ignore[import-not-found]
from dramatiq.brokers.redis import RedisBroker  # type: ignore[import-not-found]
from dramatiq.results import Results  # type: ignore[import-not-found]
from dramatiq.results.backends import RedisBackend  # type: ignore[import-not-found]

from benchmarks.actors.conversation import converse, play
from benchmarks.actors.tally import Tally
from benchmarks.payload import ORDER


def new_broker(url: str) -> Any:
    logging.getLogger("dramatiq").setLevel(logging.ERROR)
    broker = RedisBroker(url=url)
    broker.add_middleware(Results(backend=RedisBackend(url=url), store_results=True))
    dramatiq.set_broker(broker)
    return broker


def worker(url: str, queue: str, tally: str) -> None:
    """Carry out tasks."""
    broker = new_broker(url)
    arrived = Tally(tally).arrived

    @dramatiq.actor(queue_name=queue, actor_name="noop")  # type: ignore[untyped-decorator, unused-ignore]
    def noop(**order: Any) -> int:
        arrived()
        return 1

    serving = dramatiq.Worker(broker, worker_threads=8)
    serving.start()
    converse()
    serving.stop()
    sys.exit(0)


def submitter(url: str, queue: str) -> None:
    """Submit, one after the other: it has no call that takes many."""
    new_broker(url)

    @dramatiq.actor(queue_name=queue, actor_name="noop")  # type: ignore[untyped-decorator, unused-ignore]
    def noop(**order: Any) -> int:
        return 1

    def submit(count: int) -> None:
        for _ in range(count):
            noop.send(**ORDER)

    converse(submit=submit)


if __name__ == "__main__":
    play(worker, submitter)
