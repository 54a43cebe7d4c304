"""Two signals at any moment end a program with its workers, and leave nothing behind."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from redis_toolkit import App, OutcomeUnknown, RequestTimeout, ServerUnreachable
from tests.faults.troubles import seeded
from tests.kit import proc
from tests.kit.faults import Tier
from tests.kit.processes import Process
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.programs import Programs, nothing_is_left

AT_ONCE = 4
"""Programs that run at the same time, each with two workers."""
MOMENTS = ("1 worker started", "1 worker loaded", "2 workers loaded", "ready", "ready")
"""When the first signal may come. Before a worker is started, signals end the interpreter in its own way."""
SERVING = """
@app.on("news")
def hear(data):
    history.write("heard", data=data)

@app.on("threads", events=False)
def threads(data):
    history.write("ran", data=data)
    return data

@app.on("coroutines", events=False)
async def coroutines(data):
    history.write("ran", data=data)
    return data

history.write("loaded", ppid=os.getppid())
app.run(workers=2)
"""


class Asking:
    """Asks and publishes all the time, and notes what becomes of it."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.asked: Counter[str] = Counter()
        self._enough = threading.Event()

    def run(self, channel: str) -> None:
        while not self._enough.is_set():
            question = f"{channel} {len(self.asked)}"
            self.asked[question] += 1
            try:
                assert self.app.request(channel, question, timeout=1) == question
            except (OutcomeUnknown, RequestTimeout, ServerUnreachable):
                self._enough.wait(0.01)  # perhaps nobody is there
            self.app.publish("news", question)

    def stop(self) -> None:
        self._enough.set()


def send(program: Process, chance: random.Random) -> None:
    if chance.random() < 0.5:
        program.terminate()
    else:
        program.interrupt(group=chance.random() < 0.5)


def wait_until(program: Process, programs: Programs, moment: str) -> None:
    """Wait for something in the life of a program, from when it handles signals until it serves."""
    if moment == "ready":
        program.wait_for_line("2 worker processes are ready", 60)
        return
    started = int(moment[0])
    eventually(lambda: len(program.children()) >= started, 60, f"{moment} of {program.name}")
    if moment.endswith("loaded"):
        programs.history.wait_for(
            lambda entries: sum(entry["ppid"] == program.pid for entry in entries) >= started,
            event="loaded",
            timeout=60,
            what=f"{moment} of {program.name}",
        )


def signalled_twice(programs: Programs, chance: random.Random, name: str) -> None:
    """Start a program and send it two signals, each at some moment; returns when it has ended."""
    program = programs.start(SERVING, name=name, settings={"grace": 5})
    wait_until(program, programs, chance.choice(MOMENTS))
    time.sleep(chance.choice([0, chance.uniform(0, 0.05)]))
    pids = [program.pid, *program.children()]
    send(program, chance)
    if chance.random() < 0.3:
        eventually(lambda: not all(map(proc.alive, pids)), what=f"end of one of {pids}")
    else:
        time.sleep(chance.choice([0, chance.uniform(0, 0.02), chance.uniform(0, 0.1)]))
    send(program, chance)
    code = program.wait(60)
    eventually(lambda: not any(map(proc.alive, pids)), what=f"end of the processes {pids}")
    # Behind app.run() a signal does again what it does to any program of Python.
    assert code == 0 or -code in (signal.SIGINT, signal.SIGTERM), program.output
    assert "/redis_toolkit/" not in program.output, program.output  # no traceback goes through our files


@pytest.mark.fault(5, "events", "requests")
def test_two_signals_at_any_moment(programs: Programs, own_server: Server, tier: Tier) -> None:
    chance = seeded()
    app = App(own_server.url)
    asking = Asking(app)
    with ThreadPoolExecutor(AT_ONCE + 2) as pool:
        callers = [pool.submit(asking.run, channel) for channel in ("threads", "coroutines")]
        try:
            for turn in range(tier(2, 25)):
                sources = [random.Random(chance.random()) for _ in range(AT_ONCE)]
                ended = [
                    pool.submit(signalled_twice, programs, source, f"program-{turn}-{number}")
                    for number, source in enumerate(sources)
                ]
                for one in ended:
                    one.result(180)
        finally:
            asking.stop()
        for caller in callers:
            caller.result(60)
    app.stop()
    ran = Counter(entry["data"] for entry in programs.history.read("ran"))
    assert ran, "nobody ever served"
    assert max(ran.values()) == 1
    assert set(ran) <= set(asking.asked)
    heard = Counter(entry["data"] for entry in programs.history.read("heard"))
    assert not heard or max(heard.values()) <= AT_ONCE  # each program hears an event once
    nothing_is_left(own_server, [], "threads", "coroutines", "news")
