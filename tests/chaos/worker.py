"""A program that serves both queues and both groups, and tells in the history what it begins and ends.

A number is "started" before anything else, and "ended" or "failed" as the last thing before its handler
returns or raises. Usage: with ``$URL``, ``$HISTORY``, ``$OPTIONS`` (JSON) and ``$WORKERS`` (0: this process).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time

from redis_toolkit import App, Message, Reject
from redis_toolkit.patterns import TaskQueue
from tests.chaos.plan import CHANNEL, GROUPS, QUEUES, RETRIES, SLOW, fate_of
from tests.kit.history import History

BACKOFF = 0.05

logging.getLogger("redis_toolkit").addFilter(lambda record: "in attempt" not in record.getMessage())
app = App(os.environ["URL"], **json.loads(os.environ["OPTIONS"]))
history = History(os.environ["HISTORY"])


class Work:
    """One run of a handler: what it tells."""

    def __init__(self, where: str, number: int, message: Message) -> None:
        self.fate = fate_of(number)
        self._first = message.attempt == 1
        self._fields = {
            "where": where,
            "number": number,
            "id": message.id,
            "attempt": message.attempt,
            "deliveries": message.deliveries,
        }
        history.write("started", **self._fields)

    def end(self, number: int) -> int:
        """Return what the handler returns, or raise what it raises."""
        if self.fate == "rejected":
            history.write("failed", **self._fields)
            raise Reject("made to fail")
        if self.fate == "flaky" and self._first:
            history.write("failed", **self._fields)
            raise ConnectionError("made to fail once")
        history.write("ended", **self._fields)
        return -number


def serve_in_threads(queue: TaskQueue) -> None:
    @queue.task(name="work", retries=RETRIES, backoff=BACKOFF)
    def task(number: int, message: Message) -> int:
        return handle(queue.name, number, message)

    @app.on(CHANNEL, group=GROUPS[0], retries=RETRIES, backoff=BACKOFF)
    def event(number: int, message: Message) -> None:
        handle(GROUPS[0], number, message)


def handle(where: str, number: int, message: Message) -> int:
    work = Work(where, number, message)
    if work.fate == "slow":
        time.sleep(SLOW)
    return work.end(number)


def serve_on_the_loop(queue: TaskQueue) -> None:
    @queue.task(name="work", retries=RETRIES, backoff=BACKOFF)
    async def task(number: int, message: Message) -> int:
        return await handle_on_the_loop(queue.name, number, message)

    @app.on(CHANNEL, group=GROUPS[1], retries=RETRIES, backoff=BACKOFF)
    async def event(number: int, message: Message) -> None:
        await handle_on_the_loop(GROUPS[1], number, message)


async def handle_on_the_loop(where: str, number: int, message: Message) -> int:
    work = Work(where, number, message)
    await asyncio.sleep(SLOW if work.fate == "slow" else 0)
    return work.end(number)


serve_in_threads(TaskQueue(QUEUES[0], app=app))
serve_on_the_loop(TaskQueue(QUEUES[1], app=app))

if __name__ == "__main__":
    app.run(workers=int(os.environ["WORKERS"]))
