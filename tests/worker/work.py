"""A queue, for tests of what serves it: without the pattern that applications use.

Rules: what is submitted goes through the flows, as a caller's does; what came of it is read from the server.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from redis_toolkit import App
from redis_toolkit._core.flows import leases, task_ends, tasks
from redis_toolkit._core.flows.task_ends import Found
from redis_toolkit._core.flows.tasks import Stats, Submission, queue_source
from redis_toolkit._core.sync_driver import SyncDriver
from redis_toolkit.binding import Binding
from redis_toolkit.codecs import JSONCodec
from redis_toolkit.jobs import Durable, Job, Policy
from redis_toolkit.settings import Settings
from redis_toolkit.wire import Wire
from tests.kit.waiting import eventually

PRIORITIES = ("high", "low")
QUEUE = "q"
SOURCE = queue_source(QUEUE, PRIORITIES)
WIRE = Wire(JSONCodec(), 1024 * 1024)


def serve_queue(app: App, policy: Policy | None = None, /, **jobs: Callable[..., Any] | Job) -> Durable:
    """Have an app serve the queue; each job by its task type."""
    found = {
        kind: job if isinstance(job, Job) else Job(kind, Binding(job), WIRE, policy or Policy())
        for kind, job in jobs.items()
    }
    one = Durable(SOURCE, found, QUEUE, is_queue=True)
    app._router.add_durable(one)
    return one


class Caller:
    """Submits tasks and looks at what came of them."""

    def __init__(self, app: App) -> None:
        self._driver = SyncDriver(app._connections, Settings())

    def submit(self, kind: str, data: Sequence[Any], priority: str = "low", first: int = 0) -> list[str]:
        """Submit tasks of one type, a task for each payload; returns their ids."""
        many = [
            Submission(
                f"{kind}-{number}",
                json.dumps({"id": f"{kind}-{number}", "task": kind, "data": payload}).encode(),
                priority,
            )
            for number, payload in enumerate(data, first)
        ]
        self._driver.run(tasks.submit_many(QUEUE, many, PRIORITIES))
        return [one.id for one in many]

    def cancel(self, id: str) -> str:
        """Cancel a task; returns what came of that."""
        return self._driver.run(task_ends.cancel(SOURCE, id, b"{}", 60_000)).state

    def pause(self) -> None:
        self._driver.run(leases.pause(SOURCE))

    def resume(self) -> None:
        self._driver.run(leases.resume(SOURCE))

    def stats(self) -> Stats:
        return self._driver.run(tasks.stats(SOURCE, PRIORITIES))

    def record(self, id: str) -> Found:
        return self._driver.run(task_ends.find(SOURCE, id))

    def letters(self) -> dict[str, str]:
        """Return the reasons of dead letters by id."""
        return {one["id"].decode(): one["reason"].decode() for one in self.dead()}

    def dead(self) -> list[dict[str, bytes]]:
        return [letter.fields for letter in self._driver.run(leases.dead(SOURCE, 1000))]

    def ended(self, count: int, outcome: str = "done") -> None:
        """Wait until so many tasks have ended in one way."""
        eventually(
            lambda: self.stats().counters.get(outcome) == count,
            what=f"{count} that are {outcome}, not {self.stats()}",
        )
