"""Tasks from the submit to the result, in every style."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from redis_toolkit import (
    App,
    Message,
    Reject,
    RemoteError,
    RequestTimeout,
    Retry,
    TaskCancelled,
    TaskExpired,
    TaskUnknown,
    current_task,
)
from redis_toolkit.keys import WITHOUT_TTL, task_waiters
from tests.e2e.conftest import released
from tests.e2e.queues import DEADLINE, Queue
from tests.e2e.styles import Background, Style
from tests.kit.servers import Server
from tests.kit.waiting import eventually

pytestmark = pytest.mark.usefixtures("every_style")
MakeQueue = Callable[..., Queue]


@pytest.fixture
def make_queue(app: App, style: Style, background: Background | None) -> MakeQueue:
    return lambda *args, **options: Queue(app, style, background, *args, **options)


@pytest.fixture
def queue(make_queue: MakeQueue, app: App, server: Server) -> Iterator[Queue]:
    yield make_queue()
    app.stop()
    kept = [name.removeprefix("task_") for name in WITHOUT_TTL if name.startswith("task_")]
    places = {"ready": "p:", "counters": "stats"}
    client = server.client()
    for key in client.scan_iter():
        lasting = [places.get(name, name) for name in kept]
        assert client.pttl(key) != -1 or any(f"}}:{name}" in key for name in lasting), key


def test_a_result_comes_back(queue: Queue, app: App) -> None:
    add = queue.task()(lambda a, b=2: a + b)
    with app:
        handle = queue.sent(add, 1)
        assert queue.result(handle) == 3
        assert (queue.do(handle, "status"), queue.result(handle)) == ("done", 3)
        assert queue.result(queue.real.handle(handle.id)) == 3
        assert queue.results([queue.sent(add, number, b=1) for number in range(20)]) == list(range(1, 21))


def test_one_submitted_before_the_first_worker(queue: Queue, app: App) -> None:
    add = queue.task()(lambda a, b=2: a + b)
    handle = queue.sent(add, 1)
    assert queue.do(handle, "status") == "queued"
    with app:
        assert queue.result(handle) == 3


@dataclass
class Order:
    id: int
    day: date


def test_types_come_back_as_the_function_says(queue: Queue, app: App) -> None:
    def next_order(order: Order, message: Message) -> Order:
        assert message.headers == {"from": "me"}
        return Order(order.id + 1, order.day + timedelta(days=1))

    task = queue.task(name="next")(next_order)
    with app:
        handle = queue.sent(task.options(headers={"from": "me"}), Order(1, date(2026, 1, 1)))
        assert queue.result(handle) == Order(2, date(2026, 1, 2))
        assert queue.result(queue.real.handle(handle.id)) == {"id": 2, "day": "2026-01-02"}


def test_by_type_and_payload(queue: Queue, app: App) -> None:
    queue.task(name="add")(lambda a, b: a + b)
    queue.task(name="echo")(lambda data: data)
    with app:
        assert queue.result(queue.submit("add", {"a": 1, "b": 2}, priority="high")) == 3
        assert queue.result(queue.submit("echo", [1, None])) == [1, None]
        task_id = queue.submit_task("echo", {"x": 1}, priority="low")
        assert queue.result(queue.real.handle(task_id)) == {"x": 1}


def test_higher_priorities_first(queue: Queue, app: App, make_queue: MakeQueue) -> None:
    queue = make_queue("ordered", concurrency=1)
    ran: list[str] = []
    note = queue.task()(ran.append)
    calls = [
        note.options(priority=name).call(f"{name}{number}")
        for number in range(3)
        for name in ("low", "high", "normal")
    ]
    handles = queue.submit_many(calls)
    with app:
        queue.results(handles)
    assert ran == [f"{name}{number}" for name in ("high", "normal", "low") for number in range(3)]


def test_failures_are_retried_and_then_buried(queue: Queue, app: App) -> None:
    attempts: list[int] = []

    def fail(what: str) -> None:
        attempts.append(current_task().attempt)
        raise ValueError(what)

    task = queue.task(name="fail", retries=2, backoff=0.01)(fail)
    with app:
        handle = queue.sent(task, "no")
        with pytest.raises(RemoteError, match=r"^ValueError: no$"):
            queue.result(handle)
        assert attempts == [1, 2, 3]
        assert queue.do(handle, "status") == "failed"
        [letter] = queue.dead()
        assert (letter.id, letter.type, letter.reason, letter.attempts) == (handle.id, "fail", "failed", 3)
        assert (letter.error, letter.data) == ("ValueError: no", {"what": "no"})
        assert "raise ValueError(what)" in letter.traceback
        assert abs(letter.at - datetime.now(UTC).timestamp()) < 600

        assert queue.retry_dead([handle.id]) == 1
        again = queue.real.handle(handle.id)
        with pytest.raises(RemoteError, match="ValueError"):
            queue.result(again)
        eventually(lambda: len(attempts) == 6)
        assert queue.retry_dead(queue.dead()) == 1
        eventually(lambda: len(attempts) == 9)
        eventually(lambda: queue.stats().dead == 1)
        assert queue.retry_dead() == 1
        eventually(lambda: len(attempts) == 12)
        eventually(lambda: queue.stats().dead == 1)
        assert queue.retry_dead([queue.dead()[0].entry, "no-such"]) == 1
        eventually(lambda: len(attempts) == 15)


@pytest.mark.parametrize("ttl", [60, 0], ids=["kept", "unkept"])
def test_a_handle_sees_what_became_of_a_dead_letter(queue: Queue, app: App, ttl: int) -> None:
    mended, go_on = threading.Event(), threading.Event()

    def fragile() -> str:
        if not mended.is_set():
            raise ValueError("broken")
        go_on.wait(DEADLINE)
        return "mended"

    def waited(handle: Any) -> bool:
        return bool(app.client.hexists(task_waiters("q"), handle.id))

    handle = queue.sent(queue.task(name="fragile", result_ttl=ttl)(fragile))
    with ThreadPoolExecutor(1) as pool:
        failure = pool.submit(queue.result, handle)
        eventually(lambda: waited(handle))
        with app:
            assert "broken" in str(failure.exception(DEADLINE))
            with pytest.raises(RemoteError, match="broken"):  # nothing has changed
                queue.result(handle)
            mended.set()
            assert queue.retry_dead() == 1
            result = pool.submit(queue.result, handle)
            eventually(lambda: waited(handle))
            go_on.set()
            assert result.result(DEADLINE) == "mended"
            assert (queue.result(handle), queue.results([handle])) == ("mended", ["mended"])


def test_who_waits_in_vain_hears_that_nobody_works(queue: Queue, app: App) -> None:
    go_on = threading.Event()
    handle = queue.sent(queue.task(name="wait")(lambda: go_on.wait(DEADLINE)))
    nobody = r"has not ended after 0.05 s: no worker serves queue 'q' \(stats\(\)\.consumers is 0\)$"
    with pytest.raises(RequestTimeout, match=nobody):
        queue.result(handle, 0.05)
    with pytest.raises(RequestTimeout, match=nobody):
        queue.do(queue.real, "gather", [handle], timeout=0.05)
    with app:
        with pytest.raises(RequestTimeout, match=r"has not ended after 0.05 s$"):
            queue.result(handle, 0.05)
        go_on.set()
        assert queue.result(handle)


def test_one_that_succeeds_in_the_end(queue: Queue, app: App) -> None:
    attempts: list[int] = []

    def at_last() -> int:
        attempts.append(1)
        if len(attempts) < 3:
            raise Retry(delay=0.01) if len(attempts) == 1 else KeyError("x")
        return len(attempts)

    task = queue.task(name="at-last", retries={KeyError: 2}, backoff=0.01)(at_last)
    with app:
        assert queue.result(queue.sent(task)) == 3
        assert queue.dead() == []


def test_one_that_is_rejected(queue: Queue, app: App) -> None:
    def refuse() -> None:
        raise Reject("not ours")

    task = queue.task(name="refuse", retries=5)(refuse)
    with app:
        with pytest.raises(RemoteError, match="not ours"):
            queue.result(queue.sent(task))
        assert [letter.reason for letter in queue.dead()] == ["rejected"]


def test_a_delay_an_eta_and_a_retry_are_seen(queue: Queue, app: App) -> None:
    add = queue.task()(lambda a: a)
    later = [
        queue.sent(add, 1, delay=60),
        queue.sent(add, 2, eta=datetime.now(UTC) + timedelta(hours=1)),
        queue.sent(add.options(delay=timedelta(minutes=1)), 3),
    ]
    assert [queue.do(handle, "status") for handle in later] == ["delayed"] * 3
    soon = [queue.sent(add, 4, delay=0.05), queue.sent(add, 5, eta=datetime.now(UTC) - timedelta(hours=1))]
    with app:
        assert queue.results(soon) == [4, 5]
        assert queue.stats().delayed == 3


def test_one_that_expires(queue: Queue, app: App) -> None:
    ran: list[int] = []
    task = queue.task()(ran.append)
    expired = [
        queue.sent(task, 1, expires=0.001),
        queue.sent(task, 2, expires=datetime(2020, 1, 1, tzinfo=UTC)),
    ]
    fresh = [queue.sent(task, 3, expires=600), queue.sent(task, 4, expires=datetime(2100, 1, 1, tzinfo=UTC))]
    time.sleep(0.1)  # a worker knows the server's time but for half a round trip
    with app:
        queue.results(fresh)
        for handle in expired:
            with pytest.raises(TaskExpired):
                queue.result(handle)
            assert queue.do(handle, "status") == "expired"
    assert sorted(ran) == [3, 4]


class TestCancelling:
    def test_before_it_begins(self, queue: Queue, app: App) -> None:
        ran: list[int] = []
        task = queue.task()(ran.append)
        handles = [queue.sent(task, 1), queue.sent(task, 2, delay=60), queue.sent(task, 3)]
        by_id = queue.real.handle(handles[2].id)  # its entry is not known there: a worker finds it cancelled
        assert [queue.do(handle, "cancel") for handle in (*handles[:2], by_id)] == [True] * 3
        assert [queue.do(handle, "status") for handle in handles] == ["cancelled", "cancelled", "queued"]
        with app:
            for handle in handles:
                with pytest.raises(TaskCancelled, match=handle.id):
                    queue.result(handle)
            assert queue.do(handles[0], "cancel") is False
        assert ran == []

    def test_one_that_runs(self, queue: Queue, app: App) -> None:
        begun, seen = threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            eventually(lambda: current_task().cancelled)
            seen.set()

        task = queue.task(name="work")(work)
        with released(begun, seen), app:
            handle = queue.sent(task)
            assert begun.wait(30)
            assert queue.do(handle, "status") == "running"
            assert queue.do(handle, "cancel") is True
            with pytest.raises(TaskCancelled):
                queue.result(handle)
            assert queue.do(handle, "status") == "cancelled"

    def test_who_waits_hears_it_at_once(self, queue: Queue) -> None:
        task = queue.task()(lambda: None)
        handle = queue.sent(task)
        said: list[Any] = []

        def wait() -> None:
            with pytest.raises(TaskCancelled) as caught:
                queue.result(handle)
            said.append(caught.value)

        thread = threading.Thread(target=wait)
        thread.start()
        eventually(lambda: queue.real.app.client.exists("rt:q:{q}:waiters"))
        assert queue.do(handle, "cancel")
        thread.join(30)
        assert said


class TestUnique:
    def test_one_at_a_time(self, queue: Queue, app: App) -> None:
        task = queue.task(unique_key=lambda user: f"mail:{user}")(lambda user: user)
        first, second, other = (queue.sent(task, user) for user in ("ann", "ann", "bob"))
        assert (first.duplicate, second.duplicate, other.duplicate) == (False, True, False)
        assert second.id == first.id
        with app:
            assert queue.results([first, second, other]) == ["ann", "ann", "bob"]
            eventually(lambda: not queue.sent(task, "ann").duplicate)

    def test_an_id_of_the_callers(self, queue: Queue, app: App) -> None:
        task = queue.task()(lambda a: a)
        handles = [queue.sent(task, number, id="order-7") for number in range(3)]
        assert [handle.id for handle in handles] == ["order-7"] * 3
        assert [handle.duplicate for handle in handles] == [False, True, True]
        assert queue.stats().pending == 1
        with app:
            assert queue.results(handles) == [0, 0, 0]
            assert queue.sent(task, 5, id="order-7").duplicate

    @pytest.mark.parametrize("way", ["cancel", "purge"])
    def test_the_key_is_free_when_the_task_will_not_run(self, queue: Queue, way: str) -> None:
        task = queue.task(unique_key="only")(lambda: None)
        for delay in (60, None):
            handle = queue.sent(task.options(delay=delay))
            assert not handle.duplicate
            assert queue.sent(task).duplicate
            assert queue.do(handle, "cancel") if way == "cancel" else queue.purge() == 1


def test_results_that_are_not_kept(queue: Queue, app: App) -> None:
    go_on, begun = threading.Event(), threading.Event()

    def work() -> int:
        begun.set()
        assert go_on.wait(30)
        return 5

    task = queue.task(name="work", result_ttl=0)(work)
    with released(go_on), app:
        handle = queue.sent(task)
        assert begun.wait(30)
        heard: list[int] = []
        thread = threading.Thread(target=lambda: heard.append(queue.result(handle)))
        thread.start()
        eventually(lambda: app.client.exists("rt:q:{q}:waiters"))
        go_on.set()
        thread.join(30)
        assert heard == [5]
        late = queue.sent(task)
        eventually(lambda: queue.do(late, "status") == "unknown")
        with pytest.raises(TaskUnknown, match="result_ttl"):
            queue.result(late)
        assert app.client.keys("*:task:*") == []


def test_no_result_in_time(queue: Queue) -> None:
    task = queue.task()(lambda: None)
    handle = queue.sent(task)
    with pytest.raises(RequestTimeout, match=r"has not ended after 0\.05 s"):
        queue.result(handle, 0.05)
    with pytest.raises(TimeoutError):
        queue.gather([handle, handle], timeout=0.05)
    outcomes = queue.gather([handle], timeout=0.05, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [RequestTimeout]


def test_gathering_shows_each_outcome_in_its_place(queue: Queue, app: App) -> None:
    def halve(a: int) -> float:
        return 10 / a

    task = queue.task(name="halve")(halve)
    with app:
        handles = queue.submit_many([task.call(number) for number in (1, 0, 2)])
        first, second, third = queue.gather(handles, timeout=30, return_exceptions=True)
        assert (first, third) == (10, 5)
        assert (type(second), second.type) == (RemoteError, "ZeroDivisionError")
        with pytest.raises(RemoteError, match="division by zero"):
            queue.gather(handles, timeout=30)
        assert queue.gather([]) == []


def test_progress(queue: Queue, app: App) -> None:
    go_on, said = threading.Event(), threading.Event()

    def work() -> str:
        current_task().progress({"done": 5, "of": 10})
        said.set()
        assert go_on.wait(30)
        return "all"

    task = queue.task(name="work")(work)
    with released(go_on), app:
        handle = queue.sent(task)
        assert said.wait(30)
        assert queue.do(handle, "progress") == {"done": 5, "of": 10}
        assert queue.do(handle, "status") == "running"
        go_on.set()
        assert queue.result(handle) == "all"
        assert queue.do(queue.sent(task, delay=60), "progress") is None


def test_pausing_joining_purging(queue: Queue, app: App) -> None:
    ran: list[int] = []
    task = queue.task()(ran.append)
    with app:
        queue.result(queue.sent(task, 0))
        queue.pause()
        assert queue.stats().paused
        waiting = [queue.sent(task, number) for number in (1, 2, 3)]
        with pytest.raises(RequestTimeout, match="queue 'q' is not empty"):
            queue.join(0.1)
        assert ran == [0]
        queue.resume()
        queue.join(30)
        assert sorted(ran) == [0, 1, 2, 3]
        assert queue.results(waiting) == [None] * 3
        queue.pause()
        gone = [queue.sent(task, 4), queue.sent(task, 5, delay=60)]
        purged = 0  # what was taken in the moment of the pause is given back before it can go
        while purged < 2:
            purged += queue.purge()
        assert [queue.do(handle, "status") for handle in gone] == ["unknown"] * 2
        for handle in (*gone, queue.real.handle("never submitted")):
            with pytest.raises(TaskUnknown):  # at once: it is not waited for
                queue.result(handle, 5)
        found = queue.stats()
        assert (found.pending, found.ready, found.done) == (0, {"high": 0, "normal": 0, "low": 0}, 4)
        queue.resume()


def test_beside_events_and_requests(queue: Queue, app: App) -> None:
    app.on("double")(lambda data: data * 2)
    heard: list[Any] = []
    app.on("news")(heard.append)

    def ask(number: int) -> Any:
        return queue.real.app.request("double", number)  # from a thread, in either style

    task = queue.task(name="ask")(ask)
    with app:
        assert queue.result(queue.sent(task, 4)) == 8
        assert app.publish("news", 1) == 1
        eventually(lambda: heard == [1])
