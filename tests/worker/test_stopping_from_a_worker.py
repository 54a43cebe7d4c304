"""``app.stop()`` in a handler of a worker process: its supervisor stops them all, as for a signal."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from redis_toolkit import App
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.programs import GATED, PID, Programs, nothing_is_left, registered

END = "history.write('behind')\n"
LONG_GRACE = {"grace": 300}
STOPS = {
    "def": """
@app.on("stop", events=False)
def stop():
    app.stop()
    app.stop()
    return os.getpid()
""",
    "async def": """
@app.on("stop", events=False)
async def stop():
    await app.astop()
    await app.astop()
    return os.getpid()
""",
    "in a thread": """
import asyncio

@app.on("stop", events=False)
async def stop():
    await asyncio.to_thread(app.stop)
    return os.getpid()
""",
    "of an event": """
@app.on("stop-events", requests=False)
def stop_events(data):
    app.stop()

@app.on("stop", events=False)
def stop():
    app.publish("stop-events", 1)
    return os.getpid()
""",
}


@pytest.mark.parametrize("how", STOPS)
@pytest.mark.fault(4, "events", "requests")
def test_it_ends_the_program_when_handlers_have_ended(
    programs: Programs, bus: Server, client: App, how: str
) -> None:
    program = programs.serving(GATED, STOPS[how], "app.run(workers=2)\n", END, settings=LONG_GRACE)
    pids = program.children()
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(client.request, "gated", timeout=60) for _ in range(2)]
        programs.history.wait_for(lambda entries: len(entries) == 2, event="started")
        assert client.request("stop", timeout=30) in pids
        eventually(lambda: registered(bus, "gated") == [], what="end of the registrations")
        assert programs.history.read("behind") == []
        programs.open_gate()
        assert {one.result(30)[1] for one in asked} <= set(pids)
    assert program.wait() == 0
    assert [entry["pid"] for entry in programs.history.read("behind")] == [program.pid]
    nothing_is_left(bus, pids, "gated", "stop")
    assert "Traceback" not in program.output


def test_what_was_started_in_the_background_can_be_started_again(programs: Programs, client: App) -> None:
    source = """
    for turn in (1, 2):
        app.start(workers=turn)
        if app.worker_pids:  # else this is a worker of the second turn
            print("turn", turn, len(app.worker_pids))
            assert app.request("stop", timeout=30)
            while app.worker_pids:
                time.sleep(0.01)
    app.stop()
    """
    program = programs.start(STOPS["def"], source)
    assert program.wait() == 0, program.output
    assert program.wait_for_line("turn 2") == "turn 2 2"


@pytest.mark.fault(4, "requests")
def test_a_worker_that_ends_by_itself_stops_no_other(programs: Programs, client: App) -> None:
    """In it, what stands around ``run()`` is left by SystemExit."""
    source = """
    try:
        app.run(workers=2)
    finally:
        app.stop()
    """
    program = programs.serving(PID, source)
    first, second = program.children()
    os.kill(first, signal.SIGTERM)
    eventually(
        lambda: len(program.children()) == 2 and first not in program.children(), what="another worker"
    )
    assert second in program.children()
    assert client.request("pid", timeout=30) in program.children()
    program.terminate()
    assert program.wait() == 0


def test_another_app_in_a_worker_is_not_the_one_that_it_serves(programs: Programs, client: App) -> None:
    source = """
    other = App(os.environ["URL"])

    @other.on("other", events=False)
    def ask():
        with other.sibling():
            pass
        other.sibling().stop()
        return os.getpid()

    app.start(workers=1)
    app.stop()
    other.run(workers=1)
    """
    program = programs.serving(PID, source, workers=1)
    eventually(lambda: registered(programs.server, "other"), what="the registration of the second")
    assert client.request("other", timeout=30) == client.request("other", timeout=30) in program.children()
    program.terminate()
    assert program.wait() == 0
