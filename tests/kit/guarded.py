"""A child process that cannot outlive the process that started it, not even when that one is killed.

Two shells make it so. The first becomes the program: it waits for a line and then turns into it by
``exec``, so the program is our own child, under the pid we know, and can be reaped. The second, the
guard, reads from a pipe that only this process holds. When the pipe closes without the word that
releases it, this process is dead, and the guard kills the program's process group.

Rules: the program starts only after its guard, so there is no moment without one. Both are leaders
of their own session: a Ctrl-C in the terminal reaches neither.
(PR_SET_PDEATHSIG is no alternative: it fires when the *thread* that started the program ends.)
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO

_PROGRAM = 'read -r go && exec "$@" </dev/null'
_GUARD = 'read -r word; [ "$word" = release ] || kill -s KILL -- "-$1"'


class Guarded:
    """A running program. Whoever creates it ends it, and then calls `release`."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        stdout: IO[bytes],
        stderr: IO[bytes],
        env: Mapping[str, str] | None = None,
    ) -> None:
        with _interruptible():
            self._program = _shell(_PROGRAM, argv, stdout=stdout, stderr=stderr, cwd=cwd, env=env)
            self.pid = self._program.pid
            try:
                self._guard = _shell(_GUARD, [str(self.pid)])
            except BaseException:
                _say(self._program, b"")  # the end of its input: it ends instead of starting
                self._program.wait()
                raise
            _say(self._program, b"go\n")

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs. Reaps."""
        return self._program.poll()

    def signal(self, number: int) -> None:
        """Send a signal to the program itself; nothing happens when it has ended."""
        self._program.send_signal(number)

    def wait(self, timeout: float) -> int | None:
        """Wait for the end for at most `timeout` seconds; None when it still runs."""
        try:
            return self._program.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def wait_until_stopped(self) -> None:
        """After SIGSTOP: return when the kernel has really stopped it, which is not at once."""
        try:
            os.waitid(os.P_PID, self.pid, os.WSTOPPED)
        except ChildProcessError as error:
            raise RuntimeError(f"process {self.pid} has ended and cannot be stopped") from error

    def kill(self) -> None:
        """SIGKILL the program, stopped or not, and reap it."""
        self._program.kill()
        self._program.wait()

    def kill_group(self) -> None:
        """SIGKILL the program and the processes it forked, and reap it."""
        if self._program.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self.kill()

    def release(self) -> None:
        """Send the guard home; whatever of the group still runs is unguarded then."""
        if self._guard.returncode is None:
            _say(self._guard, b"release\n")
            self._guard.wait()


def _shell(
    script: str,
    args: Sequence[str],
    *,
    stdout: IO[bytes] | None = None,
    stderr: IO[bytes] | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    # Without files of their own they write to nowhere: a guard that held our standard output
    # would keep whoever reads it waiting after we are gone.
    return subprocess.Popen(
        ["/bin/sh", "-c", script, "sh", *args],
        stdin=subprocess.PIPE,
        stdout=stdout or subprocess.DEVNULL,
        stderr=stderr or subprocess.DEVNULL,
        cwd=cwd,
        env=env,
        start_new_session=True,
    )


def _say(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin:
        process.stdin.write(line)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Start children with SIGINT at its default, also when we were told to ignore it.

    A test run in the background of a shell ignores SIGINT, its children inherit that, and no test
    could interrupt them. A signal with a handler is back at its default after exec. Only the main
    thread may set handlers; children started by other threads inherit what there is.
    """
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if not ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, _ignore)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    return None
