"""The small API of queues: `submit_task`, `create_worker`, and what is announced."""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from redis_toolkit import App, ConfigurationError, RedisToolkit
from redis_toolkit.patterns import TaskQueue
from tests.e2e.conftest import released
from tests.e2e.queues import DEADLINE, Queue
from tests.e2e.styles import Background, Style
from tests.kit.servers import Server
from tests.kit.waiting import eventually

pytestmark = pytest.mark.usefixtures("every_style")
Task = dict[str, Any]


@pytest.fixture
def queue(app: App, style: Style, background: Background | None) -> Queue:
    return Queue(app, style, background)


@pytest.fixture
def worker(queue: Queue) -> Iterator[Callable[..., Any]]:
    """Return a function that creates a worker, stopped after the test."""
    running: list[Any] = []

    def create(name: str, handler: Callable[..., Any], **options: Any) -> Any:
        running.append(queue.create_worker(name, queue.handler(handler), **options))
        return running[-1]

    yield create
    for one in running:
        queue.do(one, "stop")
        one.cleanup()


@pytest.fixture
def announced(server: Server, no_thread_is_left: None) -> Iterator[list[tuple[str, Task]]]:
    heard: list[tuple[str, Task]] = []
    with RedisToolkit(["tasks:*"], lambda channel, data: heard.append((channel, data)), url=server.url):
        yield heard


def test_a_task_and_what_is_announced_of_it(
    queue: Queue, worker: Any, announced: list[tuple[str, Task]]
) -> None:
    got: list[Task] = []
    before = time.time()

    def handle(task: Task) -> Any:
        got.append(copy.deepcopy(task))
        task["payload"]["to"] = "changed by the handler"
        return {"sent": True}

    worker("worker-1", handle)
    task_id = queue.submit_task("mail", {"to": "ann"}, priority="high")
    assert queue.result(queue.real.handle(task_id)) == {"sent": True}
    [task] = got
    times = [task.pop("submitted_at"), task.pop("started_at")]
    assert all(before - 600 < moment < time.time() + 600 for moment in times)
    assert task == {
        "id": task_id, "type": "mail", "payload": {"to": "ann"}, "priority": "high",
        "status": "processing", "worker_id": "worker-1",
    }  # fmt: skip
    eventually(lambda: announced)
    [(channel, said)] = announced
    assert channel == "tasks:completed"
    assert before - 600 < said.pop("completed_at") < time.time() + 600
    del said["submitted_at"], said["started_at"]
    assert said == {**task, "status": "completed", "queue": "q", "result": {"sent": True}}


def test_one_that_fails(queue: Queue, worker: Any, announced: list[tuple[str, Task]]) -> None:
    def handle(task: Task) -> None:
        raise ValueError(f"no {task['payload']}")

    worker("worker-1", handle, retries=1, backoff=0.01)
    task_id = queue.submit_task("mail", 5)
    eventually(lambda: announced)
    [(channel, said)] = announced
    assert (channel, said["id"], said["status"], said["queue"]) == ("tasks:failed", task_id, "failed", "q")
    assert said["error"] == "ValueError: no 5"
    assert {"failed_at", "payload", "worker_id"} <= said.keys()
    assert [letter.id for letter in queue.dead()] == [task_id]


def test_two_workers_share_the_tasks(queue: Queue, worker: Any) -> None:
    ran: list[tuple[str, int]] = []
    both = threading.Barrier(2)

    def handle(task: Task) -> None:
        if task["payload"] < 2:
            both.wait(30)  # each has one
        ran.append((task["worker_id"], task["payload"]))

    for name in ("one", "two"):
        worker(name, handle)
    for number in range(20):
        queue.submit_task("work", number)
    queue.join(DEADLINE)
    assert sorted(number for _, number in ran) == list(range(20))
    assert {name for name, _ in ran} == {"one", "two"}


def test_it_runs_one_at_a_time_unless_told_otherwise(queue: Queue, worker: Any) -> None:
    together = threading.Barrier(3)

    def handle(task: Task) -> int:
        return together.wait(30)

    worker("worker-1", handle, concurrency=3)
    handles = [queue.submit("work", number) for number in range(3)]
    assert sorted(queue.results(handles)) == [0, 1, 2]

    running: list[int] = []
    most: list[int] = []

    def count(task: Task) -> None:
        running.append(1)
        most.append(len(running))
        running.pop()

    other = Queue(queue.real.app, queue._style, queue._background, "other")
    with other.real.create_worker("worker-2", other.handler(count)):
        other.results([other.submit("work", number) for number in range(20)])
    assert set(most) == {1}


def test_types_that_are_functions_go_to_these(queue: Queue, worker: Any) -> None:
    queue.task(name="add")(lambda a, b: a + b)
    worker("worker-1", lambda task: task["type"])
    assert queue.result(queue.submit("add", {"a": 1, "b": 2})) == 3
    assert queue.result(queue.submit("other", {})) == "other"


def test_what_it_has_not_begun_is_left_for_others(queue: Queue, worker: Any) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def handle(task: Task) -> str:
        begun.set()
        assert go_on.wait(30)
        return str(task["worker_id"])

    first = worker("one", handle)
    handles = [queue.submit("work", number) for number in range(3)]
    with released(go_on):
        assert begun.wait(30)
        stopping = threading.Thread(target=lambda: queue.do(first, "stop"))
        stopping.start()
        go_on.set()
        stopping.join(30)
    worker("two", handle)
    names = queue.results(handles)
    assert names[0] == "one"
    assert set(names[1:]) <= {"one", "two"}  # by the first one, if it was quicker than the stop


def test_a_worker_that_cannot_be(queue: Queue) -> None:
    for options in ({"concurrency": 0}, {"retries": -1}, {"timeout": 0}, {"lease": -1}):
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            queue.create_worker("worker-1", lambda task: None, **options)
    with pytest.raises(ConfigurationError, match="worker_id"):
        queue.create_worker("", lambda task: None)


@pytest.mark.usefixtures("threads_and_calls")
def test_it_may_be_used_where_a_loop_runs(server: Server) -> None:
    """The small API neither raises nor warns there."""
    queue = TaskQueue("q", url=server.url)

    async def main() -> Any:
        with queue.create_worker("worker-1", lambda task: task["payload"] + 1):
            task_id = queue.submit_task("add", 1)
            result = await queue.handle(task_id)
        async with await queue.acreate_worker("worker-2", lambda task: task["payload"] + 2):
            return result, await queue.handle(await queue.asubmit_task("add", 1))

    assert asyncio.run(main()) == (2, 3)
    queue.cleanup()


@pytest.mark.usefixtures("threads_and_calls")
def test_a_handler_on_a_loop_is_told_to_await(server: Server, app: App) -> None:
    queue = TaskQueue("q", app=app)

    @queue.task
    async def outer() -> Any:
        task_id = queue.submit_task("inner", 1)
        for call in (lambda: queue.submit("inner", 1), queue.stats, lambda: queue.handle(task_id).result(5)):
            with pytest.raises(ConfigurationError, match=r"await a(submit|stats|result)\(\)"):
                call()
        return await queue.handle(task_id).aresult(DEADLINE)

    @queue.task
    def inner(number: int) -> int:
        return number + 1

    with app:
        assert outer.submit().result(DEADLINE) == 2


def test_the_end_of_a_queue_is_that_of_its_workers(server: Server) -> None:
    queue = TaskQueue("jobs", url=server.url)
    first, second = (queue.create_worker(name, lambda task: None) for name in ("one", "two"))
    first.stop()
    assert repr(second).startswith("<worker 'two' of queue 'jobs' on App(")
    assert [repr(one).rpartition(", ")[2] for one in (first, second)] == ["not running>", "running>"]
    queue.stop()
    assert repr(second).endswith(", not running>")
