"""Forks of a process that serves: what a child does on its way out is no affair of its parent.

Rules: the forks happen in programs of their own, never in the process that runs the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from redis_toolkit import App, keys
from tests.e2e.conftest import MakeApp
from tests.kit import proc
from tests.kit.processes import Process
from tests.kit.servers import Server
from tests.kit.waiting import eventually

SERVING = """
import os, signal, sys, threading
from redis_toolkit import App, RedisToolkit

app = App(sys.argv[1], lease=60)  # whoever is off the registry has been taken off

@app.on("news", requests=False)
def hear(data):
    pass

@app.on("pid", events=False)
def pid():
    return os.getpid()

def exit_code_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def wait_for_ever():
    while True:
        signal.pause()
"""


@pytest.fixture
def caller(own_server: Server, make_app: MakeApp) -> App:
    return make_app(own_server.url)


class Programs:
    """Starts programs that begin with `SERVING`; they end with the test."""

    def __init__(self, server: Server, directory: Path) -> None:
        self._server = server
        self._directory = directory
        self._started: list[Process] = []

    def start(self, source: str) -> Process:
        program = Process(
            directory=self._directory,
            source=SERVING + source,
            args=[self._server.url],
            options=["-W", "error", "-W", "ignore:This process:DeprecationWarning"],  # fork beside threads
        )
        self._started.append(program)
        return program.start()

    def close(self) -> None:
        for program in self._started:
            program.close()


@pytest.fixture
def programs(own_server: Server, tmp_path: Path) -> Iterator[Programs]:
    programs = Programs(own_server, tmp_path / "programs")
    yield programs
    programs.close()


def still_serves(caller: App, server: Server, program: Process) -> None:
    """The program hears, answers and is registered, and nobody else is."""
    assert caller.publish("news", 1) == 1
    assert caller.request_many("pid", [None] * 20, timeout=60) == [program.pid] * 20
    assert len(server.execute("ZRANGE", keys.servers("pid"), 0, -1)) == 1
    assert server.execute("PUBSUB", "NUMSUB", keys.serve("pid"))[1] == 1


@pytest.mark.parametrize("way", ["sys.exit(0)", "app.stop(); os._exit(0)", "raise SystemExit"])
@pytest.mark.fault(21, "events", "requests")
def test_a_forked_child_that_ends_takes_nothing_of_its_parent_along(
    programs: Programs, own_server: Server, caller: App, way: str
) -> None:
    program = programs.start(
        f"""
with app:
    child = os.fork()
    if child == 0:
        {way}
    print("the child ended with", exit_code_of(child), flush=True)
    wait_for_ever()
"""
    )
    assert program.wait_for_line("the child ended").endswith("with 0"), program.output
    still_serves(caller, own_server, program)
    assert program.stderr == ""


@pytest.mark.fault(21, "events")
def test_a_forked_child_of_a_toolkit_leaves_the_subscription_alone(programs: Programs, caller: App) -> None:
    program = programs.start(
        """
heard = threading.Event()
toolkit = RedisToolkit(["small"], lambda channel, data: heard.set(), url=sys.argv[1])
child = os.fork()
if child == 0:
    toolkit.cleanup()
    sys.exit(0)
print("the child ended with", exit_code_of(child), flush=True)
heard.wait()
print("heard", flush=True)
wait_for_ever()
"""
    )
    assert program.wait_for_line("the child ended").endswith("with 0"), program.output
    assert caller.publish("small", 1) == 1
    program.wait_for_line("heard")


@pytest.mark.fault(21, "events", "requests")
def test_a_forked_child_can_use_the_app_and_serve_with_one_of_its_own(
    programs: Programs, own_server: Server, caller: App
) -> None:
    program = programs.start(
        """
app.start()
child = os.fork()
if child == 0:
    assert app.publish("news", 1) == 1
    assert app.request("pid", timeout=60) == os.getppid()
    own = App(sys.argv[1])
    own.on("own")(lambda: os.getpid())
    with own:
        assert own.request("own", timeout=60) == os.getpid()
    sys.exit(0)
print("the child ended with", exit_code_of(child), flush=True)
wait_for_ever()
"""
    )
    assert program.wait_for_line("the child ended").endswith("with 0"), program.output
    still_serves(caller, own_server, program)


WAYS_OUT = {"return": 0, "sys.exit(3)": 3, "raise ValueError": 1}


@pytest.mark.parametrize("way", WAYS_OUT)
@pytest.mark.fault(21, "requests")
def test_a_child_forked_in_a_request_handler_does_not_go_on_serving(
    programs: Programs, own_server: Server, caller: App, way: str
) -> None:
    program = programs.start(
        f"""
@app.on("fork", events=False)
def fork():
    child = os.fork()
    if child == 0:
        {way}
    return exit_code_of(child)

app.start()
print("ready", flush=True)
wait_for_ever()
"""
    )
    program.wait_for_line("ready")
    assert caller.request("fork", timeout=30) == WAYS_OUT[way]
    assert program.children() == []
    still_serves(caller, own_server, program)


@pytest.mark.parametrize("way", WAYS_OUT)
@pytest.mark.fault(21, "events")
def test_a_child_forked_in_a_live_handler_does_not_go_on_serving(
    programs: Programs, own_server: Server, caller: App, way: str
) -> None:
    program = programs.start(
        f"""
@app.on("fork", requests=False)
def fork(number):
    child = os.fork()
    if child == 0:
        {way}
    print("child", number, child, flush=True)
    print("it ended with", exit_code_of(child), number, flush=True)

app.start()
print("ready", flush=True)
wait_for_ever()
"""
    )
    program.wait_for_line("ready")
    caller.publish_many("fork", [1, 2])  # the child would have the second one as well
    for number in (1, 2):
        line = program.wait_for_line(f"child {number} ")
        assert program.wait_for_line(f"ended with {WAYS_OUT[way]} {number}")
        eventually(lambda line=line: not proc.alive(int(line.split()[2])), what="end of the child")  # type: ignore[misc]
    assert program.stdout.count("child ") == 2, program.stdout
    still_serves(caller, own_server, program)


@pytest.mark.fault(21, "events", "requests")
def test_a_child_works_although_other_threads_held_locks_at_the_fork(programs: Programs) -> None:
    program = programs.start(
        """
def build():
    number = 0
    while True:
        number += 1
        App(sys.argv[1] + f"?client_name={number}").client

for _ in range(4):
    threading.Thread(target=build, daemon=True).start()
codes = []
for _ in range(20):
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a child that waits for a lock for ever ends by this signal
        app.publish("x", 1)
        App(sys.argv[1]).client.ping()
        os._exit(0)
    codes.append(exit_code_of(child))
    if codes[-1]:
        break
print("codes", *codes, flush=True)
os._exit(0)
"""
    )
    assert program.wait_for_line("codes", timeout=100).split()[1:] == ["0"] * 20
