"""Who listens, who takes over, and who goes when: workers and supervisors at awkward moments."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

from redis_toolkit import App, keys
from tests.kit import proc
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.programs import GATED, PID, Programs, both_answer, kill, nothing_is_left, registered

RUN = "app.run(workers={})\n"
NEWS = """
@app.on("news", requests=False)
def hear(data):
    history.write("heard", data=data)
    if data == "busy":
        wait_at_gate()
        history.write("done")

@app.on_gap
def report(gap):
    history.write("gap", reason=gap.reason, seconds=gap.ended - gap.started)
"""


def listener_of(programs: Programs, client: App) -> int:
    """Return the pid of the worker that hears events."""
    assert client.publish("news", "first") == 1
    [heard] = programs.history.wait_for(bool, event="heard")
    pid: int = heard["pid"]
    return pid


def heard_from_now_on(programs: Programs, client: App) -> int:
    """Publish until somebody hears it; returns who."""
    numbers: list[int] = []

    def publish() -> int:
        numbers.append(len(numbers))
        client.publish("news", f"later {numbers[-1]}")
        return sum(str(entry["data"]).startswith("later") for entry in programs.history.read("heard"))

    eventually(publish, what="events at the next listener")
    hearers = {entry["pid"] for entry in programs.history.read("heard") if "later" in entry["data"]}
    assert len(hearers) == 1
    return int(hearers.pop())


def test_a_listener_that_is_told_to_stop_while_busy_hands_its_role_over_at_once(
    programs: Programs, client: App
) -> None:
    program = programs.serving(NEWS, PID, RUN.format(2), settings={"grace": 300})
    listener = listener_of(programs, client)
    [other] = set(program.children()) - {listener}
    client.publish("news", "busy")
    programs.history.wait_for(lambda entries: len(entries) == 2, event="heard")
    os.kill(listener, signal.SIGTERM)
    assert heard_from_now_on(programs, client) == other
    assert proc.alive(listener)  # it still has to finish its work
    assert programs.history.read("done") == []
    programs.open_gate()
    programs.history.wait_for(bool, event="done")
    eventually(lambda: not proc.alive(listener), what="end of the first listener")
    eventually(lambda: len(both_answer(client)) == 2, what="two workers")
    [gap] = programs.history.wait_for(bool, event="gap")
    assert gap["pid"] == other
    assert f"worker process {listener} is stopping" in gap["reason"]


def test_of_three_workers_the_last_one_listens_when_two_die_together(programs: Programs, client: App) -> None:
    program = programs.serving(NEWS, RUN.format(3), workers=3)
    listener = listener_of(programs, client)
    next_in_line, last = (pid for pid in program.children() if pid != listener)
    programs.hold_new_ones()  # nobody else comes to help
    program.pause()  # the supervisor sees both deaths at once, the listener's first
    for pid in (listener, next_in_line):
        kill(pid)
        eventually(lambda pid=pid: not proc.alive(pid), what=f"end of {pid}")  # type: ignore[misc]
    program.resume()
    assert heard_from_now_on(programs, client) == last
    [gap] = programs.history.wait_for(bool, event="gap")
    assert gap["pid"] == last
    programs.go_on()
    eventually(lambda: len(program.children()) == 3, what="three workers")
    assert len(programs.history.read("gap")) == 1


NO_PROCESS_ONCE = """
popen = subprocess.Popen.__init__
calls = []

def init(self, *args, **options):
    calls.append(1)
    if len(calls) == 3:  # the one that is to replace a dead worker
        raise BlockingIOError(11, "Resource temporarily unavailable")
    popen(self, *args, **options)

subprocess.Popen.__init__ = init
"""


def test_a_process_that_cannot_be_had_once_ends_no_supervisor(programs: Programs, client: App) -> None:
    program = programs.serving(NO_PROCESS_ONCE, PID, GATED, RUN.format(2))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.request, "gated", timeout=300)
        [started] = programs.history.wait_for(bool, event="started")
        [idle] = set(program.children()) - {started["pid"]}
        kill(idle)
        program.wait_for_line("a worker process could not be started, trying again")
        programs.open_gate()
        assert asked.result(30) == [1, started["pid"]]  # the other one was not disturbed
    assert idle not in both_answer(client)
    program.terminate()
    assert program.wait() == 0


def test_workers_end_with_their_supervisor_although_a_fork_of_it_lives(
    programs: Programs, bus: Server
) -> None:
    program = programs.start(
        PID,
        """
        app.start(workers=2)
        helper = os.fork()  # with copies of the supervisor's sockets, as any helper has them
        if helper == 0:
            while True:
                signal.pause()
        print("up", helper, *app.worker_pids, flush=True)
        while True:
            signal.pause()
        """,
    )
    helper, *workers = map(int, program.wait_for_line("up").split()[1:])
    assert len(workers) == 2
    program.kill()
    nothing_is_left(bus, workers, "pid")
    assert proc.alive(helper)


ONLY_ONE = """
from redis_toolkit.errors import WorkersFailed
from redis_toolkit.worker.assignment import assignment

if assignment() is not None:
    (here / "taken").open("x").close()  # as a port that only one process gets
try:
    app.start(workers=2)
except WorkersFailed as error:
    print("refused:", error, flush=True)
"""


def test_a_start_fails_when_one_of_the_workers_never_gets_ready(programs: Programs, bus: Server) -> None:
    program = programs.start(PID, ONLY_ONE)
    line = program.wait_for_line("refused:")
    assert "ended before it was ready, the last time with exit code 1" in line
    assert program.wait() == 0
    assert program.children() == []
    assert registered(bus, "pid") == []
    assert bus.execute("PUBSUB", "NUMSUB", keys.serve("pid"))[1] == 0
