"""One server of the default kind for the tests of workers: what servers differ in is tested elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from redis_toolkit import App
from tests.kit.servers import Server
from tests.worker.crews import Gate, Make, Queue, crewing
from tests.worker.programs import Programs, programs_in


@pytest.fixture(scope="session")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(directory=tmp_path_factory.mktemp("bus")) as server:
        yield server


@pytest.fixture
def bus(one_server: Server) -> Server:
    """An empty server."""
    one_server.execute("FLUSHALL")
    return one_server


@pytest.fixture
def programs(bus: Server, tmp_path: Path) -> Iterator[Programs]:
    yield from programs_in(bus, tmp_path / "programs")


@pytest.fixture
def client(bus: Server) -> Iterator[App]:
    """An app that only talks."""
    app = App(bus.url)
    yield app
    app.stop()


@pytest.fixture
def make_crew(bus: Server) -> Iterator[Make]:
    with crewing(bus) as make:
        yield make


@pytest.fixture
def queue(bus: Server) -> Iterator[Queue]:
    queue = Queue(bus)
    yield queue
    queue.close()


@pytest.fixture
def crew_gate(make_crew: Make) -> Iterator[Gate]:
    """A gate that is opened before the crews stop."""
    gate = Gate()
    yield gate
    gate.event.set()
