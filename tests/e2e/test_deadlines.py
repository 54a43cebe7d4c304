"""A call ends by its deadline, however slowly the other side goes on talking.

Rules: `LATE` is what a busy machine may need beyond a deadline; what is tested here would take several
times as long if it were broken.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from redis_toolkit import App, OutcomeUnknown, RequestTimeout, ServerUnreachable
from redis_toolkit._core.flow import Call
from redis_toolkit._core.sync_driver import SyncDriver
from tests.core.callers import LATE, Scripted
from tests.e2e.conftest import MakeApp
from tests.kit.servers import Server

TIMEOUT = 1.0
DRIP = 0.1
"""Seconds between two bytes: each comes long before a timeout that begins anew with every byte."""
DRIPS = 80


class Dripping(Scripted):
    """Answers a handshake at once, and the rest so slowly that no reply is ever complete."""

    def __init__(self, *, handshake: bool = False) -> None:
        self._drips_in_handshake = handshake
        super().__init__(b"$100000\r\n" + b"x" * DRIPS)

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as lines:
            try:
                while head := lines.readline():
                    words = [lines.read(int(lines.readline()[1:]) + 2)[:-2] for _ in range(int(head[1:]))]
                    self._drip(client, self._reply(words))
            except OSError:
                return

    def _drip(self, client: socket.socket, reply: bytes) -> None:
        if reply == b"+OK\r\n" and self._drips_in_handshake:
            reply = b"+" + b"O" * DRIPS
        elif reply == b"+OK\r\n":
            client.sendall(reply)
            return
        for place in range(len(reply)):
            client.sendall(reply[place : place + 1])
            time.sleep(DRIP)


@pytest.fixture
def dripping(request: pytest.FixtureRequest) -> Iterator[Dripping]:
    server = Dripping(handshake=getattr(request, "param", False))
    yield server
    server.close()


@pytest.mark.parametrize("dripping", [True], indirect=True)
def test_a_handshake_that_drips_ends_by_the_deadline(dripping: Dripping, make_app: MakeApp) -> None:
    caller = make_app(f"{dripping.url}?client_name=caller")  # something to shake hands about
    started = time.monotonic()
    with pytest.raises((RequestTimeout, ServerUnreachable)):
        caller.request("slow", "x", timeout=TIMEOUT)
    assert time.monotonic() - started < TIMEOUT + LATE


class DrippingTLS(Scripted):
    """Begins a record of the TLS handshake that never ends; ``rediss://``."""

    def __init__(self) -> None:
        super().__init__(scheme="rediss")

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                for byte in b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03" + bytes(DRIPS):
                    client.sendall(bytes([byte]))
                    time.sleep(DRIP)
            except OSError:
                return


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize("kind", ["request", "publish"])
def test_a_tls_handshake_that_drips_ends_by_the_deadline(make_app: MakeApp, awaited: bool, kind: str) -> None:
    dripping = DrippingTLS()
    # A request has its own timeout; a publish ends with the connect timeout, tried again until the other.
    caller = make_app(
        dripping.url, command_timeout=TIMEOUT, connect_timeout=TIMEOUT if kind == "publish" else 60
    )
    how = {"timeout": TIMEOUT} if kind == "request" else {}

    def call() -> None:
        made = getattr(caller, f"a{kind}" if awaited else kind)("slow", "x", **how)
        if awaited:
            asyncio.run(made)

    started = time.monotonic()
    try:
        with pytest.raises((RequestTimeout, ServerUnreachable)):
            call()
        assert time.monotonic() - started < TIMEOUT + LATE
    finally:
        dripping.close()


def test_a_request_whose_reply_drips_ends_by_its_deadline(dripping: Dripping, make_app: MakeApp) -> None:
    caller = make_app(dripping.url)
    started = time.monotonic()
    with pytest.raises(RequestTimeout):
        caller.request("slow", "x", timeout=TIMEOUT)
    assert time.monotonic() - started < TIMEOUT + LATE


def test_requests_whose_replies_drip_end_by_their_deadline(dripping: Dripping, make_app: MakeApp) -> None:
    caller = make_app(dripping.url)
    started = time.monotonic()
    results = caller.request_many("slow", ["x"] * 3, timeout=TIMEOUT, return_exceptions=True)
    assert time.monotonic() - started < TIMEOUT + LATE
    assert [type(result) for result in results] == [RequestTimeout] * 3


def test_a_publish_whose_reply_drips_ends_by_the_command_timeout(
    dripping: Dripping, make_app: MakeApp
) -> None:
    caller = make_app(dripping.url, command_timeout=TIMEOUT)
    started = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        caller.publish("slow", "x")
    assert time.monotonic() - started < TIMEOUT + LATE


def pausing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server stand still from the first bare call on: the question for globs, after a refusal."""
    call = SyncDriver._call

    def paused(self: SyncDriver, step: Call, deadline: float) -> list[Any]:
        if "rt:patterns" in str(step.commands):
            server.pause()
        return call(self, step, deadline)

    monkeypatch.setattr(SyncDriver, "_call", paused)


def test_a_server_that_stalls_after_the_refusal_does_not_get_time_of_its_own(
    own_server: Server, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = make_app(own_server.url, command_timeout=60)
    caller.publish("warm", 1)
    pausing(own_server, monkeypatch)
    started = time.monotonic()
    try:
        with pytest.raises((RequestTimeout, ServerUnreachable)):
            caller.request("nobody", timeout=TIMEOUT)
    finally:
        own_server.resume()
    assert time.monotonic() - started < TIMEOUT + LATE


def test_the_way_by_a_glob_has_the_same_deadline(
    own_server: Server, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal by the exact name takes part of the time; the try by the glob gets what is left."""
    app = make_app(own_server.url)
    app.on("jobs:*", requests=True)(lambda data: data)
    caller: App = make_app(own_server.url)
    given: list[float] = []
    exchange = SyncDriver._exchange

    def noted(self: SyncDriver, step: Any, deadline: float) -> Any:
        given.append(deadline)
        return exchange(self, step, deadline)

    monkeypatch.setattr(SyncDriver, "_exchange", noted)
    with app:
        assert caller.request("jobs:1", "x", timeout=30) == "x"
    assert len(given) == 2
    assert given[0] == given[1]
