"""Apps and networks for the fault matrix: those of the end-to-end tests, on a server of the test's own.

Rules: a test that uses ``every_style`` runs with handlers of both kinds and both kinds of calls; `Traffic`
has all four in one run. After each test no thread of redis_toolkit is left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from redis_toolkit import App
from tests.core.callers import calling
from tests.e2e.conftest import (  # noqa: F401 - fixtures
    MakeApp,
    background,
    check_keys,
    every_style,
    make_app,
    no_thread_is_left,
    quickly,
    style,
)
from tests.e2e.styles import BASE, OTHERS
from tests.faults.talk import Talk
from tests.faults.traffic import Traffic
from tests.faults.work import Work
from tests.kit.proxy import Proxy
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.programs import Programs, programs_in

StartTraffic = Callable[..., Any]
StartWork = Callable[..., Any]
StartTalk = Callable[..., Any]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "every_style" in metafunc.fixturenames:
        metafunc.parametrize("style", [BASE, *OTHERS], indirect=True, ids=str)


@contextmanager
def all_is_tidy(server: Server) -> Iterator[None]:
    """Whatever is opened inside is closed at its end, and the keys that are left have a TTL."""
    before = clients(server)
    yield
    eventually(lambda: clients(server) <= before, what=f"end of all but {before} connections")
    check_keys(server)


def clients(server: Server) -> int:
    """Return how many connections a server has, one of which asks."""
    return int(server.execute("INFO", "clients")["connected_clients"])


@pytest.fixture
def programs(own_server: Server, tmp_path: Path) -> Iterator[Programs]:
    """Starts programs, which end with the test."""
    yield from programs_in(own_server, tmp_path / "programs")


@pytest.fixture
def client(own_server: Server) -> Iterator[App]:
    """An app that only talks."""
    with calling(own_server.url) as app:
        yield app


@pytest.fixture
def traffic(
    own_server: Server,
    proxy: Proxy,
    make_app: MakeApp,  # noqa: F811
    quickly: dict[str, Any],  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> StartTraffic:
    """Return a function that starts traffic through the proxy, with options for the apps in `options`."""

    caplog.set_level(logging.CRITICAL, "redis_toolkit")  # thousands of lines say what is expected here

    @contextmanager
    def start(options: dict[str, Any] | None = None, **how: Any) -> Iterator[Traffic]:
        settings = {**quickly, **(options or {})}
        with all_is_tidy(own_server):
            with Traffic(make_app(proxy.url, **settings), make_app(proxy.url, **settings), **how) as traffic:
                traffic.flows()
                yield traffic
            proxy.fin()  # what a dead network has left half open

    return start


@pytest.fixture
def work(
    proxy: Proxy,
    make_app: MakeApp,  # noqa: F811
    quickly: dict[str, Any],  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> StartWork:
    """Return a function that starts durable work through the proxy; `options` has those of the apps."""

    caplog.set_level(logging.CRITICAL, "redis_toolkit")  # thousands of lines say what is expected here

    @contextmanager
    def start(options: dict[str, Any] | None = None, **how: Any) -> Iterator[Work]:
        settings = {**quickly, "lease": 2.0, "command_timeout": 3.0, **(options or {})}
        with Work(make_app(proxy.url, **settings), make_app(proxy.url, **settings), **how) as work:
            work.flows()
            yield work

    return start


@pytest.fixture
def talk(
    own_server: Server,
    proxy: Proxy,
    make_app: MakeApp,  # noqa: F811
    quickly: dict[str, Any],  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> StartTalk:
    """Return a function that has people talk through the proxy; `options` has those of the apps."""

    caplog.set_level(logging.CRITICAL, "redis_toolkit")  # thousands of lines say what is expected here

    @contextmanager
    def start(options: dict[str, Any] | None = None, **how: Any) -> Iterator[Talk]:
        settings = {**quickly, "command_timeout": 2.0, **(options or {})}
        apps = [make_app(proxy.url, **one) for one in (settings, {**settings, "lease": 1.0})]
        watching = make_app(own_server.url, **{**quickly, "lease": 1.0})
        with Talk(apps[0], apps[1], watching, own_server, **how) as talk:
            talk.flows()
            yield talk

    return start
