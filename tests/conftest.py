"""Servers for the tests: one of each kind for all, flushed before each test; one of the default kind, for
tests of what servers do not differ in; and one of its own, with a network, for a test that breaks them."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from redis_toolkit import App
from redis_toolkit.settings import Settings
from tests.kit.ports import HOST
from tests.kit.proxy import Proxy
from tests.kit.servers import Server, available_kinds

pytest_plugins = ["tests.kit.faults"]

settings.register_profile("no-deadline", deadline=None)  # a deadline is a time limit that noise can break
settings.load_profile("no-deadline")

if importlib.util.find_spec("uvloop"):  # not in the locked environment; `make test-all` has one with it
    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


@pytest.fixture(scope="session", params=available_kinds())
def shared_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A running server of each kind that this machine has."""
    with Server(request.param, directory=tmp_path_factory.mktemp(request.param)) as server:
        yield server


@pytest.fixture
def server(shared_server: Server) -> Server:
    """An empty server; a test that uses it runs once for each kind."""
    shared_server.execute("FLUSHALL")
    shared_server.execute("SCRIPT", "FLUSH")
    return shared_server


@pytest.fixture(scope="session")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(directory=tmp_path_factory.mktemp("bus")) as server:
        yield server


@pytest.fixture
def bus(one_server: Server) -> Server:
    """An empty server of the default kind."""
    one_server.execute("FLUSHALL")
    return one_server


@pytest.fixture
def client(bus: Server) -> Iterator[App]:
    """An app that only talks."""
    app = App(bus.url)
    yield app
    app.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server that the test may kill, pause and restart; the default kind."""
    with Server(directory=tmp_path / "server") as server:
        yield server


@pytest.fixture
def proxy(own_server: Server) -> Iterator[Proxy]:
    """A network, to be broken, in front of ``own_server``."""
    with Proxy(HOST, own_server.port) as proxy:
        yield proxy


@pytest.fixture
def quick() -> Settings:
    """Settings whose waits are short, for tests of what happens after them."""
    return Settings(ping_interval=0.2, block=0.2, lease=1.0, reconnect_cap=0.2)
