"""Python's own hazards, each caused in a program of its own: one server for all of them.

Rules: a program runs with warnings as errors, gets the server's URL as its first argument, and ends with
the test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from textwrap import dedent

import pytest

from redis_toolkit import App
from tests.kit.processes import Process
from tests.kit.servers import Server

Start = Callable[..., Process]


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
def caller(bus: Server) -> Iterator[App]:
    """An app that only talks."""
    app = App(bus.url)
    yield app
    app.stop()


@pytest.fixture
def start(bus: Server, tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a program; the arguments behind its text are the program's."""
    with ExitStack() as stack:

        def start(source: str, *arguments: str, forks: bool = False) -> Process:
            options = ["-W", "error"]
            if forks:  # beside threads, which is what is tested
                options += ["-W", "ignore:This process:DeprecationWarning"]
            program = Process(
                directory=tmp_path, source=dedent(source), args=[bus.url, *arguments], options=options
            )
            return stack.enter_context(program)

        yield start
