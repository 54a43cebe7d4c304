"""No call shows the password of its URL, however it fails before anything was ever reached."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from redis_toolkit import App, RedisToolkitError, RequestTimeout
from redis_toolkit._core import opening
from tests.e2e.conftest import MakeApp
from tests.kit.ports import HOST, free_port, listen
from tests.kit.servers import Server

SECRET = "s3cr3t"
URLS = [
    "redis://:{}@{}",
    "redis://ann:{}@{}",
    "rediss://:{}@{}",
    "valkeys://:{}@{}",
    "redis://{1}?password={0}",
]
CALLS: list[Callable[[App], Any]] = [
    lambda app: app.publish("news", 1),
    lambda app: app.request("echo", 1, timeout=0.3),
    lambda app: app.request_many("echo", [1], timeout=0.3),
    lambda app: app.health_check(),
    lambda app: app.start(),
    lambda app: asyncio.run(app.apublish("news", 1)),
    lambda app: asyncio.run(app.arequest("echo", 1, timeout=0.3)),
    lambda app: asyncio.run(app.arequest_many("echo", [1, 2], timeout=0.3)),
    lambda app: asyncio.run(app.ahealth_check()),
    lambda app: asyncio.run(app.astart()),
]


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A port that takes connections and says nothing."""
    with listen(free_port()) as sock:
        yield sock


def shown_by(app: App, call: Callable[[App], Any], caplog: pytest.LogCaptureFixture) -> str:
    """Return all that a call and the app show of what went wrong."""
    app.on("echo")(lambda data: data)
    shown = [repr(app)]
    try:
        assert call(app) is False  # a health check
    except (RedisToolkitError, RequestTimeout) as error:
        shown += traceback.format_exception(error)
    return "".join(shown) + caplog.text


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("call", CALLS)
def test_on_a_silent_port(
    silent: socket.socket,
    make_app: MakeApp,
    caplog: pytest.LogCaptureFixture,
    url: str,
    call: Callable[[App], Any],
) -> None:
    caplog.set_level(logging.DEBUG)
    address = f"{HOST}:{silent.getsockname()[1]}"
    app = make_app(url.format(SECRET, address), connect_timeout=0.05, command_timeout=0.3)
    shown = shown_by(app, call, caplog)
    assert "***" in shown
    assert SECRET not in shown


@pytest.mark.parametrize("call", CALLS)
def test_over_tls_to_a_port_without(
    own_server: Server, make_app: MakeApp, caplog: pytest.LogCaptureFixture, call: Callable[[App], Any]
) -> None:
    app = make_app(f"rediss://:{SECRET}@{HOST}:{own_server.port}", connect_timeout=0.1, command_timeout=0.3)
    shown = shown_by(app, call, caplog)
    assert "rediss://:***@" in shown
    assert SECRET not in shown


def test_when_all_attempts_to_connect_hang(
    silent: socket.socket,
    make_app: MakeApp,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "_opening", {threading.Thread() for _ in range(opening.THREADS)})
    app = make_app(f"redis://:{SECRET}@{HOST}:{silent.getsockname()[1]}", command_timeout=0.1)
    shown = shown_by(app, lambda app: asyncio.run(app.apublish("news", 1)), caplog)
    assert "cannot reach redis://:***@" in shown
    assert SECRET not in shown


def test_a_repr_shows_where_it_is_and_no_password(make_app: MakeApp) -> None:
    assert repr(make_app(f"redis://ann:{SECRET}@{HOST}:1/2")) == f"App('redis://ann:***@{HOST}:1/2')"
    assert repr(make_app("embedded://")) == "App('embedded://')"
