"""The supervisor: keeps N worker processes of one app running, until it is told to stop.

Rules:

- Workers are fresh interpreters, never forks. Each is in a process group of its own, so that Ctrl-C
  reaches the supervisor alone, which then asks all of them to stop.
- A worker that dies is started again, with a growing pause while that keeps happening. One process's
  end disturbs no other.
- One ready worker has the listener role: it alone hears live events. When it dies the role moves at
  once, and the new listener reports the gap.
- The registrations of a dead worker are taken back at once, so that callers hear "no responders".
- A worker that never becomes ready is a broken program, not bad luck: after five tries at the start it
  ends.
"""

from __future__ import annotations

import logging
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from redis_toolkit.errors import RedisToolkitError, WorkersFailed
from redis_toolkit.worker.assignment import Assignment, Channel
from redis_toolkit.worker.node import new_process_name
from redis_toolkit.worker.program import Program

__all__ = ["Supervisor"]

logger = logging.getLogger("redis_toolkit")

MAX_FALSE_STARTS = 5
MAX_PAUSE = 5.0
STEADY = 10.0
"""Seconds after which a worker that dies is started again without a pause."""
POLL = 0.2
"""Seconds between two looks at processes whose socket is held open by a fork of theirs."""
MARGIN = 2.0
"""Seconds that workers get to exit after their grace period, before they are killed."""


@dataclass(eq=False, slots=True)
class _Slot:
    """A place for one worker process, and what runs in it now."""

    process: subprocess.Popen[bytes] | None = None
    channel: Channel | None = None
    name: str = ""
    ready: bool = False
    listening: bool = False
    started: float = 0.0
    deaths: int = 0
    start_at: float = 0.0


class Supervisor:
    """Runs worker processes.

    Args:
        program: how to start one.
        workers: how many.
        ordinal: which supervised app of the program this is.
        grace: seconds that running handlers get when it stops.
        urls: gives the URLs of embedded servers that workers connect to.
        bury: called with the name of each dead process, to take back its registrations.
    """

    def __init__(
        self,
        program: Program,
        workers: int,
        *,
        ordinal: int,
        grace: float,
        urls: Callable[[], Mapping[str, str]],
        bury: Callable[[str], None],
    ) -> None:
        self._program = program
        self._slots = [_Slot() for _ in range(workers)]
        self._ordinal = ordinal if program.reruns else 0
        self._grace = grace
        self._urls = urls
        self._bury = bury
        self._listener: _Slot | None = None
        self._unheard: tuple[float, str] | None = None
        self._ever_ready = False
        self._false_starts = 0
        self.failure: Exception | None = None
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._stops = 0
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_out, selectors.EVENT_READ, None)
        self.all_ready = threading.Event()
        self.ended = threading.Event()

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that run now."""
        return [slot.process.pid for slot in self._slots if slot.process is not None]

    def stop(self) -> None:
        """Ask it to stop; a second time, not to wait for handlers. Safe in a signal handler."""
        self._stops += 1
        self._wake()

    def run(self) -> None:
        """Supervise until `stop`; returns when every worker has ended.

        Raises:
            WorkersFailed: none of the workers could be started.
        """
        try:
            while not self._stops and self.failure is None:
                self._start_due()
                self._wait()
                self._look_at_all()
            self._stop_all()
        finally:
            self._close()
            self.all_ready.set()
            self.ended.set()
        if self.failure is not None:
            raise self.failure

    def run_until_signal(self, end: Callable[[], None]) -> None:
        """Do `run`, then ``end``; in the main thread, SIGTERM and SIGINT until then mean: stop."""
        if threading.current_thread() is not threading.main_thread():
            try:
                self.run()
            finally:
                end()
            return
        before = {
            number: signal.signal(number, lambda _number, _frame: self.stop())
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            self.run()
        finally:
            end()
            for number, handler in before.items():
                signal.signal(number, handler)

    # -- starting ---------------------------------------------------------------------------------

    def _start_due(self) -> None:
        now = time.monotonic()
        for slot in self._slots:
            if slot.process is None and slot.start_at <= now:
                try:
                    self._start(slot)
                except (OSError, RedisToolkitError) as error:  # no process to be had, no embedded server
                    slot.deaths += 1
                    slot.start_at = now + _pause(slot.deaths)
                    logger.error("a worker process could not be started, trying again: %s", error)

    def _start(self, slot: _Slot) -> None:
        urls = dict(self._urls())
        ours, theirs = socket.socketpair()
        slot.name = new_process_name()
        path = tuple(_import_path())
        part = Assignment(theirs.fileno(), slot.name, self._ordinal, urls, path, os.getpid())
        try:
            slot.process = subprocess.Popen(
                self._program.command,
                env={**os.environ, **part.to_environment()},
                pass_fds=(theirs.fileno(),),
                process_group=0,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        slot.channel = Channel(ours)
        slot.ready, slot.listening, slot.started = False, False, time.monotonic()
        self._selector.register(ours, selectors.EVENT_READ, slot)

    # -- watching ---------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Wait for news from a worker, a call of `stop`, or the next due start."""
        due = [slot.start_at - time.monotonic() for slot in self._slots if slot.process is None]
        for key, _ in self._selector.select(max(min([POLL, *due]), 0)):
            if key.data is None:
                self._wake_out.recv(4096)
            else:
                self._hear(key.data)

    def _hear(self, slot: _Slot) -> None:
        messages = slot.channel.receive() if slot.channel is not None else None
        if messages is None:
            self._forget_channel(slot)
            if slot.process is not None:
                try:
                    slot.process.wait(timeout=POLL)
                except subprocess.TimeoutExpired:
                    return
                self._died(slot)
            return
        for message in messages:
            if message.get("ready"):
                self._became_ready(slot)
            elif message.get("stop"):
                self._stops = self._stops or 1  # a handler there called app.stop(): once or often
            elif message.get("stopping"):
                slot.ready = False
                if self._listener is slot and not self._stops:
                    self._move_role(f"worker process {slot.process.pid if slot.process else 0} is stopping")
            elif message.get("listening"):
                slot.listening = True
                if self._listener is slot:
                    self._unheard = None  # it has reported the gap
                self._check_all_ready()

    def _became_ready(self, slot: _Slot) -> None:
        slot.ready = self._ever_ready = True
        if self.all_ready.is_set() and slot.process is not None:
            logger.info("worker process %d is ready", slot.process.pid)
        if self._listener is None:
            self._appoint(slot)
        self._check_all_ready()

    def _check_all_ready(self) -> None:
        """All are ready when the listener's subscriptions are confirmed as well."""
        if all(other.ready for other in self._slots) and self._listener and self._listener.listening:
            if not self.all_ready.is_set():
                ready = len(self._slots)
                logger.info("%d worker process%s ready", ready, " is" if ready == 1 else "es are")
            self.all_ready.set()

    def _appoint(self, slot: _Slot) -> None:
        """Give a worker the listener role."""
        since, reason = self._unheard or (None, "")
        if slot.channel is not None and slot.channel.send(listen=since, reason=reason):
            self._listener = slot

    def _move_role(self, reason: str) -> None:
        """Give the listener role to another worker; if none is ready, to the next that is."""
        self._listener = None
        if self._unheard is None:  # else nobody has listened since then
            self._unheard = (time.time(), reason)
        for slot in self._slots:
            if slot.ready and self._listener is None:
                self._appoint(slot)

    def _look_at_all(self) -> None:
        for slot in self._slots:
            if slot.process is not None and slot.process.poll() is not None:
                self._died(slot)

    def _died(self, slot: _Slot) -> None:
        process = slot.process
        if process is None:
            return
        lived = time.monotonic() - slot.started
        slot.deaths = 0 if slot.ready and lived >= STEADY else slot.deaths + 1
        pause = _pause(slot.deaths)
        slot.start_at = time.monotonic() + pause
        logger.warning(
            "worker process %d ended with %s, starting another in %.1f s",
            process.pid,
            _how(process.returncode),
            pause,
        )
        if not slot.ready and not self.all_ready.is_set():
            self._false_starts += 1
            tries = slot.deaths if self._ever_ready else self._false_starts
            if tries >= MAX_FALSE_STARTS:
                self.failure = WorkersFailed(
                    f"{tries} times a worker process ended before it was ready, the last time with "
                    f"{_how(process.returncode)}: see what it printed. Command: {self._program.command}"
                )
        pid, name = process.pid, slot.name
        self._forget_channel(slot)
        slot.process, slot.ready = None, False
        if self._listener in (slot, None) and self._ever_ready:
            self._move_role(f"worker process {pid}, the listener, ended")
        threading.Thread(target=self._bury, args=(name,), name="rt-bury", daemon=True).start()

    # -- stopping ---------------------------------------------------------------------------------

    def _stop_all(self) -> None:
        """Ask all to stop, wait, and kill those that do not."""
        logger.info(
            "stopping the worker processes, %d of them, within %g s", len(self._running()), self._grace
        )
        for slot in self._slots:
            if slot.process is not None and slot.process.poll() is None:
                slot.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._grace + MARGIN
        while self._running() and time.monotonic() < deadline and self._stops < 2:
            for slot in self._running():
                try:
                    assert slot.process is not None
                    slot.process.wait(timeout=0.05)
                except subprocess.TimeoutExpired:
                    continue
        for slot in self._running():
            assert slot.process is not None
            logger.error("worker process %d did not end in time and is killed", slot.process.pid)
            slot.process.kill()
            slot.process.wait()
            self._bury(slot.name)

    def _running(self) -> list[_Slot]:
        return [slot for slot in self._slots if slot.process is not None and slot.process.poll() is None]

    def _close(self) -> None:
        for slot in self._running():  # after an error of our own: leave nothing behind
            assert slot.process is not None
            slot.process.kill()
            slot.process.wait()
        for slot in self._slots:
            self._forget_channel(slot)
        self._selector.close()
        self._wake_in.close()
        self._wake_out.close()

    def _forget_channel(self, slot: _Slot) -> None:
        if slot.channel is not None:
            self._selector.unregister(slot.channel.socket)
            slot.channel.close()
            slot.channel = None

    def _wake(self) -> None:
        try:
            self._wake_in.send(b"!")
        except OSError:
            return  # it is awake already (the buffer is full), or has ended


def _import_path() -> list[str]:
    return [entry or str(Path.cwd()) for entry in sys.path]


def _pause(deaths: int) -> float:
    """Return seconds before a worker that died so often in a row is started again."""
    return random.uniform(0.5, 1.0) * min(0.1 * 2 ** (deaths - 1), MAX_PAUSE) if deaths else 0.0


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"signal {signal.Signals(-code).name}"
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"
