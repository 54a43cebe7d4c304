"""Queues served by real worker processes: with an app, by themselves, from a script, from an import."""

from __future__ import annotations

import os

import pytest

from redis_toolkit import App, RemoteError
from redis_toolkit.patterns import ReliableMessaging, TaskQueue
from tests.kit.waiting import eventually
from tests.worker.programs import Programs, both_answer, kill

DEADLINE = 30.0
TASKS = """
from redis_toolkit import current_task
from redis_toolkit.patterns import TaskQueue

@app.on("pid", events=False)
def pid():
    return os.getpid()

queue = TaskQueue("jobs", app=app, lease=1)

@queue.task
def gated(number):
    history.write("started", number=number, deliveries=current_task().deliveries)
    if current_task().deliveries == 1:
        wait_at_gate()
    return number

@queue.task
async def double(number):
    return [2 * number, os.getpid()]
"""
SUBSCRIBERS = """
from redis_toolkit.patterns import ReliableMessaging

messaging = ReliableMessaging(app=app)

def book(message):
    history.write("booked", amount=message["amount"])

messaging.create_ack_subscriber("payments", book)
"""
OWN = """
from redis_toolkit.patterns import TaskQueue
queue = TaskQueue("jobs", url=os.environ["URL"])

@queue.task
def double(number):
    return [2 * number, os.getpid()]
"""


@pytest.fixture
def queue(client: App) -> TaskQueue:
    return TaskQueue("jobs", app=client)


def test_beside_requests_in_worker_processes(programs: Programs, client: App, queue: TaskQueue) -> None:
    program = programs.serving(TASKS, "app.run(workers=2)\n")
    pids = both_answer(client)
    results = queue.gather([queue.submit("double", number) for number in range(50)], timeout=DEADLINE)
    assert [result for result, _ in results] == [2 * number for number in range(50)]
    assert {pid for _, pid in results} <= pids
    program.terminate()
    assert program.wait() == 0


HANGING = """
@queue.task(timeout=0.2)
def hang(data=None):
    wait_at_gate()

app.run(workers=1)
"""


@pytest.mark.fault(8, "tasks")
def test_a_process_whose_threads_hang_is_replaced(programs: Programs, queue: TaskQueue) -> None:
    """The queue is served on the event loop, which goes on; a ``def`` task has no place left there."""
    programs.serving(TASKS, HANGING, workers=1, settings={"concurrency": 1, "grace": 0.1})
    _, first = queue.submit("double", 1).result(DEADLINE)
    with pytest.raises(RemoteError, match="TimeoutError"):
        queue.submit("hang", None).result(DEADLINE)
    eventually(lambda: queue.submit("double", 1).result(DEADLINE)[1] != first, what="another process")
    programs.open_gate()


@pytest.mark.fault(1, "tasks")
def test_a_task_of_a_worker_that_is_killed_runs_again(programs: Programs, queue: TaskQueue) -> None:
    programs.serving(TASKS, "app.run(workers=2)\n")
    handle = queue.submit("gated", 7)
    first = programs.history.wait_for(bool, event="started")[0]
    kill(first["pid"])
    assert handle.result(DEADLINE) == 7
    entries = programs.history.read("started")
    assert [entry["deliveries"] for entry in entries] == [1, 2]
    assert entries[1]["pid"] != first["pid"]
    eventually(lambda: queue.stats().pending == 0)


def test_subscribers_of_an_app_are_served_by_its_worker_processes(programs: Programs, client: App) -> None:
    program = programs.serving(SUBSCRIBERS, "app.run(workers=2)\n")
    messaging = ReliableMessaging(app=client)
    for amount in range(20):
        assert messaging.publish_with_ack("payments", {"amount": amount}, timeout=DEADLINE)
    messaging.stop()
    entries = programs.history.read("booked")
    assert sorted(entry["amount"] for entry in entries) == list(range(20))
    assert program.pid not in {entry["pid"] for entry in entries}
    assert "no handlers" not in program.output
    program.terminate()
    assert program.wait() == 0


def test_a_queue_runs_by_itself(programs: Programs, queue: TaskQueue) -> None:
    program = programs.serving(OWN, "queue.run(workers=2)\n")
    assert queue.submit("double", 4).result(DEADLINE)[0] == 8
    program.terminate()
    assert program.wait() == 0


def test_a_queue_of_another_module_is_imported(programs: Programs, queue: TaskQueue) -> None:
    programs.write("service.py", OWN, "def serve():\n    history.write('asked')\n    queue.run(workers=2)\n")
    main = programs.write_bare("main.py", "import service\nservice.serve()\n")
    program = programs.serving(path=main)
    result, pid = queue.submit("double", 4).result(DEADLINE)
    assert result == 8
    assert pid in program.children()
    assert len(programs.history.read("asked")) == 1
    assert pid != os.getpid()


def test_in_the_background_of_a_script(programs: Programs) -> None:
    program = programs.start(
        OWN,
        """
        queue.start(workers=1)
        print(double.submit(4).result(30)[0])
        queue.stop()
        with queue:
            print(double.submit(5).result(30) == [10, os.getpid()])
        """,
    )
    assert program.wait(60) == 0, program.output
    assert program.stdout.split() == ["8", "True"]
