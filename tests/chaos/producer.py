"""A program that submits tasks and publishes events, each until that was acknowledged, and tells so then.

Each has an id, so a call that failed is repeated. Usage: with ``$URL``, ``$HISTORY``, ``$TASKS`` and
``$EVENTS`` (how many there are), ``$RATE`` (how many of both are begun per second), ``$PART`` (0: the even
numbers, by calls in threads; 1: the odd ones, awaited on a loop).
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator

from redis_toolkit import App, OutcomeUnknown, ServerUnreachable, StoreFull
from redis_toolkit.patterns import TaskQueue
from tests.chaos.plan import CHANNEL, QUEUES, delay_of, queue_of
from tests.kit.history import History

AT_ONCE = 8
AGAIN = 0.05
"""Seconds before a call is repeated."""
UNCERTAIN = (OutcomeUnknown, ServerUnreachable, StoreFull)

app = App(os.environ["URL"], reconnect_cap=0.5)
history = History(os.environ["HISTORY"])
queues = {name: TaskQueue(name, app=app) for name in QUEUES}


class Items:
    """Hands out what is to be sent, no faster than it may be; to threads or coroutines."""

    def __init__(self) -> None:
        self._items = self._all()
        self._rate = float(os.environ["RATE"])
        self._began = time.monotonic()
        self._given = 0
        self._lock = threading.Lock()

    def next(self) -> tuple[str, int, float] | None:
        """Return where the next one goes, its number, and the seconds to wait before; or None."""
        with self._lock:
            found = next(self._items, None)
            self._given += 1
            wait = self._began + self._given / self._rate - time.monotonic()
        return found and (*found, max(wait, 0))

    def _all(self) -> Iterator[tuple[str, int]]:
        part, tasks, events = (int(os.environ[name]) for name in ("PART", "TASKS", "EVENTS"))
        for number in range(part, max(tasks, events), 2):
            if number < tasks:
                yield queue_of(number), number
            if number < events:
                yield CHANNEL, number


def tell(where: str, number: int, tries: int) -> None:
    history.write("acknowledged", where=where, number=number, tries=tries)


def send(where: str, number: int) -> None:
    for tries in range(1, 10_000):
        try:
            if where == CHANNEL:
                app.publish(CHANNEL, number, id=f"event-{number}")
            else:
                delay = delay_of(number)
                queues[where].submit(
                    "work", number, id=f"task-{number}", priority=priority(number), delay=delay
                )
        except UNCERTAIN:
            time.sleep(AGAIN)
        else:
            tell(where, number, tries)
            return


async def asend(where: str, number: int) -> None:
    for tries in range(1, 10_000):
        try:
            if where == CHANNEL:
                await app.apublish(CHANNEL, number, id=f"event-{number}")
            else:
                delay, queue = delay_of(number), queues[where]
                await queue.asubmit(
                    "work", number, id=f"task-{number}", priority=priority(number), delay=delay
                )
        except UNCERTAIN:
            await asyncio.sleep(AGAIN)
        else:
            tell(where, number, tries)
            return


def priority(number: int) -> str:
    return ("high", "normal", "low")[number % 3]


def in_threads(items: Items) -> None:
    def run() -> None:
        while found := items.next():
            where, number, wait = found
            time.sleep(wait)
            send(where, number)

    threads = [threading.Thread(target=run) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def on_the_loop(items: Items) -> None:
    async def run() -> None:
        while found := items.next():
            where, number, wait = found
            await asyncio.sleep(wait)
            await asend(where, number)

    async with app, asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(run())


if __name__ == "__main__":
    if os.environ["PART"] == "0":
        in_threads(Items())
        app.stop()
    else:
        asyncio.run(on_the_loop(Items()))
