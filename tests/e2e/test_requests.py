from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pydantic
import pytest

from redis_toolkit import (
    App,
    ConfigurationError,
    EncodeError,
    Headers,
    Message,
    NoResponders,
    PayloadTooLarge,
    RemoteError,
    RequestTimeout,
)
from tests.e2e.conftest import MakeApp, released
from tests.kit.servers import Server
from tests.kit.waiting import eventually

ORDER = {"id": 1, "lines": ["tea", "Milch, süß"], "paid": None, "price": 3.5}


pytestmark = pytest.mark.usefixtures("keys_are_tidy", "every_style")


@dataclass
class Order:
    id: int
    lines: list[str]


class Receipt(pydantic.BaseModel):
    order: int
    total: float


# -- what comes back ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [ORDER, None, True, 0, 1.5, "süß", [], [1, [2]], {"rt": 1, "data": 2}])
def test_the_return_value_comes_back(app: App, value: Any) -> None:
    app.on("echo")(lambda data: data)
    with app:
        assert app.request("echo", value) == value


def test_keyword_fields_are_the_parameters(app: App) -> None:
    @app.on("add")
    def add(a: int, b: int = 10) -> int:
        return a + b

    @app.on("double")
    def double(a: int) -> int:
        return 2 * a

    with app:
        assert app.request("add", a=1, b=2) == app.request("add", {"a": 1, "b": 2}) == 3
        assert app.request("add", a=1) == 11
        assert app.request("double", a=4) == app.request("double", 4) == 8
        with pytest.raises(ConfigurationError):
            app.request("add", {"a": 1}, b=2)


def test_a_request_may_have_no_payload(app: App) -> None:
    app.on("ping")(lambda: "pong")
    app.on("what")(lambda data: [data])
    with app:
        assert app.request("ping") == "pong"
        assert app.request("what") == [None]


def test_models_are_made_of_the_payload_and_sent_back(app: App) -> None:
    @app.on("orders")
    def take(order: Order) -> Receipt:
        return Receipt(order=order.id, total=len(order.lines))

    @app.on("receipts")
    def check(receipt: Receipt | None) -> bool:
        return isinstance(receipt, Receipt)

    with app:
        assert app.request("orders", Order(7, ["tea", "milk"])) == {"order": 7, "total": 2.0}
        assert app.request("receipts", {"order": 1, "total": 2}) is True
        assert app.request("receipts", receipt={"order": 1, "total": 2}) is True
        assert app.request("receipts", None) is False


def test_a_handler_sees_the_message(app: App) -> None:
    @app.on("orders")
    def take(data: Any, channel: str, headers: Headers, message: Message, own: App) -> list[Any]:
        return [channel, headers, message.attempt, message.pattern, isinstance(message.id, str), own is app]

    with app:
        answer = app.request("orders", 1, headers={"trace": "äbc"})
        assert answer == ["orders", {"trace": "äbc"}, 1, None, True, True]
        assert app.request("orders", 1)[1] == {}


@pytest.mark.parametrize("codec", ["json", "msgpack", "text"])
def test_codecs(server: Server, make_app: MakeApp, codec: str) -> None:
    app = make_app(server.url, codec=codec)
    app.on("echo")(lambda data: data)
    with app:
        assert app.request("echo", "süß") == "süß"
        assert app.request_many("echo", ["a", "b"], headers={"x": "y"}) == ["a", "b"]


def test_callers_and_servers_may_have_different_envelope_codecs(server: Server, make_app: MakeApp) -> None:
    server_app, caller = make_app(server.url, codec="msgpack"), make_app(server.url, codec="json")
    server_app.on("echo")(lambda data: data)
    caller.on("json echo")(lambda data: data)
    with server_app, caller:
        for value in (ORDER, None, 1, "x"):
            assert caller.request("echo", value) == server_app.request("json echo", value) == value


# -- errors ------------------------------------------------------------------------------------------


def test_the_handlers_exception_reaches_the_caller(app: App) -> None:
    @app.on("fail")
    def fail(how: str) -> None:
        if how == "key":
            raise KeyError("no such öre")
        if how == "exit":
            raise SystemExit(3)
        raise ValueError("line\nbreak \udcff " + "x" * 10)

    with app:
        with pytest.raises(RemoteError) as caught:
            app.request("fail", "key")
        assert (caught.value.type, caught.value.message, caught.value.traceback) == (
            "KeyError",
            "'no such öre'",
            None,
        )
        with pytest.raises(RemoteError, match="SystemExit: 3"):
            app.request("fail", "exit")
        with pytest.raises(RemoteError, match=r"ValueError: line\nbreak \\udcff xx"):
            app.request("fail", "value")
        assert app.counters == {"failed": 3}


def test_tracebacks_are_sent_only_when_the_server_says_so(server: Server, make_app: MakeApp) -> None:
    app = make_app(server.url, send_tracebacks=True)

    @app.on("fail")
    def fail() -> None:
        raise ValueError("reason")

    with app, pytest.raises(RemoteError) as caught:
        app.request("fail")
    assert caught.value.traceback is not None
    assert "in fail" in caught.value.traceback
    assert "Remote traceback" in str(caught.value)


def test_what_a_handler_returns_and_cannot_be_sent_is_an_error(app: App) -> None:
    app.on("object")(lambda: object())
    app.on("large")(lambda: "x" * 1024 * 1024)
    with app:
        with pytest.raises(RemoteError, match="EncodeError"):
            app.request("object")
        with pytest.raises(RemoteError, match="PayloadTooLarge"):
            app.request("large")


def test_a_payload_that_does_not_fit_is_an_error_and_the_handler_is_not_called(app: App) -> None:
    called: list[Any] = []

    @app.on("orders")
    def take(order: Order) -> None:
        called.append(order)

    @app.on("add")
    def add(a: int, b: int) -> None:
        called.append((a, b))

    with app:
        for channel, payload in [("orders", {"id": 1}), ("orders", 7), ("add", [1, 2]), ("add", {"a": 1})]:
            with pytest.raises(RemoteError) as caught:
                app.request(channel, payload)
            assert caught.value.type == "PayloadMismatch"
        with pytest.raises(RemoteError, match="'c'"):
            app.request("add", a=1, b=2, c=3)
        assert app.counters == {"mismatched": 5}
    assert called == []


def test_nobody_serves(app: App) -> None:
    started = time.monotonic()
    with pytest.raises(NoResponders, match="'nobody'"):
        app.request("nobody", 1, timeout=3600)
    with pytest.raises(TimeoutError):
        app.request("nobody", 1, timeout=3600, retries=3)
    answers = app.request_many("nobody", [1, 2], timeout=3600, return_exceptions=True)
    assert [type(answer) for answer in answers] == [NoResponders, NoResponders]
    assert time.monotonic() - started < 1800
    assert app.client.keys("*:requests") == []


def test_nobody_serves_any_more_once_the_app_has_stopped(app: App) -> None:
    app.on("echo", "deep:*", requests=True)(lambda data: data)
    with app:
        assert app.request("echo", 1) == app.request("deep:er", 1) == 1
    for channel in ("echo", "deep:er"):
        with pytest.raises(NoResponders):
            app.request(channel, 1, timeout=3600)


@pytest.mark.fault(31, "requests")
def test_what_cannot_be_sent_is_said_before_anything_is_sent(app: App) -> None:
    app.on("echo")(lambda data: data)
    with app:
        with pytest.raises(EncodeError):
            app.request("echo", object())
        with pytest.raises(PayloadTooLarge):
            app.request("echo", "x" * 1024 * 1024)
        for timeout in (0, -1, float("inf"), float("nan"), "5", True):
            with pytest.raises(ConfigurationError):
                app.request("echo", 1, timeout=timeout)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError):
            app.request("echo", 1, retries=-1)
        assert app.request("echo", 2) == 2


# -- time --------------------------------------------------------------------------------------------


def test_a_timeout_is_said_at_the_deadline_and_the_next_answer_is_right(app: App) -> None:
    go_on = threading.Event()

    @app.on("slow")
    def slow(data: int) -> int:
        if data == 0:
            go_on.wait(30)
        return data

    with app, released(go_on):
        started = time.monotonic()
        with pytest.raises(RequestTimeout, match="'slow'"):
            app.request("slow", 0, timeout=0.2)
        assert time.monotonic() - started >= 0.2
        go_on.set()
        assert [app.request("slow", number) for number in range(1, 20)] == list(range(1, 20))


@pytest.mark.fault(32, "requests")
def test_an_expired_request_is_not_executed(app: App) -> None:
    ran: list[int] = []
    entered, go_on = threading.Event(), threading.Event()

    @app.on("slow", concurrency=1)
    def slow(data: int) -> int:
        ran.append(data)
        entered.set()
        go_on.wait(30)
        return data

    with app, ThreadPoolExecutor(1) as pool, released(go_on):
        first = pool.submit(app.request, "slow", 1, timeout=60)
        assert entered.wait(30)
        with pytest.raises(RequestTimeout):
            app.request("slow", 2, timeout=0.4)
        answers = app.request_many("slow", [3, 4], timeout=0.4, return_exceptions=True)
        assert [type(answer) for answer in answers] == [RequestTimeout] * 2
        go_on.set()
        assert first.result() == 1
        assert app.request("slow", 5, timeout=30) == 5
        assert app.counters == {"expired": 3}
    assert ran == [1, 5]


def test_a_request_is_repeated_only_when_asked_for(app: App) -> None:
    seen: list[tuple[str | None, int]] = []
    go_on = threading.Event()

    @app.on("slow")
    def slow(message: Message) -> int:
        seen.append((message.id, message.attempt))
        if message.attempt == 1:
            go_on.wait(30)
        return message.attempt

    with app, released(go_on):
        with pytest.raises(RequestTimeout):
            app.request("slow", timeout=1)
        eventually(lambda: seen)
        assert [attempt for _, attempt in seen] == [1]
        seen.clear()
        answer = app.request("slow", timeout=0.4, retries=100)
        assert answer >= 2
        assert (
            len({request_id for request_id, _ in seen}) == 1
        )  # it is the same request, and says that it is repeated
        attempts = [attempt for _, attempt in seen]
        assert attempts == sorted(set(attempts))
        assert answer in attempts


def test_a_remote_error_is_not_retried(app: App) -> None:
    ran: list[int] = []

    @app.on("fail")
    def fail(message: Message) -> None:
        ran.append(message.attempt)
        raise ValueError

    with app, pytest.raises(RemoteError):
        app.request("fail", retries=5)
    assert ran == [1]
