"""What is done to the processes of a run: they are killed, stopped, cut off from the server.

- ``kill``: a worker process is killed with -9; ``behead``: a supervisor is, whose workers stop then;
- ``stall``: a worker process stands still for longer than its lease (SIGSTOP), and goes on then;
- ``stop``: a worker is asked to stop (SIGTERM), and gives back what it has not begun;
- ``cut``: all connections are closed by CLIENT KILL; ``restart``: the server is killed with -9, and started.

Rules: chance decides by the seed alone, among whoever is alive; everything done is in the history, written
when it has been done: so who was killed has told nothing after that.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from typing import Literal, TypeVar

import redis

from tests.kit import proc
from tests.kit.processes import History, Process
from tests.kit.servers import Server

__all__ = ["Blow", "Turmoil", "Workers"]

T = TypeVar("T")
Blow = Literal["kill", "stall", "behead", "stop", "cut", "restart"]
WORKER = Path(__file__).with_name("worker.py")


class Workers:
    """A supervised program of several worker processes, and single ones that are started again here."""

    def __init__(
        self, directory: Path, env: dict[str, str], crew: int, singles: int, stack: ExitStack
    ) -> None:
        self._directory = directory
        self._env = env
        self._size = crew + singles
        self._stack = stack
        self._crew_size = crew
        self._crew = self._start("crew", crew)
        self._singles = [self._start("single", 0) for _ in range(singles)]
        self._crew.wait_for_line(f"{crew} worker processes are ready")

    def _start(self, name: str, workers: int) -> Process:
        env = {**self._env, "WORKERS": str(workers)}
        return self._stack.enter_context(Process(directory=self._directory, path=WORKER, env=env, name=name))

    @property
    def size(self) -> int:
        """How many worker processes there are when nobody is dead."""
        return self._size

    def alive(self) -> list[int]:
        """Return the pids of all that run, those of single ones last."""
        return self._crew.children() + [one.pid for one in self._singles if one.returncode is None]

    def behead(self) -> int:
        """Kill the supervisor, and return its pid; its workers see that and stop."""
        self._crew.kill()
        return self._crew.pid

    def stop_one(self, place: int) -> None:
        """Ask a single one to stop."""
        self._singles[place % len(self._singles)].terminate()

    def replace_the_dead(self) -> None:
        """Start those programs again that have ended."""
        if self._crew.returncode is not None:  # its workers have to end by themselves
            self._crew = self._start("crew", self._crew_size)
        for place, one in enumerate(self._singles):
            if one.returncode is not None:
                one.close()
                self._singles[place] = self._start("single", 0)

    def stop(self) -> list[str]:
        """Ask all of them to stop; returns what is wrong with how they ended."""
        everyone = [self._crew, *self._singles]
        for one in everyone:
            one.terminate()
        ends = {f"{one.name} {one.pid}": one.wait(60) for one in everyone}
        # One that was started a moment ago has no handler for the signal yet, and dies of it.
        wrong = {name: code for name, code in ends.items() if code not in (0, -signal.SIGTERM)}
        return [f"{name} ended with {code} after SIGTERM" for name, code in wrong.items()]


class Turmoil:
    """Deals blows.

    Args:
        seed: of all that chance decides.
        server: the server, which keeps all that it acknowledged.
        workers: those that may be killed.
        history: where it is told.
        stall: seconds for which a process stands still: longer than a lease.
    """

    def __init__(
        self, seed: int, server: Server, workers: Workers, history: History, *, stall: float
    ) -> None:
        self.dealt: Counter[Blow] = Counter()
        self._random = Random(seed)
        self._server = server
        self._workers = workers
        self._history = history
        self._stall_seconds = stall
        self._stalled: list[threading.Timer] = []
        self._blows: dict[Blow, Callable[[], None]] = {
            "kill": self._kill,
            "stall": self._stall,
            "behead": self._behead,
            "stop": self._stop,
            "cut": self._cut,
            "restart": self._restart,
        }

    def shuffled(self, blows: Iterable[T]) -> list[T]:
        """Return these in an order that chance decides."""
        listed = list(blows)
        self._random.shuffle(listed)
        return listed

    def deal(self, blow: Blow) -> None:
        """Do it, and see to it that nobody stays dead."""
        self._blows[blow]()
        self._workers.replace_the_dead()

    def settle_down(self) -> None:
        """Wait until everybody goes on who stands still."""
        while self._stalled:
            self._stalled.pop().join()

    def _stall(self) -> None:
        alive = [known for known in map(proc.stat, self._workers.alive()) if known is not None]
        if not alive:
            return
        victim = self._random.choice(alive)
        with suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGSTOP)
        self._stalled.append(threading.Timer(self._stall_seconds, _go_on, [victim]))
        self._stalled[-1].start()
        self._tell("stall", victim=victim.pid)

    def _kill(self) -> None:
        alive = self._workers.alive()
        if not alive:
            return
        victim = self._random.choice(alive)
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        self._tell("kill", victim=victim)

    def _behead(self) -> None:
        self._tell("behead", supervisor=self._workers.behead())

    def _stop(self) -> None:
        self._workers.stop_one(self._random.randrange(1000))
        self._tell("stop")

    def _cut(self) -> None:
        with suppress(redis.ConnectionError):
            for kind in ("normal", "pubsub"):
                self._server.execute("CLIENT", "KILL", "TYPE", kind)
        self._tell("cut")

    def _restart(self) -> None:
        self._server.restart()
        self._tell("restart")

    def _tell(self, blow: Blow, **fields: int) -> None:
        self.dealt[blow] += 1
        self._history.write(blow, **fields)


def _go_on(victim: proc.Stat) -> None:
    known = proc.stat(victim.pid)
    if known is not None and known.identity == victim.identity:
        with suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGCONT)
