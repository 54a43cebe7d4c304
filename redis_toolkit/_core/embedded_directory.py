"""The directory of an embedded server: its files, and the lock that says whether a server lives there.

::

    lock           flock'ed by the server process itself, from before its start until it is gone
    server.json    {"socket": path}: where it listens
    valkey.sock    its socket, unless this place cannot hold one; then it is in a short temporary directory
    valkey.log     what it logs, and what the shell that started it had to say
    valkey.pid     its process id
    appendonlydir  the data, if it is kept

Rules: whoever gets the lock may start a server and hands the lock to it; the kernel frees it with that
process, so no crash leaves a stale one and no two servers ever write one directory. Whoever does not get
it joins. Because the lock is the server's, the directory has to be on a local file system.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import json
import os
import shutil
import socket
import tempfile
from pathlib import Path

from redis_toolkit._core.unshared import close_unshared, open_unshared
from redis_toolkit.errors import ConfigurationError

__all__ = ["Answer", "ServerDirectory", "probe"]

_LOG_LINES = 3


class Answer(enum.Enum):
    """What a server says to a PING."""

    UP = "up"
    LOADING = "still loading its data"
    SILENT = "running, but does not answer"
    GONE = "not listening"


class ServerDirectory:
    """One directory for one server.

    Args:
        path: where data is kept; None makes a new temporary directory, whose server keeps nothing.

    Raises:
        ConfigurationError: the directory cannot be made.
    """

    def __init__(self, path: Path | None) -> None:
        self.keep = path is not None
        self.creator = os.getpid()
        if path is None:
            self.path = _short_directory()
        else:
            self.path = path
            try:
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as error:
                raise self._unusable(error, "a file is in its place") from error
            except OSError as error:
                raise self._unusable(error) from error
        self._socket_directory: Path | None = None

    @property
    def log(self) -> Path:
        return self.path / "valkey.log"

    @property
    def removable(self) -> Path | None:
        """The temporary directory that goes when the server stops, if there is one."""
        return self._socket_directory if self.keep else self.path

    def claim(self) -> int | None:
        """Return the lock if no server lives here, as a descriptor to close by ``close_unshared``."""
        try:
            lock = open_unshared(lambda: os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            close_unshared(lock)
            return None
        except OSError as error:
            close_unshared(lock)
            raise self._unusable(error) from error
        return lock

    def place_socket(self) -> Path:
        """Choose where the next server listens and record it; only while holding the lock.

        The place stays the same for all servers that this object starts.
        """
        try:
            path = self.path / "valkey.sock"
            if not _can_bind(path):
                if self._socket_directory is None or not self._socket_directory.is_dir():
                    self._socket_directory = _short_directory()
                path = self._socket_directory / "valkey.sock"
            record = self.path / "server.json"
            draft = record.with_suffix(".new")
            draft.write_text(json.dumps({"socket": str(path)}) + "\n", encoding="utf-8")
            draft.replace(record)
        except OSError as error:
            raise self._unusable(error) from error
        return path

    def recorded_socket(self) -> Path | None:
        """Return where the server that lives here listens, or None if that is not known yet."""
        try:
            return Path(json.loads((self.path / "server.json").read_text(encoding="utf-8"))["socket"])
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise self._unusable(error) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"{self.path / 'server.json'} is damaged: remove it") from error

    def options(self, socket_path: Path) -> list[str]:
        """Return the server's command line options."""
        keep = ["--appendonly", "yes", "--appendfsync", "everysec"] if self.keep else ["--appendonly", "no"]
        return [
            *("--port", "0", "--unixsocket", str(socket_path), "--unixsocketperm", "700"),
            *("--dir", str(self.path), "--logfile", str(self.log)),
            *("--pidfile", str(self.path / "valkey.pid"), "--daemonize", "no"),
            *("--save", "", "--maxmemory-policy", "noeviction", *keep),
        ]

    def log_size(self) -> int:
        try:
            return self.log.stat().st_size
        except FileNotFoundError:
            return 0

    def log_tail(self, start: int) -> str:
        """Return the last lines that were logged from byte ``start`` on, as one line."""
        try:
            with self.log.open("rb") as log:
                log.seek(start)
                text = log.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return "nothing was logged"
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return " | ".join(lines[-_LOG_LINES:]) or "nothing was logged"

    def server_pid(self) -> int | None:
        """Return the process id of the server that lives here, if it has said so."""
        try:
            return int((self.path / "valkey.pid").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None  # it only makes an error message more useful

    def remove(self) -> None:
        """Delete the temporary directory, if the guardian has not done so already."""
        if self.removable is not None:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self.removable)
        self._socket_directory = None

    def _unusable(self, error: OSError, reason: str | None = None) -> ConfigurationError:
        reason = reason or error.strerror or str(error)
        with contextlib.suppress(OSError):
            owner = self.path.stat().st_uid
            if owner != os.geteuid():
                reason += f"; it belongs to user {owner}, and this process runs as user {os.geteuid()}"
        return ConfigurationError(
            f"embedded:// cannot keep its data in {self.path}: {reason}."
            " Name a directory that this user can write to, or one to be made"
        )


def probe(path: Path, timeout: float) -> Answer:
    """Say PING to the socket at ``path`` and return what comes back within ``timeout`` seconds.

    Any answer but "loading" counts as up: a server that is busy or wants a password lives.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(max(timeout, 0.001))
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            with connection.makefile("rb") as replies:
                reply = replies.readline(512)
    except PermissionError as error:
        raise ConfigurationError(
            f"the embedded server at {path} belongs to another user: name a directory of your own"
        ) from error
    except (TimeoutError, BlockingIOError):  # no reply, or the backlog of connections is full
        return Answer.SILENT
    except OSError:  # no file, nobody behind it, or cut off while the server went down
        return Answer.GONE
    if not reply:
        return Answer.GONE
    return Answer.LOADING if reply.startswith(b"-LOADING") else Answer.UP


def _short_directory() -> Path:
    """Make a temporary directory, for this user only, that a socket fits into."""
    # None: the usual place, which can be too long
    for base in (None, "/tmp"):  # noqa: S108 - mkdtemp makes a new directory for this user only
        try:
            path = Path(tempfile.mkdtemp(prefix="redis-toolkit-", dir=base)).absolute()
        except OSError:
            continue  # the other place may do, and the error below names both
        if _can_bind(path / "valkey.sock"):
            return path
        path.rmdir()
    raise ConfigurationError(
        "embedded:// finds no place for a unix socket: neither the directory for temporary files nor /tmp"
        " can hold one. Set TMPDIR to a short path on a local file system"
    )


def _can_bind(path: Path) -> bool:
    """Whether a unix socket fits at ``path``: short, valid UTF-8, on a file system that has sockets."""
    with socket.socket(socket.AF_UNIX) as candidate:
        try:
            str(path).encode()
            path.unlink(missing_ok=True)
            candidate.bind(str(path))
            path.unlink()
        except PermissionError:
            raise
        except (OSError, UnicodeEncodeError):
            return False
    return True
