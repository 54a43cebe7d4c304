"""Programs, apps, callers and gates for the tests of workers, on a server of the default kind."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from redis_toolkit import App
from tests.kit.servers import Server
from tests.worker.crews import MakeCrew, Queue, ThreadGate, crewing
from tests.worker.fakes import no_threads_left
from tests.worker.gates import Gate, Make
from tests.worker.programs import Programs, programs_in


@pytest.fixture
def programs(bus: Server, tmp_path: Path) -> Iterator[Programs]:
    yield from programs_in(bus, tmp_path / "programs")


@pytest.fixture
def make(bus: Server) -> Iterator[Make]:
    """Make apps whose claims block for longer than any test waits: what goes on does not wait for that."""
    with no_threads_left("rt-"), ExitStack() as stack:

        def make(**options: Any) -> App:
            defaults = {"block": 300, "grace": 60, "reconnect_cap": 0.1}
            app = App(options.pop("url", bus.url), **{**defaults, **options})
            stack.callback(app.stop)
            return app

        yield make


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for calls that a test does not wait for at once."""
    with ThreadPoolExecutor(30) as pool:
        yield pool


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate for coroutines; open when the test ends, however it ends."""
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture
def make_crew(bus: Server) -> Iterator[MakeCrew]:
    with crewing(bus) as make:
        yield make


@pytest.fixture
def queue(bus: Server) -> Iterator[Queue]:
    queue = Queue(bus)
    yield queue
    queue.close()


@pytest.fixture
def crew_gate(make_crew: MakeCrew) -> Iterator[ThreadGate]:
    """A gate for threads, opened before the crews stop."""
    gate = ThreadGate()
    yield gate
    gate.event.set()
