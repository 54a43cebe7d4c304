"""A foreign value in place of each of our keys: an error by the deadline for its callers, and no others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from redis_toolkit import App, KeyConflict, RequestTimeout, keys
from tests.core.awaiting import awaiting, hub_of
from tests.core.callers import echo
from tests.e2e.conftest import MakeApp
from tests.kit.servers import Server
from tests.kit.waiting import eventually

TIMEOUT = 20.0
"""Long enough that an error that comes with the deadline is told from one that comes at once."""


async def echo_later(data: Any) -> Any:
    return data


def served(app: App) -> App:
    app.on("orders", events=False)(lambda data: data)
    app.on("healthy", events=False)(lambda data: data)
    app.on("jobs:*", events=False, requests=True)(lambda data: data)
    return app


def in_time(call: Callable[[], Any]) -> Any:
    started = time.monotonic()
    try:
        return call()
    finally:
        assert time.monotonic() - started < TIMEOUT / 2


@pytest.mark.fault(34, "requests")
@pytest.mark.parametrize("place", ["requests", "servers", "patterns"])
def test_a_foreign_value_is_an_error_for_its_callers_and_no_others(
    own_server: Server,
    make_app: MakeApp,
    quickly: dict[str, Any],
    every_style: None,
    place: str,
) -> None:
    key = {
        "requests": keys.requests("orders"),
        "servers": keys.servers("orders"),
        "patterns": keys.patterns(),
    }[place]
    app, caller = served(make_app(own_server.url, **{**quickly, "lease": 4.0})), make_app(own_server.url)
    channel = "jobs:1" if place == "patterns" else "orders"
    with app:
        assert caller.request(channel, 1, timeout=TIMEOUT) == 1
        own_server.execute("SET", key, "foreign")
        for _ in range(3):
            with pytest.raises(KeyConflict, match="WRONGTYPE"):
                in_time(lambda: caller.request(channel, 2, timeout=TIMEOUT))
            with pytest.raises(KeyConflict, match="WRONGTYPE"):
                in_time(lambda: caller.request_many(channel, [2], timeout=TIMEOUT))
            assert caller.request("healthy", 3, timeout=TIMEOUT) == 3
        assert own_server.execute("GET", key) == "foreign"
        own_server.execute("DEL", key)
        eventually(lambda: _answers(caller, channel), what="answers again")


def _answers(caller: App, channel: str) -> bool:
    [answer] = caller.request_many(channel, [4], timeout=TIMEOUT, return_exceptions=True)
    return bool(answer == 4)


@pytest.mark.fault(34, "requests")
@pytest.mark.parametrize("handlers", ["def", "async def"])
def test_a_foreign_value_in_place_of_a_reply(
    own_server: Server,
    make_app: MakeApp,
    quickly: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    handlers: str,
) -> None:
    app, caller = make_app(own_server.url, **quickly), make_app(own_server.url, **quickly)
    app.on("orders")(echo if handlers == "def" else echo_later)
    with app:
        with monkeypatch.context() as patched:
            patched.setattr("redis_toolkit.calls.new_id", lambda: "known")
            own_server.execute("SET", keys.reply("orders", "known"), "foreign")
            with pytest.raises(KeyConflict, match="WRONGTYPE"):
                in_time(lambda: caller.request("orders", 1, timeout=TIMEOUT))
            [outcome] = in_time(
                lambda: caller.request_many("orders", [1], timeout=TIMEOUT, return_exceptions=True)
            )
            assert isinstance(outcome, KeyConflict)
        eventually(lambda: app.counters.get("undelivered") == 2, what="the replies that nobody gets")
        assert [caller.request("orders", number, timeout=TIMEOUT) for number in range(5)] == list(range(5))


@pytest.mark.fault(34, "requests")
@pytest.mark.parametrize("handlers", ["def", "async def"])
def test_a_foreign_value_in_place_of_an_inbox(
    own_server: Server, make_app: MakeApp, quickly: dict[str, Any], handlers: str
) -> None:
    app = make_app(own_server.url, **quickly)
    app.on("orders")(echo if handlers == "def" else echo_later)

    async def main(caller: App) -> None:
        assert await caller.arequest("orders", 1, timeout=TIMEOUT) == 1
        own_server.execute("SET", hub_of(caller)._inbox_key, "foreign")
        with pytest.raises((KeyConflict, RequestTimeout)):
            async with asyncio.timeout(TIMEOUT):
                await caller.arequest("orders", 2, timeout=1)
        other = App(own_server.url)
        assert await other.arequest("orders", 3, timeout=TIMEOUT) == 3
        await other.astop()
        own_server.execute("DEL", hub_of(caller)._inbox_key)
        assert await caller.arequest("orders", 4, timeout=TIMEOUT, retries=1) == 4

    with app:
        awaiting(own_server.url, main)


@pytest.mark.fault(34, "requests")
@pytest.mark.parametrize("place", ["requests", "servers"])
def test_the_error_names_the_key(own_server: Server, make_app: MakeApp, place: str) -> None:
    key = {"requests": keys.requests("orders"), "servers": keys.servers("orders")}[place]
    app, caller = make_app(own_server.url), make_app(own_server.url)
    app.on("orders")(echo)
    with app:
        own_server.execute("SET", key, "foreign")
        with pytest.raises(KeyConflict) as caught:
            caller.request("orders", 1, timeout=TIMEOUT)
        assert key in str(caught.value)


@pytest.mark.fault(34, "requests")
def test_a_foreign_registry_keeps_no_other_channel_from_being_registered(
    own_server: Server, make_app: MakeApp, quickly: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    app = served(make_app(own_server.url, **{**quickly, "lease": 2.0}))
    caller = make_app(own_server.url, **quickly)
    with app:
        own_server.execute("SET", keys.servers("orders"), "foreign")
        eventually(lambda: "heartbeat failed" in caplog.text, what="a line that says so")
        assert own_server.execute("ZCARD", keys.servers("healthy")) == 1
        assert caller.request("healthy", 3, timeout=TIMEOUT) == 3
        own_server.execute("DEL", keys.servers("orders"))
        eventually(lambda: own_server.execute("EXISTS", keys.servers("orders")), what="the registration")
