"""What the tests of workers share: programs that serve an app, and a look at what they leave behind.

Rules: every program begins with `PROLOGUE`, which gives it ``app``, ``history``, ``wait_at_gate`` and
``wait_while_held``; it ends with the test, as does all that it started. Leases are long, so that what is
gone from the registries was taken off them and has not run out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from textwrap import dedent
from typing import Any

from redis_toolkit import App, keys
from tests.kit import proc
from tests.kit.processes import History, Process
from tests.kit.servers import Server
from tests.kit.waiting import eventually

PROLOGUE = """\
import os, signal, subprocess, sys, threading, time
from pathlib import Path
from redis_toolkit import App, Message
from tests.kit.processes import History

history = History(os.environ["HISTORY"])
here = Path(os.environ["HERE"])

def wait_at_gate():
    while not (here / "gate").exists():
        time.sleep(0.01)

def wait_while_held():
    while (here / "hold").exists():
        time.sleep(0.01)

wait_while_held()
app = App(os.environ["URL"], lease=60, **eval(os.environ["OPTIONS"]))
"""

PID = """
@app.on("pid", events=False)
def pid():
    return os.getpid()
"""

GATED = """
@app.on("gated", events=False)
def gated(message: Message):
    history.write("started", attempt=message.attempt, id=message.id)
    if message.attempt == 1:
        wait_at_gate()
    return [message.attempt, os.getpid()]
"""


class Programs:
    """Starts programs against one server, with one history and one directory for all of them."""

    def __init__(self, server: Server, directory: Path, stack: ExitStack) -> None:
        self.server = server
        self.directory = directory
        self.history = History(directory / "history")
        self._stack = stack

    def write(self, name: str, *sources: str) -> Path:
        """Write a module that begins with the prologue, and return its path."""
        return self.write_bare(name, PROLOGUE, *sources)

    def write_bare(self, name: str, *sources: str) -> Path:
        path = self.directory / name
        path.write_text("".join(map(dedent, sources)), encoding="utf-8")
        return path

    def start(
        self, *sources: str, url: str | None = None, settings: dict[str, Any] | None = None, **how: Any
    ) -> Process:
        """Start a program: the parts of its source behind the prologue, or as `Process` takes it."""
        env = {
            "URL": url or self.server.url,
            "HISTORY": str(self.history.path),
            "HERE": str(self.directory),
            "OPTIONS": repr(settings or {}),
        }
        if sources:
            how["source"] = "".join(map(dedent, (PROLOGUE, *sources)))
        return self._stack.enter_context(Process(directory=self.directory, env=env, **how))

    def serving(self, *sources: str, workers: int = 2, **how: Any) -> Process:
        """Start a program and return when its workers are ready."""
        program = self.start(*sources, **how)
        program.wait_for_line(f"{workers} worker process{' is' if workers == 1 else 'es are'} ready")
        return program

    def open_gate(self) -> None:
        """Let the handlers that wait at the gate go on."""
        (self.directory / "gate").touch()

    def hold_new_ones(self) -> None:
        """Let programs that are started from now on wait before they do anything."""
        (self.directory / "hold").touch()

    def go_on(self) -> None:
        """End `hold_new_ones`."""
        (self.directory / "hold").unlink()


def registered(server: Server, channel: str) -> list[str]:
    """Return the processes that are registered as servers of a channel."""
    names: list[str] = server.execute("ZRANGE", keys.servers(channel), 0, -1)
    return names


def subscribers(server: Server, channel: str) -> int:
    """Return how many connections are subscribed to a channel."""
    return int(server.execute("PUBSUB", "NUMSUB", channel)[1])


def nothing_is_left(server: Server, pids: list[int], *channels: str) -> None:
    """Assert that processes are gone, and from the channels their registrations and subscriptions."""
    eventually(lambda: not any(proc.alive(pid) for pid in pids), what=f"end of the processes {pids}")
    for channel in channels:
        assert registered(server, channel) == []
        for name in (channel, keys.serve(channel)):
            eventually(lambda name=name: subscribers(server, name) == 0, what=f"no subscriber of {name}")  # type: ignore[misc]


def both_answer(client: App, workers: int = 2) -> set[int]:
    """Ask until each of the workers has answered once; returns their pids."""
    seen: set[int] = set()

    def ask() -> bool:
        answers = client.request_many("pid", [None] * 20, timeout=30, return_exceptions=True)
        seen.update(pid for pid in answers if isinstance(pid, int))
        return len(seen) >= workers

    eventually(ask, what=f"an answer from each of {workers} workers")
    return seen


def answer_instead(client: App, request_id: str) -> None:
    """Give the caller of a request on "gated" an answer, as its worker never will."""
    reply = json.dumps({"id": request_id, "data": "given up"})
    client.client.rpush(keys.reply("gated", request_id), reply)


def programs_in(server: Server, directory: Path) -> Iterator[Programs]:
    directory.mkdir()
    with ExitStack() as stack:
        yield Programs(server, directory, stack)


def kill(pid: int) -> None:
    """SIGKILL."""
    os.kill(pid, 9)
