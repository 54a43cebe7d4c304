"""Line breaks and escapes in names, ids and errors: one log record is one line, for a terminal too."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from redis_toolkit import App, RedisToolkitError, RemoteError, keys
from tests.core.callers import Scripted
from tests.e2e.conftest import MakeApp
from tests.kit.servers import Server
from tests.kit.waiting import eventually

FORGED = "x\r\nCRITICAL redis_toolkit forged \x1b[2J\x9b31m\u2028\x00"
CHANNEL = "orders\r\nCRITICAL forged \x1b(B"  # no brackets, which would make it a glob


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what our records say, without the tracebacks that follow some."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("redis_toolkit")]


def traceback_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines of the tracebacks that follow some, as a formatter shows them."""
    plain = logging.Formatter("")
    return [line for record in caplog.records for line in plain.format(record).split("\n")]


def all_are_lines(caplog: pytest.LogCaptureFixture) -> None:
    assert lines(caplog), "nothing was logged"
    assert [line for line in lines(caplog) if not line.isprintable()] == []
    assert [line for line in traceback_lines(caplog) if not line.isprintable()] == []
    assert [line for line in traceback_lines(caplog) if line.startswith("CRITICAL")] == []


@pytest.mark.fault(41, "events", "requests")
def test_names_and_errors_of_handlers(
    own_server: Server,
    make_app: MakeApp,
    quickly: dict[str, Any],
    every_style: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "redis_toolkit")
    app, caller = make_app(own_server.url, **quickly), make_app(own_server.url, **quickly)
    forged_type = type(FORGED.replace("\x00", ""), (Exception,), {})

    def fail(data: Any) -> Any:
        if data == "return":
            return object()
        error = forged_type(FORGED)
        error.add_note(FORGED)
        raise error

    fail.__name__ = fail.__qualname__ = FORGED
    app.on(CHANNEL)(fail)
    gaps: list[Any] = []
    app.on_gap(gaps.append)
    with app:
        for payload in (FORGED, "return"):
            with pytest.raises(RemoteError):
                caller.request(CHANNEL, payload, timeout=30)
            assert caller.publish(CHANNEL, payload) == 1
        eventually(lambda: app.counters.get("failed", 0) >= 3, what="failures of the handler")
        own_server.execute("CLIENT", "KILL", "TYPE", "pubsub")
        eventually(lambda: gaps)
    all_are_lines(caplog)
    assert traceback_lines(caplog).count("Traceback (most recent call last):") >= 2


@pytest.mark.fault(41, "requests")
def test_ids_and_bytes_that_somebody_else_pushed(
    own_server: Server, make_app: MakeApp, quickly: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "redis_toolkit")
    app = make_app(own_server.url, **quickly)
    app.on(CHANNEL)(lambda data: 1 / 0)
    envelopes: list[dict[str, Any]] = [
        {"id": FORGED, "reply_to": keys.reply(CHANNEL, FORGED), "data": 1, "channel": FORGED},
        {"id": FORGED, "reply_to": FORGED, "data": 1},
        {"id": FORGED, "reply_to": keys.reply(CHANNEL, "1"), "data": 1, "headers": {FORGED: FORGED}},
        {"id": FORGED, "reply_to": keys.reply(CHANNEL, "2"), "data": 1, FORGED: FORGED, "attempt": FORGED},
        {FORGED: 1},
    ]
    with app:
        for body in (*map(json.dumps, envelopes), FORGED, "\xff" + FORGED):
            own_server.execute("RPUSH", keys.requests(CHANNEL), f"0 {body}")
        own_server.execute("RPUSH", keys.requests(CHANNEL), FORGED)
        own_server.execute("PUBLISH", CHANNEL, FORGED)
        list_key = keys.requests(CHANNEL)
        eventually(lambda: not own_server.execute("EXISTS", list_key), what="an empty list")
        eventually(lambda: app.counters.get("undecodable", 0) >= 3, what="what cannot be read")
    all_are_lines(caplog)


@pytest.mark.fault(41, "events", "requests")
def test_what_a_server_says(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "redis_toolkit")
    server = Scripted(b"-ERR \x1b[2J forged \x9b\xff CRITICAL\r\n")
    app = App(server.url, command_timeout=5)
    try:
        for call in (lambda: app.publish("news", 1), lambda: app.request("orders", 1, timeout=5)):
            with pytest.raises(RedisToolkitError, match="ERR") as caught:
                call()
            assert str(caught.value).isprintable()
        app.health_check()
    finally:
        app.stop()
        server.close()


@pytest.mark.fault(41, "requests")
def test_an_error_that_a_reply_brings(
    own_server: Server, make_app: MakeApp, quickly: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its text is the handler's own; what surrounds it in a message of ours is one line."""
    caller = make_app(own_server.url, **quickly)
    monkeypatch.setattr("redis_toolkit.calls.new_id", lambda: "known")
    own_server.execute("ZADD", keys.servers("orders"), 9e15, "somebody")
    for reply in (
        json.dumps({"id": FORGED, "data": 1}),
        json.dumps({"id": "known", "error": FORGED}),
        FORGED,
    ):
        own_server.execute("RPUSH", keys.reply("orders", "known"), reply)
        with pytest.raises(RedisToolkitError) as caught:
            caller.request("orders", 1, timeout=5)
        assert str(caught.value).isprintable(), repr(str(caught.value))
