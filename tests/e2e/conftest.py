"""Apps for the end-to-end tests, and what must be true after each of them.

Rules: every app that a test makes is stopped after it; then no thread of redis_toolkit may be left,
and every key that redis_toolkit wrote has its prefix and a TTL. A module that uses ``every_style`` runs
with handlers of both kinds and both kinds of calls; on servers of every kind in the plainest style only.
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
from tests.e2e.styles import BASE, OTHERS, Background, Style, styled
from tests.kit.servers import Server, available_kinds
from tests.kit.waiting import eventually

MakeApp = Callable[..., App]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run on each kind of server; what uses ``every_style`` in each style too."""
    names, kinds = metafunc.fixturenames, available_kinds()
    if "shared_server" in names and "style" not in names:
        metafunc.parametrize("shared_server", kinds, indirect=True, scope="session")
    elif "shared_server" in names:
        runs = [(kind, BASE) for kind in kinds]
        if "every_style" in names and "threads_and_calls" not in names:
            runs += [(kinds[0], other) for other in OTHERS]
        ids = [kind if style == BASE else f"{kind}-{style}" for kind, style in runs]
        metafunc.parametrize("shared_server,style", runs, indirect=True, ids=ids, scope="session")


@pytest.fixture(scope="session")
def shared_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A running server of the kind that `pytest_generate_tests` has chosen."""
    with Server(request.param, directory=tmp_path_factory.mktemp(request.param)) as server:
        yield server


@pytest.fixture
def every_style() -> None:
    """The test runs in every style."""


@pytest.fixture
def threads_and_calls() -> None:
    """The test is about ``def`` handlers, or about blocking calls: it runs in that style only."""


@pytest.fixture
def style(request: pytest.FixtureRequest) -> Style:
    """How handlers are written and calls are made."""
    given: Style = getattr(request, "param", BASE)
    return given


@pytest.fixture
def background(style: Style) -> Iterator[Background | None]:
    """The loop and the threads of the styles that need them."""
    if style == BASE:
        yield None
        return
    background = Background()
    yield background
    background.close()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """I7: whatever a test starts has ended when the test ends."""
    yield
    eventually(lambda: not _threads(), what=f"end of the threads {_threads()}")


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("rt-")]


@pytest.fixture
def make_app(no_thread_is_left: None, style: Style, background: Background | None) -> Iterator[MakeApp]:
    """Return a function that builds apps; they are stopped after the test."""
    with ExitStack() as stack:

        def make(url: str, **options: Any) -> App:
            app = App(url, **options) if background is None else styled(url, style, background, **options)
            stack.callback(app.stop)
            return app

        yield make


@pytest.fixture
def app(server: Server, make_app: MakeApp) -> App:
    """An app on the shared server, not started; afterwards its keys are looked at."""
    return make_app(server.url)


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
