"""What the tests of the embedded server share: programs that use one, and a bare client.

Rules: a program is a real process that says "ready", the URL and whether it owns the server; it and all
that it started end with the test. The client is a socket, so that no retry hides what happens.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import unquote

from redis_toolkit._core.embedded import EmbeddedServer
from tests.kit import proc
from tests.kit.processes import Process
from tests.kit.waiting import eventually

TIMEOUT = 30.0

# What every program below begins with. It ends with its standard error empty, or the test shows it.
PROLOGUE = """
import os, signal, socket, sys
from redis_toolkit._core.embedded import EmbeddedServer, embedded_server
from tests.core.embedded_programs import ask, owns

server = embedded_server(sys.argv[1])
url = server.ensure(30)
"""
WAIT = 'print("ready", url, owns(server), flush=True)\nwhile True: signal.pause()\n'


def ask(url: str, line: str) -> str:
    """Send one command and return its one reply, without the type's mark; "" if nobody is there."""
    path = unquote(url.removeprefix("unix://"))
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect(path)
            connection.sendall(line.encode() + b"\r\n")
            with connection.makefile("rb") as replies:
                head = replies.readline().decode().strip()
                if head.startswith("$") and head != "$-1":
                    return replies.read(int(head[1:])).decode()
    except (FileNotFoundError, ConnectionError):
        return ""
    return head[1:]


def server_pid(url: str) -> int:
    lines = ask(url, "INFO server").splitlines()
    return next((int(line.split(":")[1]) for line in lines if line.startswith("process_id:")), 0)


def owns(server: EmbeddedServer) -> bool:
    """Return whether this process started the server that runs now."""
    guardian = server._guardian
    return guardian is not None and guardian.was_up and not guardian.exited.is_set()


def gone(pid: int) -> None:
    eventually(lambda: not proc.alive(pid), what=f"end of process {pid}")


def replaced(server: EmbeddedServer, pid: int) -> None:
    """Wait until another server than process ``pid`` runs at the same place, and is ours."""
    url = server.url
    eventually(lambda: server_pid(url) not in (0, pid) and owns(server), what=f"a successor of {pid}")


class Programs:
    """Starts programs that use an embedded server, and ends them with the test."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        directory.mkdir()
        self._directory = directory
        self._stack = stack
        self._count = 0

    def start(self, url: str, source: str = WAIT) -> Process:
        self._count += 1
        program = Process(
            directory=self._directory,
            source=PROLOGUE + source,
            args=[url],
            options=["-W", "error", "-W", "ignore:This process:DeprecationWarning"],  # fork beside threads
            name=f"program-{self._count}",
        )
        return self._stack.enter_context(program)

    def ready(self, url: str, source: str = WAIT) -> tuple[Process, str, bool]:
        program = self.start(url, source)
        words = program.wait_for_line("ready").split()
        return program, words[1], words[2] == "True"


@contextmanager
def stopping_servers() -> Iterator[type[EmbeddedServer]]:
    """EmbeddedServer, with all that are made of it stopped at the end."""
    made: list[EmbeddedServer] = []

    class Recorded(EmbeddedServer):
        def __init__(self, directory: Path | None) -> None:
            super().__init__(directory)
            made.append(self)

    yield Recorded
    for server in made:
        server.stop()
