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

from tests.kit.processes import Process
from tests.kit.servers import Server

Start = Callable[..., Process]


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
