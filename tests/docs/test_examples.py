"""Every example runs and ends well."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import REPOSITORY
from tests.kit.processes import Process
from tests.kit.servers import Server

CENSUS = REPOSITORY / "examples" / "stdlib_census.py"
TERMINAL_CHAT = REPOSITORY / "examples" / "terminal_chat.py"
EXAMPLES = sorted(set((REPOSITORY / "examples").glob("*.py")) - {CENSUS, TERMINAL_CHAT})
TYPED = """
import runpy, sys

sys.stdin = open(sys.argv.pop(1))  # what the test types
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs_to_its_end(path: Path, tmp_path: Path) -> None:
    with Process(directory=tmp_path, path=path) as program:
        assert program.wait(120.0) == 0, program.output
        assert "Traceback" not in program.stderr
        assert program.stdout.strip()


def test_the_census_kills_a_worker_and_has_each_file_once(tmp_path: Path) -> None:
    with Process(directory=tmp_path, path=CENSUS, args=("60",)) as program:  # of so many files
        assert program.wait(120.0) == 0, program.output
        killed = re.findall(r"^kill -9 (\d+): the worker that began ", program.stdout, re.MULTILINE)
        assert len(killed) == 1, program.output
        assert f"worker process {killed[0]} ended with signal SIGKILL" in program.stderr
        assert re.search(r"files +│ 60,", program.stdout), program.output
        assert re.search(r"results +│ every file exactly once", program.stdout), program.output
        assert f"worker {killed[0]} " in program.stdout


@contextlib.contextmanager
def terminal(bus: Server, directory: Path, user: str) -> Iterator[tuple[Process, int]]:
    """Somebody in a room of the terminal chat: the program, and a file to write to as a keyboard."""
    keyboard = directory / user
    os.mkfifo(keyboard)
    typing = os.open(keyboard, os.O_RDWR)  # at once, also while nobody reads
    args = (str(keyboard), str(TERMINAL_CHAT), user, "a room")
    environment = {"REDIS_TOOLKIT_URL": bus.url}
    with Process(directory=directory, source=TYPED, args=args, env=environment, name=user) as program:
        program.wait_for_line("Here are: ")
        yield program, typing


def test_the_terminal_chat_shows_what_was_said_what_is_said_and_who_is_there(
    bus: Server, tmp_path: Path
) -> None:
    with terminal(bus, tmp_path, "Ann") as (ann, anns_keyboard):
        os.write(anns_keyboard, b"Hello\n\n")
        ann.wait_for_line(" Ann: Hello")
        with terminal(bus, tmp_path, "Bob") as (bob, bobs_keyboard):
            ann.wait_for_line(" Bob joined")
            bob.wait_for_line(" Ann: Hello")
            bob.wait_for_line("Here are: Ann, Bob")
            os.write(bobs_keyboard, "{Grüße}\x1b[2J\n".encode())
            ann.wait_for_line(" Bob: {Grüße} [2J")  # which does not clear the screen
            os.close(bobs_keyboard)  # Ctrl-D
            assert bob.wait() == 0, bob.output
        ann.wait_for_line(" Bob left")
        ann.interrupt()
        assert ann.wait() == 0, ann.output
        os.close(anns_keyboard)
        assert not ann.stderr
        assert not bob.stderr
