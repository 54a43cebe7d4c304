"""What the tests of the thread engine for durable work share: one queue with handlers, and its end states."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis_toolkit import keys
from redis_toolkit._core.connection import Connections
from redis_toolkit._core.flow import Call, Command, Flow
from redis_toolkit._core.flows import leases, task_ends, tasks
from redis_toolkit._core.flows.task_ends import Found
from redis_toolkit._core.flows.tasks import Stats
from redis_toolkit._core.flows.work import Letter
from redis_toolkit._core.sync_driver import LinkDriver
from redis_toolkit.binding import Binding
from redis_toolkit.codecs import resolve_codec
from redis_toolkit.jobs import Durable, Job, Policy
from redis_toolkit.settings import Settings
from redis_toolkit.task_envelope import write_task
from redis_toolkit.wire import Wire
from redis_toolkit.worker.consumer import Consumer
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.heartbeat import ServerClock
from redis_toolkit.worker.work_threads import WorkThreads
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.fakes import no_threads_left

DEADLINE = 30.0
TRAINED = 200
PRIORITIES = ("high", "normal", "low")
WIRE = Wire(resolve_codec("json"), 1024 * 1024)
SOURCE = tasks.queue_source("jobs", PRIORITIES)
Handler = Callable[..., Any]


class ThreadGate:
    """Handlers wait here until it is opened; it says when one has come."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.entered = threading.Semaphore(0)

    def wait(self) -> None:
        self.entered.release()
        assert self.event.wait(DEADLINE)

    def wait_entered(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.entered.acquire(timeout=DEADLINE)


class Crewed:
    """One process's part in the queue, without keeper and timer.

    Attributes:
        threads: the engine.
    """

    def __init__(
        self,
        url: str,
        jobs: dict[str, Handler],
        places: int,
        policy: Policy,
        name: str = "me",
        lease: float = 60.0,
        **settings: Any,
    ) -> None:
        numbers = Settings(**{"block": 300, "reconnect_cap": 0.1, **settings})
        self.counters = Counters()
        made = {kind: Job(kind, Binding(function), WIRE, policy) for kind, function in jobs.items()}
        durable = Durable(SOURCE, made, "jobs", is_queue=True, concurrency=places, lease=lease)
        self.consumer = Consumer(durable, name, numbers, ServerClock(), self.counters)
        self.connections = Connections(url)
        self.threads = WorkThreads(self.consumer, self.connections, numbers, self.counters)
        self.started = self.stopped = False

    def start(self) -> Crewed:
        self.threads.start()
        self.started = True
        return self

    def stop(self, grace: float = DEADLINE) -> bool:
        """Return whether all handlers ended in time."""
        self.stopped = True
        return self.threads.stop(time.monotonic() + grace)

    def close(self) -> None:
        if self.started and not self.stopped:
            self.stop()
        self.connections.close()

    @property
    def held(self) -> int:
        return len(self.consumer.holdings)


class Queue:
    """The caller's side of it, and its state."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._connections = Connections(server.url)
        self._driver = LinkDriver(self._connections, DEADLINE)

    def submit(
        self, payloads: Iterable[Any], kind: str = "work", priority: str = "normal", prefix: str = ""
    ) -> list[str]:
        """Submit a task for each payload; its id is the payload's text."""
        ids = [(f"{prefix}{data}", data) for data in payloads]
        submissions = [
            tasks.Submission(name, write_task(WIRE, name, kind, data), priority) for name, data in ids
        ]
        self._driver.run(tasks.submit_many("jobs", submissions, PRIORITIES))
        return [name for name, _ in ids]

    def train(self) -> None:
        """Let the engine learn that a handler is quick."""
        self.submit([-1 - number for number in range(TRAINED)])
        self.wait_done(TRAINED)

    def record(self, task_id: object) -> Found:
        return self._driver.run(task_ends.find(SOURCE, str(task_id)))

    def ended(self, ids: Iterable[object], state: str = "done") -> list[object]:
        """Return those of the ids that have ended so."""
        return [one for one in ids if self.record(one).state == state]

    def stats(self) -> Stats:
        return self._driver.run(tasks.stats(SOURCE, PRIORITIES))

    def dead(self) -> list[Letter]:
        return self._driver.run(leases.dead(SOURCE, 100))

    def pending(self, priority: str = "normal") -> list[tuple[str, int]]:
        """Return consumer and delivery count of each entry that is claimed."""
        stream = keys.task_ready("jobs", priority)
        [rows] = self._driver.run(_asking(("XPENDING", stream, SOURCE.group, "-", "+", 10_000)))
        return [(consumer.decode(), count) for _, consumer, _, count in rows]

    def all_done(self, count: int) -> bool:
        """Whether that many have ended well and nothing else is anywhere."""
        stats = self.stats()
        left = sum(stats.ready.values()) + stats.running + stats.later + stats.dead
        return left == 0 and stats.counters.get("done") == count

    def all_ended(self, ids: Sequence[str]) -> bool:
        """Whether each of these has a record, and nothing else is anywhere."""
        stats = self.stats()
        if sum(stats.ready.values()) + stats.running + stats.later + stats.dead:
            return False
        commands = tuple(("HGET", keys.task_record("jobs", one), "state") for one in ids)
        return self._driver.run(_asking(*commands)) == [b"done"] * len(ids)

    def wait_done(self, count: int) -> None:
        eventually(lambda: self.all_done(count), what=f"the end of {count} tasks", timeout=60)

    def close(self) -> None:
        self._driver.close()
        self._connections.close()


def _asking(*commands: Command) -> Flow[list[Any]]:
    replies: list[Any] = yield Call(commands, repeatable=True)
    return replies


MakeCrew = Callable[..., Crewed]


@contextmanager
def crewing(server: Server) -> Iterator[MakeCrew]:
    """Make crews whose claims block for longer than any test waits: what goes on does not wait for that."""
    made: list[Crewed] = []

    def new(
        jobs: dict[str, Handler] | Handler, places: int = 4, policy: Policy | None = None, **options: Any
    ) -> Crewed:
        named = jobs if isinstance(jobs, dict) else {"work": jobs}
        crew = Crewed(options.pop("url", server.url), named, places, policy or Policy(), **options)
        made.append(crew)
        return crew

    with no_threads_left("rt-"):
        try:
            yield new
        finally:
            for crew in made:
                crew.close()
