"""Apps for the end-to-end tests, and what must be true after each of them.

Rules: every app that a test makes is stopped after it; then no thread of redis_toolkit may be left,
and every key that redis_toolkit wrote has its prefix and a TTL.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

import pytest

from redis_toolkit import App
from redis_toolkit.settings import Settings
from tests.kit.ports import HOST
from tests.kit.proxy import Proxy
from tests.kit.servers import Server
from tests.kit.waiting import eventually

MakeApp = Callable[..., App]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """I7: whatever a test starts has ended when the test ends."""
    yield
    eventually(lambda: not _threads(), what=f"end of the threads {_threads()}")


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("rt-")]


@pytest.fixture
def make_app(no_thread_is_left: None) -> Iterator[MakeApp]:
    """Return a function that builds apps; they are stopped after the test."""
    with ExitStack() as stack:

        def make(url: str, **options: Any) -> App:
            app = App(url, **options)
            stack.callback(app.stop)
            return app

        yield make


@pytest.fixture
def app(server: Server, make_app: MakeApp) -> App:
    """An app on the shared server, not started; afterwards its keys are looked at."""
    return make_app(server.url)


@pytest.fixture
def proxy(own_server: Server) -> Iterator[Proxy]:
    """A network, to be broken, in front of ``own_server``."""
    with Proxy(HOST, own_server.port) as proxy:
        yield proxy


@pytest.fixture
def quickly(quick: Settings) -> dict[str, Any]:
    """The options of an app that reconnects at once and still never takes noise for a dead socket."""
    return {**asdict(quick), "ping_interval": 15.0, "lease": 10.0}


def check_keys(server: Server) -> None:
    """I5: what redis_toolkit leaves behind has its prefix and a TTL."""
    client = server.client()
    for key in client.scan_iter(count=1000):
        assert key.startswith("rt:"), key
        assert client.pttl(key) != -1, f"{key} would live for ever"


@pytest.fixture
def keys_are_tidy(app: App, server: Server) -> Iterator[None]:
    """Stop the app after the test, and look at the keys."""
    yield
    app.stop()
    check_keys(server)


@contextmanager
def released(*events: threading.Event) -> Iterator[None]:
    """Let handlers that wait for an event go on, whatever happens."""
    try:
        yield
    finally:
        for event in events:
            event.set()
