"""One request, from its bytes to the bytes of its reply: no server, no thread."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from redis_toolkit import App, Message
from redis_toolkit.worker.answering import Answerer
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.heartbeat import ServerClock
from tests.worker.fakes import handler_of, item, request_body

REPLY_TO = "rt:c:{add}:reply:7"
NOW_MS = 1_000_000


class Rig:
    """An answerer whose server clock shows `NOW_MS`, and what it counted."""

    def __init__(self, function: Callable[..., Any], name: str = "add", *, trace: bool = False) -> None:
        self.counters = Counters()
        clock = ServerClock()
        now = time.monotonic()
        clock.update(NOW_MS, now, now)
        handler = handler_of(function, name, requests=True)
        self.answerer = Answerer(name, handler, clock, self.counters, send_tracebacks=trace)

    def ask(self, data: Any = None, expiry_ms: int = 0, **fields: Any) -> Any:
        """Return the reply's envelope, or None."""
        return self.bytes(item(data, expiry_ms, **fields))

    def bytes(self, raw: bytes) -> Any:
        answer = self.answerer.answer(raw)
        if answer is None:
            return None
        assert answer[0] == REPLY_TO
        return json.loads(answer[1])

    @property
    def counted(self) -> dict[str, int]:
        return self.counters.snapshot()


def double(number: int) -> int:
    return number * 2


def test_a_request_is_answered_at_its_address() -> None:
    rig = Rig(double)
    assert rig.ask(21) == {"id": "7", "data": 42}
    assert rig.counted == {}


def test_without_an_address_it_runs_and_nobody_is_answered() -> None:
    ran: list[Any] = []
    assert Rig(ran.append).ask(1, reply_to=...) is None
    assert ran == [1]


def test_a_request_is_dropped_once_its_expiry_has_passed_on_the_servers_clock() -> None:
    ran: list[Any] = []
    rig = Rig(ran.append)
    assert rig.ask("late", NOW_MS - 1) is None
    assert rig.counted == {"expired": 1}
    assert rig.ask("in time", NOW_MS + 3_600_000) == {"id": "7", "data": None}
    assert rig.ask("no expiry", 0) == {"id": "7", "data": None}
    assert ran == ["in time", "no expiry"]


def test_while_the_clock_is_unknown_nothing_expires() -> None:
    answerer = Answerer("add", handler_of(double, "add"), ServerClock(), Counters(), send_tracebacks=False)
    assert answerer.answer(item(2, 1)) is not None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"no expiry",
        request_body(1),
        b"12x " + request_body(1),
        b"-1 " + request_body(1),
        b"0",
        b"0 ",
        b"0 \xff\xff",
        b"0 {",
        b"0 [1]",
        b'0 {"id": 7, "data": 1}',
        b'0 {"data": 1}',
        b'0 {"id": "7", "reply_to": "mine", "data": 1}',
        b"0 " + b"[" * 1000,
        b'0 {"data": "' + b"x" * 2000 + b'"}',
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_garbage_is_counted_and_answered_to_nobody(raw: bytes, caplog: pytest.LogCaptureFixture) -> None:
    ran: list[Any] = []
    rig = Rig(ran.append)
    with caplog.at_level(logging.WARNING, "redis_toolkit"):
        assert rig.bytes(raw) is None
    assert ran == []
    assert rig.counted == {"undecodable": 1}
    [record] = caplog.records
    assert "'add'" in record.getMessage()
    assert "\n" not in record.getMessage()
    assert len(record.getMessage()) < 400


@pytest.mark.parametrize(
    "fields",
    [{"data": ...}, {"channel": 5}, {"attempt": "1"}, {"headers": [1]}, {"codec": "text", "data": "x"}],
)
def test_of_a_broken_envelope_the_caller_is_told_if_it_is_known(fields: dict[str, Any]) -> None:
    rig = Rig(double)
    reply = rig.ask(**{"data": 1, **fields})
    assert reply["id"] == "7"
    assert reply["error"]["type"] == "DecodeError"
    assert rig.counted == {"undecodable": 1}


@pytest.mark.parametrize("data", ["no map", [1, 2], {"a": 1}, {"a": 1, "b": 2, "c": 3}])
def test_a_payload_that_does_not_fit_is_an_error_reply(data: Any) -> None:
    def add(a: int, b: int) -> int:
        return a + b

    rig = Rig(add)
    assert rig.ask(data)["error"]["type"] == "PayloadMismatch"
    assert rig.ask({"a": 1, "b": 2}) == {"id": "7", "data": 3}
    assert rig.counted == {"mismatched": 1}


@pytest.mark.parametrize(
    "error", [ValueError("bad"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), RecursionError("deep")]
)
def test_whatever_a_handler_raises_is_an_error_reply(error: BaseException) -> None:
    def fail() -> None:
        raise error

    rig = Rig(fail)
    assert rig.ask()["error"] == {"type": type(error).__name__, "message": str(error)}
    assert rig.counted == {"failed": 1}


def test_an_error_whose_text_cannot_be_made_is_an_error_reply() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    def fail() -> None:
        raise Broken

    assert Rig(fail).ask()["error"]["type"] == "Broken"


def test_a_traceback_is_sent_only_when_asked_for() -> None:
    def fail() -> None:
        raise ValueError("bad")

    assert "traceback" not in Rig(fail).ask()["error"]
    assert "in fail" in Rig(fail, trace=True).ask()["error"]["traceback"]


def _circular() -> list[Any]:
    result: list[Any] = []
    result.append(result)
    return result


@pytest.mark.parametrize(
    "result", [object(), _circular(), float("nan"), "x" * 2000, {1: 2, (): 3}, "\ud800"],
    ids=["object", "circular", "nan", "too large", "keys", "surrogate"],
)  # fmt: skip
def test_a_result_that_cannot_be_sent_is_an_error_reply(result: Any) -> None:
    rig = Rig(lambda: result)
    assert rig.ask()["error"]["type"] in ("EncodeError", "PayloadTooLarge")
    assert rig.counted == {"failed": 1}


def test_a_handler_sees_the_channel_the_attempt_and_the_glob() -> None:
    seen: list[Message] = []

    def look(message: Message) -> None:
        seen.append(message)

    assert Rig(look, "add:*").ask(1, channel="add:x", attempt=2, headers={"a": "b"}) is not None
    assert seen == [Message("add:x", 1, seen[0].headers, "7", "add:*", 2)]
    assert seen[0].headers == {"a": "b"}
    assert Rig(look).ask(1) is not None
    assert (seen[1].channel, seen[1].pattern, seen[1].attempt) == ("add", None, 1)


def test_the_price_of_a_request_follows_the_measured_durations(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def work(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("redis_toolkit.worker.answering.time", SimpleNamespace(perf_counter=lambda: now))
    rig = Rig(work)
    assert rig.answerer.price() is None  # nothing is known yet
    rig.ask(0.0)
    assert rig.answerer.price() == pytest.approx(0.00002)  # never less than what we take ourselves
    rig.ask(0.0005)
    assert rig.answerer.price() == pytest.approx(0.0005)
    rig.ask(0.02)
    assert rig.answerer.expected == pytest.approx(0.02)  # a longer one counts at once
    assert rig.answerer.price() is None
    rig.ask(0.0)
    assert rig.answerer.expected == pytest.approx(0.016)  # a shorter one a little
    for _ in range(20):
        rig.ask(0.0)
    assert rig.answerer.price() is not None


def test_a_request_that_is_refused_is_answered_without_the_handler() -> None:
    ran: list[Any] = []
    rig = Rig(ran.append)
    answer = rig.answerer.refuse(item(1), LookupError("closed"))
    assert answer is not None
    assert json.loads(answer[1])["error"] == {"type": "LookupError", "message": "closed"}
    assert ran == []


def test_a_parameter_may_be_the_app() -> None:
    app = App("redis://127.0.0.1:1/0")

    @app.on("add")
    def add(number: int, app: App) -> bool:
        return app is add_app and number == 1

    add_app = app
    handler = app._router.handlers[0]
    answerer = Answerer("add", handler, ServerClock(), Counters(), send_tracebacks=False)
    answer = answerer.answer(item(1))
    assert answer is not None
    assert json.loads(answer[1])["data"] is True
