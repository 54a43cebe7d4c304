"""How worker processes end: a signal with work in flight, a second one, a handler that never returns, a
supervisor that is gone."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from redis_toolkit import App
from tests.kit import proc
from tests.kit.processes import Process
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.programs import GATED, PID, Programs, answer_instead, nothing_is_left, registered

HEARD = """
@app.on("news")
def hear(data):
    history.write("heard", data=data)
"""
RUN = "app.run(workers=2)\n"
END = "history.write('behind')\n"
LONG_GRACE = {"grace": 300}
"""Longer than any wait of a test: what ends earlier did not wait for it."""


def signal_it(program: Process, name: str) -> None:
    if name == "SIGTERM":
        program.terminate()
    else:
        program.interrupt(group=True)


@pytest.mark.parametrize("name", ["SIGTERM", "Ctrl-C"])
@pytest.mark.fault(4, "events", "requests")
def test_a_signal_lets_requests_in_flight_be_answered(
    programs: Programs, bus: Server, client: App, pool: ThreadPoolExecutor, name: str
) -> None:
    program = programs.serving(GATED, HEARD, RUN, END, settings=LONG_GRACE)
    pids = program.children()
    asked = [pool.submit(client.request, "gated", timeout=60) for _ in range(4)]
    programs.history.wait_for(lambda entries: len(entries) == 4, event="started")
    signal_it(program, name)
    eventually(lambda: registered(bus, "gated") == [], what="end of the registrations")
    assert not any(future.done() for future in asked)
    programs.open_gate()
    assert {future.result(30)[1] for future in asked} <= set(pids)
    assert program.wait() == 0
    assert [entry["pid"] for entry in programs.history.read("behind")] == [program.pid]
    nothing_is_left(bus, pids, "gated", "news")
    assert "Traceback" not in program.output


@pytest.mark.fault(4, "requests")
def test_requests_that_wait_in_the_list_are_answered_before_the_end(
    programs: Programs, client: App, pool: ThreadPoolExecutor
) -> None:
    program = programs.serving(GATED, RUN, settings={"concurrency": 1, **LONG_GRACE})
    asked = [pool.submit(client.request, "gated", timeout=60) for _ in range(6)]
    programs.history.wait_for(lambda entries: len(entries) == 2, event="started")
    eventually(lambda: programs.server.execute("LLEN", "rt:c:{gated}:requests") == 4, what="four that wait")
    program.terminate()
    eventually(lambda: registered(programs.server, "gated") == [], what="end of the registrations")
    programs.open_gate()
    assert all(future.result(30)[0] == 1 for future in asked)
    assert program.wait() == 0


@pytest.mark.fault(4, "events")
def test_live_events_that_were_received_are_handled_before_the_end(programs: Programs, client: App) -> None:
    source = """
    @app.on("news")
    def hear(data):
        history.write("hearing")
        wait_at_gate()
        history.write("heard", data=data)
    """
    program = programs.serving(source, RUN, settings=LONG_GRACE)
    eventually(lambda: client.publish("news", 0) == 1, what="the subscription")
    client.publish_many("news", range(1, 50))
    programs.history.wait_for(bool, event="hearing")
    program.terminate()
    eventually(lambda: client.publish("news", "late") == 0, what="end of the subscription")
    programs.open_gate()
    assert program.wait() == 0
    heard = [entry["data"] for entry in programs.history.read("heard")]
    assert [data for data in heard if data != "late"] == list(range(50))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.fault(4, "requests")
def test_a_handler_that_outlives_the_grace_does_not_keep_the_program(
    programs: Programs, bus: Server, client: App, pool: ThreadPoolExecutor, workers: int
) -> None:
    program = programs.start(GATED, f"app.run(workers={workers})", settings={"grace": 0.3})
    eventually(lambda: registered(bus, "gated"), what="a registration")
    pids = [program.pid, *program.children()]
    asked = pool.submit(client.request, "gated", timeout=60)
    [started] = programs.history.wait_for(bool, event="started")
    program.terminate()
    assert program.wait() == 0  # the gate stays closed
    nothing_is_left(bus, pids, "gated")
    assert "still running after 0.3 s of grace" in program.stderr
    answer_instead(client, started["id"])
    assert asked.result(30) == "given up"


def test_a_worker_that_does_not_stop_is_killed_after_the_grace(programs: Programs, bus: Server) -> None:
    program = programs.serving(PID, RUN, settings={"grace": 0.2})
    stuck, other = program.children()
    os.kill(stuck, signal.SIGSTOP)
    program.terminate()
    assert program.wait() == 0
    assert f"worker process {stuck} did not end in time and is killed" in program.stderr
    nothing_is_left(bus, [stuck, other], "pid")


@pytest.mark.parametrize("first_taken", [True, False])
@pytest.mark.fault(5, "requests")
def test_a_second_signal_does_not_wait_for_handlers(
    programs: Programs, bus: Server, client: App, pool: ThreadPoolExecutor, first_taken: bool
) -> None:
    program = programs.serving(GATED, RUN, settings=LONG_GRACE)
    pids = program.children()
    asked = pool.submit(client.request, "gated", timeout=60)
    [started] = programs.history.wait_for(bool, event="started")
    program.terminate()
    if first_taken:
        eventually(lambda: registered(bus, "gated") == [], what="end of the registrations")
    program.interrupt()
    assert program.wait() == 0
    assert not asked.done()
    answer_instead(client, started["id"])
    nothing_is_left(bus, pids, "gated")


ASYNC_GATED = """
@app.on("gated", events=False)
async def gated(message: Message):
    history.write("started", attempt=message.attempt, id=message.id)
    while not (here / "gate").exists():
        await asyncio.sleep(0.01)
"""


@pytest.mark.parametrize("handler", [GATED, "import asyncio\n" + ASYNC_GATED], ids=["def", "async def"])
@pytest.mark.parametrize("second", ["SIGTERM", "Ctrl-C"])
@pytest.mark.fault(5, "requests")
def test_a_second_signal_without_worker_processes_does_not_wait_either(
    programs: Programs, bus: Server, client: App, pool: ThreadPoolExecutor, handler: str, second: str
) -> None:
    program = programs.start(handler, "app.run(workers=0)\n", END, settings=LONG_GRACE)
    eventually(lambda: registered(bus, "gated"), what="the registration")
    asked = pool.submit(client.request, "gated", timeout=60)
    [started] = programs.history.wait_for(bool, event="started")
    program.terminate()
    eventually(lambda: registered(bus, "gated") == [], what="end of the registrations")
    assert programs.history.read("behind") == []
    signal_it(program, second)
    assert program.wait() == 0
    assert len(programs.history.read("behind")) == 1
    assert "a second signal" in program.output
    assert "Traceback" not in program.output
    assert not asked.done()
    answer_instead(client, started["id"])
    nothing_is_left(bus, [program.pid], "gated")


@pytest.mark.fault(4, "requests")
def test_one_signal_without_worker_processes_waits_for_handlers(
    programs: Programs, bus: Server, client: App, pool: ThreadPoolExecutor
) -> None:
    program = programs.start(GATED, "app.run(workers=0)\n", END, settings=LONG_GRACE)
    eventually(lambda: registered(bus, "gated"), what="the registration")
    asked = pool.submit(client.request, "gated", timeout=60)
    programs.history.wait_for(bool, event="started")
    program.terminate()
    eventually(lambda: registered(bus, "gated") == [], what="end of the registrations")
    programs.open_gate()
    assert asked.result(30) == [1, program.pid]
    assert program.wait() == 0
    assert len(programs.history.read("behind")) == 1


@pytest.mark.fault(5, "requests")
def test_a_signal_to_everyone_at_once_is_one_signal(
    programs: Programs, client: App, pool: ThreadPoolExecutor
) -> None:
    """As a service manager stops a service: each process gets it, the workers then twice."""
    program = programs.serving(GATED, RUN, settings=LONG_GRACE)
    asked = pool.submit(client.request, "gated", timeout=60)
    programs.history.wait_for(bool, event="started")
    for pid in program.children():
        os.kill(pid, signal.SIGTERM)
    program.terminate()
    eventually(lambda: registered(programs.server, "gated") == [], what="end of the registrations")
    programs.open_gate()
    assert asked.result(30)[0] == 1
    assert program.wait() == 0


@pytest.mark.fault(5, "requests")
def test_a_signal_while_workers_start_ends_them(programs: Programs, bus: Server) -> None:
    source = """
    history.write("loaded")
    if len(history.read("loaded")) > 1:
        while True:
            time.sleep(0.01)
    """
    program = programs.start(source, PID, RUN)
    programs.history.wait_for(lambda entries: len(entries) == 3, event="loaded")
    pids = [entry["pid"] for entry in programs.history.read("loaded")]
    program.terminate()
    assert program.wait() == 0
    nothing_is_left(bus, pids, "pid")


def test_workers_stop_by_themselves_when_the_supervisor_is_killed(
    programs: Programs, bus: Server, client: App, pool: ThreadPoolExecutor
) -> None:
    program = programs.serving(GATED, HEARD, RUN, settings=LONG_GRACE)
    pids = program.children()
    asked = pool.submit(client.request, "gated", timeout=60)
    programs.history.wait_for(bool, event="started")
    program.kill()
    eventually(lambda: registered(bus, "gated") == [], what="end of the registrations")
    assert any(proc.alive(pid) for pid in pids)  # one has a request to answer
    programs.open_gate()
    assert asked.result(30)[1] in pids
    nothing_is_left(bus, pids, "gated", "news")
