from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from redis_toolkit import App, NoResponders, RequestTimeout
from tests.e2e.conftest import MakeApp, released
from tests.kit.servers import Server
from tests.kit.waiting import eventually

pytestmark = pytest.mark.usefixtures("keys_are_tidy", "every_style")


def test_slow_handlers_do_not_hold_up_quick_ones(app: App) -> None:
    entered = threading.Barrier(8)
    go_on = threading.Event()

    @app.on("slow")
    def slow() -> None:
        entered.wait(30)
        go_on.wait(30)

    app.on("quick")(lambda data: data)
    with app, ThreadPoolExecutor(8) as pool, released(go_on):
        calls = [pool.submit(app.request, "slow", timeout=60) for _ in range(7)]  # of 8 threads
        entered.wait(30)
        assert [app.request("quick", number, timeout=30) for number in range(50)] == list(range(50))
        assert app.request_many("quick", range(500), timeout=30) == list(range(500))
        go_on.set()
        assert [call.result(30) for call in calls] == [None] * 7


def test_as_many_handlers_run_at_once_as_there_are_threads(server: Server, make_app: MakeApp) -> None:
    app = make_app(server.url, concurrency=5)
    meeting = threading.Barrier(5)

    @app.on("meet")
    def meet() -> int:
        return meeting.wait(30)

    with app:
        for _ in range(20):
            assert sorted(app.request_many("meet", [None] * 5, timeout=60)) == [0, 1, 2, 3, 4]


def test_a_handler_with_threads_of_its_own_is_not_held_up_by_the_others(
    server: Server, make_app: MakeApp
) -> None:
    app = make_app(server.url, concurrency=1)
    meeting = threading.Barrier(3)
    go_on = threading.Event()
    entered = threading.Event()

    @app.on("own", concurrency=3)
    def own() -> int:
        return meeting.wait(30)

    @app.on("shared")
    def shared() -> None:
        entered.set()
        go_on.wait(30)

    with app, ThreadPoolExecutor(1) as pool, released(go_on):
        call = pool.submit(app.request, "shared", timeout=60)
        assert entered.wait(30)  # the only thread of the app's pool is taken
        assert sorted(app.request_many("own", [None] * 3, timeout=60)) == [0, 1, 2]
        go_on.set()
        call.result(30)


def test_one_thread_runs_one_request_at_a_time(app: App) -> None:
    running = threading.Lock()

    @app.on("alone", concurrency=1)
    def alone(number: int) -> int:
        assert running.acquire(blocking=False)
        try:
            return number
        finally:
            running.release()

    with app:
        assert app.request_many("alone", range(500)) == list(range(500))


def test_a_quick_handler_that_suddenly_blocks_does_not_hold_up_the_others(app: App) -> None:
    go_on = threading.Event()
    entered = threading.Event()

    @app.on("mostly quick")
    def handle(number: int) -> int:
        if number < 0:
            entered.set()
            go_on.wait(30)
        return number

    with app, ThreadPoolExecutor(1) as pool, released(go_on):
        assert app.request_many("mostly quick", range(300)) == list(range(300))  # it learns: quick
        blocked = pool.submit(app.request, "mostly quick", -1, timeout=60)
        assert entered.wait(30)
        assert [app.request("mostly quick", number, timeout=30) for number in range(50)] == list(range(50))
        go_on.set()
        assert blocked.result(30) == -1


def test_what_was_claimed_together_with_one_that_blocks_is_answered_meanwhile(app: App) -> None:
    answered: set[int] = set()
    others = threading.Event()
    got_help: list[bool] = []

    @app.on("mostly quick")
    def handle(number: int) -> int:
        if number == 50:
            got_help.append(others.wait(30))
            return number
        answered.add(number)
        if len(answered) == 99:
            others.set()
        return number

    with app:
        app.request_many("mostly quick", [1000] * 300)
        for _ in range(5):
            answered.clear()
            others.clear()
            assert app.request_many("mostly quick", range(100), timeout=60) == list(range(100))
    assert got_help == [True] * 5


def test_all_threads_may_block_and_work_goes_on_afterwards(app: App) -> None:
    entered = threading.Barrier(9)
    go_on = threading.Event()

    @app.on("block")
    def block(number: int) -> int:
        if number < 8:
            entered.wait(30)
            go_on.wait(30)
        return number

    with app, ThreadPoolExecutor(12) as pool, released(go_on):
        calls = [pool.submit(app.request, "block", number, timeout=60) for number in range(8)]
        entered.wait(30)
        calls += [pool.submit(app.request, "block", number, timeout=60) for number in range(8, 12)]
        eventually(lambda: app.client.llen("rt:c:{block}:requests") == 4)
        go_on.set()
        assert [call.result(60) for call in calls] == list(range(12))


# -- stopping ----------------------------------------------------------------------------------------


def test_what_is_in_flight_is_answered_when_the_app_stops(server: Server, make_app: MakeApp) -> None:
    app, caller = make_app(server.url), make_app(server.url)
    entered = threading.Barrier(5)
    go_on = threading.Event()

    @app.on("slow")
    def slow(number: int) -> int:
        if number < 4:
            entered.wait(30)
            go_on.wait(30)
        return number

    app.start()
    with ThreadPoolExecutor(5) as pool, released(go_on):
        calls = [pool.submit(caller.request, "slow", number, timeout=60) for number in range(4)]
        entered.wait(30)
        stopping = pool.submit(app.stop)
        eventually(lambda: _refused(caller, "slow"))
        go_on.set()
        stopping.result(30)
        assert [call.result(30) for call in calls] == list(range(4))


def test_what_waits_in_the_list_is_answered_when_the_app_stops(server: Server, make_app: MakeApp) -> None:
    app, caller = make_app(server.url, concurrency=1), make_app(server.url)
    entered, go_on = threading.Event(), threading.Event()

    @app.on("slow")
    def slow(number: int) -> int:
        entered.set()
        go_on.wait(30)
        return number

    app.start()
    with ThreadPoolExecutor(8) as pool, released(go_on):
        calls = [pool.submit(caller.request, "slow", number, timeout=60) for number in range(7)]
        assert entered.wait(30)
        eventually(lambda: app.client.llen("rt:c:{slow}:requests") == 6)
        stopping = pool.submit(app.stop)
        eventually(lambda: _refused(caller, "slow"))
        go_on.set()
        stopping.result(30)
        assert [call.result(30) for call in calls] == list(range(7))


def _refused(caller: App, channel: str) -> bool:
    try:
        caller.request(channel, 99, timeout=0.01)
    except NoResponders:
        return True
    except RequestTimeout:
        return False
    return False


@pytest.mark.usefixtures("threads_and_calls")  # a coroutine is cancelled then: see tests/worker/test_loop.py
def test_a_handler_that_does_not_end_is_given_up_after_the_grace(
    server: Server, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(server.url, grace=0.1)
    entered, go_on = threading.Event(), threading.Event()

    @app.on("slow")
    def slow() -> None:
        entered.set()
        go_on.wait(30)

    app.start()
    with ThreadPoolExecutor(1) as pool, released(go_on):
        call = pool.submit(app.request, "slow", timeout=60)
        assert entered.wait(30)
        app.stop()
        assert "still running" in caplog.text
        go_on.set()
        call.result(60)  # it has ended after all: its caller is told


def test_whatever_is_sent_while_workers_come_and_go_has_one_outcome(
    server: Server, make_app: MakeApp
) -> None:
    ran: list[str] = []
    enough = threading.Event()
    caller = make_app(server.url)
    outcomes: dict[str, int] = {"answered": 0, "refused": 0, "timed out": 0}
    lock = threading.Lock()

    def ask(name: int) -> None:
        number = 0
        while not enough.is_set():
            number += 1
            question = f"{name}.{number}"
            try:
                assert caller.request("echo", question, timeout=1) == question
                outcome = "answered"
            except NoResponders:
                outcome = "refused"
            except RequestTimeout:
                outcome = "timed out"
            with lock:
                outcomes[outcome] += 1

    def echo(data: str) -> str:
        ran.append(data)
        return data

    def answered_since(before: int) -> None:
        eventually(lambda: outcomes["answered"] >= before + 50)

    with ThreadPoolExecutor(8) as pool:
        askers: list[Future[None]] = [pool.submit(ask, name) for name in range(8)]
        with released(enough):
            for _ in range(10):
                app = make_app(server.url)
                app.on("echo")(echo)
                with app:
                    answered_since(outcomes["answered"])
        for asker in askers:
            asker.result(30)
    assert len(ran) == len(set(ran))
    assert outcomes["answered"] <= len(ran)
