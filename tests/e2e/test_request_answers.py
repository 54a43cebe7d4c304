from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from redis_toolkit import (
    App,
    EncodeError,
    ExactChannel,
    Message,
    NoResponders,
    PayloadTooLarge,
    RemoteError,
)
from tests.e2e.conftest import MakeApp
from tests.kit.servers import Server
from tests.kit.waiting import eventually

pytestmark = pytest.mark.usefixtures("keys_are_tidy", "every_style")

# -- who answers -------------------------------------------------------------------------------------


def test_globs_answer_when_asked_to_and_the_best_match_wins(app: App) -> None:
    app.on("a:b")(lambda channel: ["exact", channel])
    app.on("a:*", requests=True)(lambda channel: ["short", channel])
    app.on("a:b:*", requests=True)(lambda channel: ["long", channel])
    app.on("*")(lambda channel: ["deaf", channel])
    with app:
        assert app.request("a:b") == ["exact", "a:b"]
        assert app.request("a:c") == ["short", "a:c"]
        assert app.request("a:b:c") == ["long", "a:b:c"]
        assert app.request_many("a:b:d", [1, 2]) == [["long", "a:b:d"]] * 2
        with pytest.raises(NoResponders):
            app.request("b")


def test_an_exact_handler_of_another_app_wins_over_a_glob(server: Server, make_app: MakeApp) -> None:
    globs, exact = make_app(server.url), make_app(server.url)
    globs.on("a:*", requests=True)(lambda: "glob")
    exact.on("a:b")(lambda: "exact")
    with globs:
        assert globs.request("a:b") == "glob"
        with exact:
            assert [globs.request("a:b") for _ in range(20)] == ["exact"] * 20
        assert globs.request("a:b") == "glob"


def test_a_glob_handler_sees_its_pattern(app: App) -> None:
    @app.on("a:?", requests=True)
    def take(message: Message) -> list[Any]:
        return [message.channel, message.pattern, message.data]

    with app:
        assert app.request("a:b", 5) == ["a:b", "a:?", 5]


def test_an_exact_name_with_glob_characters_answers_itself_only(app: App) -> None:
    app.on(ExactChannel("what?"))(lambda: "exact")
    with app:
        assert app.request("what?") == "exact"
        with pytest.raises(NoResponders):
            app.request("whats")


def test_the_first_registered_answers_and_the_others_hear_events_only(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def named(name: str) -> Callable[[Any], str]:
        def take(data: Any) -> str:
            heard.append(name)
            return name

        return take

    app.on("orders")(named("first"))
    app.on("orders")(named("second"))
    app.on("orders", events=False)(named("third"))
    with app:
        assert app.request("orders", 1) == "first"
        assert heard == ["first"]
        app.publish("orders", 1)
        eventually(lambda: sorted(heard) == ["first", "first", "second"])
    assert "registered first" in caplog.text


def test_requests_false_answers_nothing(app: App) -> None:
    heard: list[int] = []
    app.on("orders", requests=False)(heard.append)
    with app, pytest.raises(NoResponders):
        app.request("orders", 1)
    assert heard == []


def test_exactly_one_of_several_apps_answers(server: Server, make_app: MakeApp) -> None:
    ran: list[int] = []

    def count(data: int) -> int:
        ran.append(data)
        return data

    apps = [make_app(server.url) for _ in range(3)]
    for app in apps:
        app.on("count")(count)
        app.start()
    caller = make_app(server.url)
    assert caller.request_many("count", range(300)) == list(range(300))
    assert sorted(ran) == list(range(300))


def test_fifty_threads_get_their_own_answers(app: App) -> None:
    app.on("echo")(lambda data: {"echo": data})
    together = threading.Barrier(50)

    def ask(caller: int) -> None:
        together.wait(30)
        for number in range(20):
            question = f"{caller}.{number}"
            assert app.request("echo", question, timeout=60) == {"echo": question}

    with app, ThreadPoolExecutor(50) as pool:
        list(pool.map(ask, range(50)))


# -- many at once ------------------------------------------------------------------------------------


def test_many_answers_come_in_the_order_of_the_payloads(app: App) -> None:
    app.on("double")(lambda data: 2 * data)
    with app:
        assert app.request_many("double", []) == []
        assert app.request_many("double", range(1000)) == [2 * number for number in range(1000)]
        assert app.request_many("double", iter([1, 2]), window=1) == [2, 4]


def test_no_more_than_the_window_are_on_their_way(server: Server, make_app: MakeApp) -> None:
    running: set[int] = set()
    most: list[int] = []
    lock = threading.Lock()
    app = make_app(server.url, concurrency=8)

    @app.on("work")
    def work(number: int) -> int:
        with lock:
            running.add(number)
            most.append(len(running))
        time.sleep(0.002)
        with lock:
            running.remove(number)
        return number

    with app:
        assert app.request_many("work", range(60), window=3) == list(range(60))
    assert max(most) <= 3


def test_exceptions_stand_in_their_places(app: App) -> None:
    @app.on("half")
    def half(number: int) -> float:
        if number % 2:
            raise ValueError(f"{number} is odd")
        return number / 2

    payloads: list[Any] = [0, 1, object(), 4, "x" * 1024 * 1024, 6]
    with app:
        answers = app.request_many("half", payloads, return_exceptions=True)
        assert [type(answer) for answer in answers] == [
            *(float, RemoteError, EncodeError),
            *(float, PayloadTooLarge, float),
        ]
        assert "1 is odd" in str(answers[1])
        with pytest.raises(RemoteError, match="1 is odd"):
            app.request_many("half", payloads)
        assert app.request_many("half", [object(), object()], return_exceptions=True) != []
