"""The project's tasks and durable events: workers, and those who submit and publish."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from benchmarks.actors.conversation import converse, play
from benchmarks.actors.ours import new_app
from benchmarks.actors.tally import Tally
from benchmarks.actors.timing import figures, one_by_one
from benchmarks.payload import ORDER
from redis_toolkit import App
from redis_toolkit._core.loops import new_loop
from redis_toolkit.patterns import Task, TaskQueue

AT_ONCE = 1000
WARM = 20


def worker(url: str, queue: str, tally: str, kind: str = "def", workers: int = 1, ttl: int = 3600) -> None:
    """Carry out tasks in worker processes.

    Args:
        url: the server.
        queue: the name of the queue.
        tally: the file in which tasks are counted.
        kind: ``def`` or ``async def``.
        workers: how many processes.
        ttl: seconds for which results are kept.
    """
    app = new_app(url)
    tasks = TaskQueue(queue, app=app, result_ttl=ttl)
    arrived = Tally(tally).arrived

    if kind == "def":

        @tasks.task(name="noop")
        def noop(**order: Any) -> int:
            arrived()
            return 1

    else:

        @tasks.task(name="noop")
        async def noop_async(**order: Any) -> int:
            arrived()
            return 1

    app.start(workers=workers)
    converse(pids=lambda: app.worker_pids)
    app.stop()


def submitter(url: str, queue: str, ttl: int = 3600) -> None:
    """Submit: many in few round trips, or one after the other."""
    app = new_app(url)
    tasks, noop = noop_of(app, queue, ttl)

    def submit(count: int) -> dict[str, float]:
        begun = time.perf_counter()
        for first in range(0, count, AT_ONCE):
            tasks.submit_many([noop.call(**ORDER) for _ in range(min(AT_ONCE, count - first))])
        return {"calls": count, "per_second": count / (time.perf_counter() - begun)}

    converse(submit=submit, one_by_one=lambda count: one_by_one(lambda: noop.submit(**ORDER), count))
    app.stop()


def noop_of(app: App, queue: str, ttl: int = 3600) -> tuple[TaskQueue, Task[..., int]]:
    tasks = TaskQueue(queue, app=app, result_ttl=ttl)

    @tasks.task(name="noop")
    def noop(order_id: int, amount: float, customer: str, items: list[int]) -> int:
        return order_id

    return tasks, noop


def timed_worker(url: str, queue: str, kind: str = "def") -> None:
    """Note how long after the moment that it carries a task starts."""
    app = new_app(url)
    tasks = TaskQueue(queue, app=app)
    late: list[float] = []

    if kind == "def":

        @tasks.task(name="noop")
        def noop(due: float) -> None:
            late.append(time.time() - due)

    else:

        @tasks.task(name="noop")
        async def noop_async(due: float) -> None:
            late.append(time.time() - due)

    with app:
        converse(expect=late.clear, late=lambda count: lateness(late, count))


def lateness(late: list[float], count: int) -> dict[str, float]:
    """Wait until ``count`` tasks have started, and return how late they were, without the first few."""
    until = time.monotonic() + 30
    while len(late) < count:
        if time.monotonic() > until:
            raise TimeoutError(f"{len(late)} of {count} tasks have started")
        time.sleep(0.05)
    return {**figures(late[WARM:], 1.0, made=count), "worst_us": max(late[WARM:]) * 1e6}


def timed_submitter(url: str, queue: str) -> None:
    """Submit tasks that carry when they should start."""
    app = new_app(url)
    tasks = TaskQueue(queue, app=app)

    @tasks.task(name="noop")
    def noop(due: float) -> None: ...

    def submit(count: int, gap: float, delay: float = 0.0) -> None:
        for _ in range(count):
            if delay:
                noop.options(delay=delay).submit(due=time.time() + delay)
            else:
                noop.submit(due=time.time())
            time.sleep(gap)

    converse(submit=submit)
    app.stop()


def group(url: str, queue: str, tally: str, kind: str = "def", workers: int = 1) -> None:
    """Handle durable events of one group in worker processes."""
    app = new_app(url)
    arrived = Tally(tally).arrived

    def bill(order: Any) -> None:
        arrived()

    async def bill_async(order: Any) -> None:
        arrived()

    chosen: Callable[..., Any] = bill if kind == "def" else bill_async
    app.on(queue, group="billing")(chosen)
    app.start(workers=workers)
    converse(pids=lambda: app.worker_pids)
    app.stop()


def publisher(url: str, queue: str) -> None:
    """Publish events that a group is to get, any number at once."""

    async def publish(count: int) -> None:
        app = new_app(url)
        for first in range(0, count, AT_ONCE):
            await asyncio.gather(*(app.apublish(queue, ORDER) for _ in range(min(AT_ONCE, count - first))))
        await app.astop()

    converse(submit=lambda count: asyncio.run(publish(count)))


def idle_worker(url: str, queue: str, kind: str, source: str) -> None:
    """Serve one queue or one group, in a worker process, where there is nothing to do."""
    worker_of = worker if source == "queue" else group
    worker_of(url, queue, "", kind)


if __name__ == "__main__":
    play(
        worker, submitter, timed_worker, timed_submitter, group, publisher, idle_worker, loop_factory=new_loop
    )
