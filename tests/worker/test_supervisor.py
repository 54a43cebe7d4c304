"""The supervisor alone: its workers are small programs that speak its protocol and no Redis."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from redis_toolkit.errors import WorkersFailed
from redis_toolkit.worker import supervisor
from redis_toolkit.worker.program import Program
from redis_toolkit.worker.supervisor import Supervisor
from tests.kit import proc
from tests.kit.history import History
from tests.kit.ports import HOST
from tests.kit.proxy import Proxy
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.fakes import no_threads_left
from tests.worker.programs import Programs, kill

# It says ready, notes what it is told, and ends when the other side does.
WORKER = """
import json, os, signal, socket, sys
sys.path.insert(0, {repository!r})
from tests.kit.history import History
history = History({history!r})
part = json.loads(os.environ["REDIS_TOOLKIT_WORKER"])
history.write("started", name=part["process"], ordinal=part["ordinal"], urls=part["urls"], path=part["path"],
              group=os.getpgrp(), inheritable=os.get_inheritable(part["fd"]))
end = socket.socket(fileno=part["fd"])
{before}
end.sendall(b'{{"ready": true}}\\n')
lines = end.makefile()
for line in lines:
    told = json.loads(line)
    history.write("told", **told)
    if "listen" in told:
        end.sendall(b'{{"listening": true}}\\n')
"""
DEADLINE = 30.0


class Rig:
    """A supervisor in a thread, and what its workers and its callbacks noted."""

    def __init__(self, directory: Path, before: str = "", *, workers: int = 2, grace: float = 30) -> None:
        self.history = History(directory / "history")
        self.buried: list[str] = []
        source = WORKER.format(
            repository=str(Path(__file__).parents[2]), history=str(self.history.path), before=before
        )
        self.supervisor = Supervisor(
            Program([sys.executable, "-S", "-c", source], reruns=True),
            workers,
            ordinal=3,
            grace=grace,
            urls=lambda: {"embedded://": "unix:///x"},
            bury=self.buried.append,
        )
        self.errors: list[BaseException] = []
        self.thread = threading.Thread(target=self._run, name="rt-test-supervisor", daemon=True)

    def _run(self) -> None:
        try:
            self.supervisor.run()
        except WorkersFailed as error:
            self.errors.append(error)

    def start(self) -> None:
        self.thread.start()
        assert self.supervisor.all_ready.wait(DEADLINE)

    def stop(self) -> None:
        self.supervisor.stop()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()

    def started(self) -> dict[int, dict[str, Any]]:
        return {entry["pid"]: entry for entry in self.history.read("started")}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def new(*args: Any, **how: Any) -> Rig:
        made.append(Rig(tmp_path, *args, **how))
        return made[-1]

    with no_threads_left("rt-"):
        yield new
        for one in made:
            one.supervisor.stop()
            one.supervisor.stop()
            if one.thread.ident is not None:
                one.thread.join(DEADLINE)
            assert not any(proc.alive(pid) for pid in one.started())


def test_workers_get_their_part_and_a_process_group_of_their_own(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.start()
    started = one.started()
    assert set(started) == set(one.supervisor.pids)
    for pid, entry in started.items():
        assert entry["group"] == pid
        assert (entry["ordinal"], entry["urls"]) == (3, {"embedded://": "unix:///x"})
        assert all(Path(path).is_absolute() for path in entry["path"])
    assert len({entry["name"] for entry in started.values()}) == 2
    one.stop()
    assert one.errors == []
    assert one.supervisor.ended.is_set()


def test_one_listens_and_the_next_takes_over_at_once(rig: Callable[..., Rig]) -> None:
    one = rig(workers=3)
    one.start()
    [told] = one.history.read("told")
    assert (told["listen"], told["reason"]) == (None, "")
    kill(told["pid"])
    [_, told_next] = one.history.wait_for(lambda entries: len(entries) == 2, event="told")
    assert told_next["pid"] in one.started()
    assert told_next["listen"] > 1_000_000_000
    assert told_next["reason"] == f"worker process {told['pid']}, the listener, ended"
    eventually(lambda: one.buried == [one.started()[told["pid"]]["name"]], what="the burial")
    one.history.wait_for(lambda entries: len(entries) == 4, event="started")
    assert len(one.history.read("told")) == 2
    one.stop()


def test_the_only_worker_gets_the_role_back_with_a_gap(rig: Callable[..., Rig]) -> None:
    one = rig(workers=1)
    one.start()
    [first] = one.supervisor.pids
    kill(first)
    told = one.history.wait_for(lambda entries: len(entries) == 2, event="told")
    assert told[1]["pid"] != first
    assert told[1]["listen"] is not None
    one.stop()


def test_a_death_is_seen_although_a_fork_holds_the_socket(rig: Callable[..., Rig]) -> None:
    fork = """
if len(history.read("started")) == 1 and os.fork() == 0:
    history.write("fork")
    signal.pause()
"""
    one = rig(fork, workers=1)
    one.start()
    [first] = one.supervisor.pids
    [fork_entry] = one.history.wait_for(bool, event="fork")
    try:
        kill(first)
        one.history.wait_for(lambda entries: len(entries) == 2, event="started")
        one.stop()
    finally:
        kill(fork_entry["pid"])


def test_what_ignores_the_stop_is_killed_after_the_grace(rig: Callable[..., Rig]) -> None:
    one = rig("signal.signal(signal.SIGTERM, signal.SIG_IGN)", workers=1, grace=0.1)
    one.start()
    [pid] = one.supervisor.pids
    one.stop()
    assert not proc.alive(pid)
    assert one.buried == [one.started()[pid]["name"]]


def test_a_second_stop_does_not_wait(rig: Callable[..., Rig]) -> None:
    one = rig("signal.signal(signal.SIGTERM, signal.SIG_IGN)", workers=2, grace=300)
    one.start()
    pids = one.supervisor.pids
    one.supervisor.stop()
    one.stop()
    assert not any(proc.alive(pid) for pid in pids)


def test_workers_that_never_get_ready_are_a_failure(rig: Callable[..., Rig]) -> None:
    one = rig("os.kill(os.getpid(), signal.SIGTERM)", workers=5)
    one.thread.start()
    assert one.supervisor.all_ready.wait(DEADLINE)
    one.thread.join(DEADLINE)
    [error] = one.errors
    assert "5 times a worker process ended before it was ready, the last time with signal SIGTERM" in str(
        error
    )
    assert one.supervisor.failure is error


def test_deaths_after_one_was_ready_are_no_failure(
    rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "MAX_PAUSE", 0.05)
    one = rig('if len(history.read("started")) > 2: sys.exit(3)')
    one.start()
    lost, other = one.supervisor.pids
    kill(lost)
    one.history.wait_for(lambda entries: len(entries) > 2 + supervisor.MAX_FALSE_STARTS + 1, event="started")
    assert one.supervisor.failure is None
    assert proc.alive(other)
    one.stop()
    assert one.errors == []


def test_workers_are_told_by_the_end_of_the_socket(rig: Callable[..., Rig]) -> None:
    one = rig("signal.signal(signal.SIGTERM, signal.SIG_IGN)", workers=1, grace=300)
    one.start()
    [pid] = one.supervisor.pids
    [slot] = one.supervisor._slots
    assert slot.channel is not None
    slot.channel.socket.shutdown(2)
    eventually(lambda: not proc.alive(pid) or pid not in one.supervisor.pids, what="its end")
    one.history.wait_for(lambda entries: len(entries) == 2, event="started")


def test_signals_are_the_callers_again_afterwards(rig: Callable[..., Rig]) -> None:
    one = rig(workers=1)
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    def interrupt() -> None:
        one.supervisor.all_ready.wait(DEADLINE)
        os.kill(os.getpid(), signal.SIGINT)

    killer = threading.Thread(target=interrupt)
    killer.start()
    one.supervisor.run_until_signal(lambda: None)
    killer.join(DEADLINE)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_start_waits_for_the_subscriptions_of_the_listener(programs: Programs, bus: Server) -> None:
    source = f"""
    @app.on("news")
    def hear(data):
        history.write("heard", data=data)

    app.start(workers=1)
    print("receivers", App({bus.url!r}).publish("news", 1))
    app.stop()
    """
    with Proxy(HOST, bus.port) as proxy:
        proxy.delay(0.05)  # a subscription takes its time
        program = programs.start(source, url=proxy.url)
        assert program.wait() == 0, program.output
    assert program.wait_for_line("receivers") == "receivers 1"
