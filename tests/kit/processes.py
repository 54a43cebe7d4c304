"""Python programs as real processes: workers and clients that can be killed, paused, interrupted.

Rules: a program runs in the interpreter that runs the tests, finds this kit (``from
tests.kit.processes import History``), writes its output to files, and never outlives the test, nor
does anything that it started. What a test is to see while it runs, it has to flush. `kill`,
`terminate`, `interrupt`, `pause` and `resume` go to the program itself and not to its children, as a
signal from an operator would; `close` ends them all.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import dedent
from types import TracebackType
from typing import Self

from . import proc
from .guarded import Guarded
from .history import Entry, History
from .waiting import eventually

__all__ = ["Entry", "History", "Process"]

REPOSITORY = Path(__file__).resolve().parents[2]
MARK = "TEST_PROCESS"


class Process:
    """One program: `source` text, a script at `path`, or a `module` as with ``python -m``.

    `directory` takes the script made of `source` and the files with the output; it is also where
    the program runs, unless `cwd` says otherwise. `env` is laid over the environment of the test;
    None removes a variable. `args` are the program's arguments, `options` the interpreter's.
    """

    def __init__(
        self,
        *,
        directory: Path,
        source: str | None = None,
        path: Path | None = None,
        module: str | None = None,
        args: Sequence[str] = (),
        options: Sequence[str] = (),
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        name: str = "program",
    ) -> None:
        if sum(choice is not None for choice in (source, path, module)) != 1:
            raise ValueError("pass exactly one of source, path and module")
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise ValueError(f"{name!r} is no name for files")
        self.name = name
        self.directory = directory
        self.cwd = cwd or directory
        self._mark = f"{MARK}={uuid.uuid4().hex}"
        self._env = self._environment(env or {})
        directory.mkdir(parents=True, exist_ok=True)
        self._stdout, self._stderr = _own_files(directory, name)
        if source is not None:
            path = self._stdout.with_suffix(".py")
            path.write_text(dedent(source), encoding="utf-8")
        program = ["-m", module] if module is not None else [str(path)]
        self.argv = [sys.executable, *options, *program, *args]
        self._running: Guarded | None = None
        self._seen: set[tuple[int, int]] = set()

    # Living ------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start the program; returns at once. It is started once: a second run is a second Process."""
        if self._running is not None:
            raise RuntimeError(f"{self.name} has been started already")
        with self._stdout.open("ab") as stdout, self._stderr.open("ab") as stderr:
            self._running = Guarded(self.argv, cwd=self.cwd, stdout=stdout, stderr=stderr, env=self._env)
        return self

    def close(self) -> None:
        """Kill whatever still runs of the program and all that it started; may be called twice."""
        if self._running is None:
            return
        self._look_around()
        self._running.kill_group()
        # Those that are just being forked are not in the list yet: look until it stays empty.
        eventually(self._kill_the_rest, what=f"end of all that {self.name} started")
        self._running.release()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is not None and self.output:
            error.add_note(self._tail())

    # Signals -----------------------------------------------------------------------------------

    def kill(self) -> None:
        """SIGKILL; returns when it is dead. Its children live on until `close`."""
        self._look_around()
        self._guarded.kill()

    def terminate(self) -> None:
        """SIGTERM; returns at once."""
        self._send(signal.SIGTERM)

    def interrupt(self, *, group: bool = False) -> None:
        """SIGINT; `group=True` sends it to its children too, as Ctrl-C in a terminal does."""
        self._look_around()
        if group and self._guarded.returncode is None:
            os.killpg(self.pid, signal.SIGINT)
        else:
            self._send(signal.SIGINT)

    def pause(self) -> None:
        """SIGSTOP; returns when it stands still."""
        self._send(signal.SIGSTOP)
        self._guarded.wait_until_stopped()

    def resume(self) -> None:
        """SIGCONT."""
        self._send(signal.SIGCONT)

    # Looking -----------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        return self._guarded.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._guarded.returncode

    def wait(self, timeout: float = 30.0) -> int:
        """Return the exit code once the program has ended; AssertionError when it has not."""
        code = self._guarded.wait(timeout)
        if code is None:
            raise AssertionError(f"{self.name} still runs after {timeout:g} s\n{self._tail()}")
        return code

    @property
    def stdout(self) -> str:
        return self._stdout.read_text(encoding="utf-8", errors="replace")

    @property
    def stderr(self) -> str:
        return self._stderr.read_text(encoding="utf-8", errors="replace")

    @property
    def output(self) -> str:
        """What it and its children wrote so far: standard output, then standard error."""
        return self.stdout + self.stderr

    def wait_for_line(self, text: str, timeout: float = 30.0) -> str:
        """Return the first whole line of output that contains `text`; at once an error when all is over."""

        def look() -> str | None:
            # Asked before reading: what the last one wrote on its way out still counts.
            over = self.returncode is not None and not self._look_around()
            # Each by itself: half a line of the one must not be ended by the other.
            for line in [*self.stdout.splitlines(keepends=True), *self.stderr.splitlines(keepends=True)]:
                if text in line and (line.endswith("\n") or over):
                    return line.rstrip("\n") or "\n"
            if over:
                raise AssertionError(f"{self.name} ended ({self.returncode}) without a line with {text!r}")
            return None

        try:
            return eventually(look, timeout, f"a line with {text!r} from {self.name}") or ""
        except AssertionError as error:
            error.add_note(self._tail())
            raise

    def children(self) -> list[int]:
        """Return the pids of the living direct children, oldest first."""
        self._look_around()
        return proc.children(self.pid)

    # Inside ------------------------------------------------------------------------------------

    @property
    def _guarded(self) -> Guarded:
        if self._running is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._running

    def _tail(self) -> str:
        return f"--- output of {self.name} ---\n{self.output[-4000:]}"

    def _send(self, number: int) -> None:
        self._look_around()
        self._guarded.signal(number)

    def _look_around(self) -> set[tuple[int, int]]:
        """Note who belongs to the program now: once a parent is dead, its children are hard to find."""
        known = {pid for pid, started in self._seen if _is_still(pid, started)}
        if self._guarded.returncode is None:
            known.add(self.pid)
        family = proc.descendants(known, self.pid, self._mark)
        self._seen |= family
        return family

    def _kill_the_rest(self) -> bool:
        rest = self._look_around()
        proc.kill(rest)
        return not rest

    def _environment(self, changes: Mapping[str, str | None]) -> dict[str, str]:
        name, _, value = self._mark.partition("=")
        # Not PYTHONUNBUFFERED, which writes a line in pieces: those of two processes would mix.
        inherited = {**os.environ, "PYTHONUNBUFFERED": None}
        wanted: dict[str, str | None] = {**inherited, **changes, name: value}
        search = [str(REPOSITORY), wanted.get("PYTHONPATH")]
        wanted["PYTHONPATH"] = os.pathsep.join(entry for entry in search if entry)
        return {key: setting for key, setting in wanted.items() if setting is not None}


def _own_files(directory: Path, name: str) -> tuple[Path, Path]:
    """Create files for the output that no other process has, also when the name is used again."""
    for number in range(1, 10_000):
        stem = name if number == 1 else f"{name}_{number}"
        stdout, stderr = directory / f"{stem}.out", directory / f"{stem}.err"
        try:
            stdout.touch(exist_ok=False)
        except FileExistsError:
            continue
        stderr.touch()
        return stdout, stderr
    raise RuntimeError(f"too many processes named {name} in {directory}")


def _is_still(pid: int, started: int) -> bool:
    known = proc.stat(pid)
    return known is not None and known.started == started
