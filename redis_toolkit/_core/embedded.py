"""``embedded://``: a Valkey server of our own, started, shared, watched and stopped.

``embedded://`` is private to this process and keeps nothing; all who name it in one process share one
server. ``embedded:///path/to/dir`` keeps its data in that directory, and every process that names the
directory joins the same server.

Rules:

- Whether a server lives is decided by the lock in its directory (``embedded_directory.py``), never by a
  process id or a file that a crash may leave behind.
- A server is stopped by the process that started it, also by that process's crash (``embedded_guardian.py``).
- If a server ends unexpectedly, its owner restarts it on the same socket, from the guardian's thread. If
  the owner went with it, whoever calls ``ensure()`` next starts another one on the same data.
- A forked child owns nothing: it joins its parent's server, and never stops or restarts it.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes, urlsplit

from redis_toolkit._core.embedded_directory import Answer, ServerDirectory, probe
from redis_toolkit._core.embedded_guardian import Guardian, find_server_binary
from redis_toolkit._core.unshared import close_unshared
from redis_toolkit.errors import ConfigurationError, ServerUnreachable

__all__ = ["EmbeddedServer", "embedded_server"]

logger = logging.getLogger("redis_toolkit")

_POLL = 0.01  # seconds between two looks at a server that is starting
_PROBE = 1.0  # seconds that one look may take
_STOP = 10.0  # seconds: SIGKILL comes after five
_RESTART = 10.0  # seconds for one attempt to restart
_MAX_DELAY = 5.0  # seconds between two attempts


class EmbeddedServer:
    """A Valkey server that this process starts, or joins if it runs already.

    Args:
        directory: where data is kept; None for a private server in a temporary directory.
    """

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory
        self._files: ServerDirectory | None = None
        self._socket: Path | None = None
        self._guardian: Guardian | None = None
        self._lost: Guardian | None = None  # ended unexpectedly; its thread is restarting the server
        self._log_start = 0
        self._started_at = 0.0
        self._delay = 0.0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        _servers.add(self)

    @property
    def url(self) -> str:
        """The ``unix://`` URL of the server; known after ``ensure()``."""
        path = self._socket
        if path is None:
            raise ServerUnreachable(f"{self._name} has not been started: call ensure() first")
        return _unix_url(path)

    def ensure(self, timeout: float = 10.0) -> str:
        """Start the server, or join the one that runs; call it again after a lost connection.

        Args:
            timeout: seconds to wait for the server to answer.

        Returns:
            The ``unix://`` URL. It stays the same for as long as its owner lives; after that it may change
            if the directory's path is too long to hold a socket.

        Raises:
            ServerUnreachable: the server did not start, or does not answer in time.
            ConfigurationError: no server is installed, or the directory cannot be used.
        """
        deadline = time.monotonic() + timeout
        path = self._socket
        if path is not None and probe(path, min(timeout, _PROBE)) is Answer.UP:
            return _unix_url(path)
        if not self._lock.acquire(timeout=max(deadline - time.monotonic(), 0)):
            raise ServerUnreachable(f"{self._name} is still being started after {timeout:g} s")
        try:
            self._join_or_start(deadline, timeout, join=self._may_join())
            return self.url
        finally:
            self._lock.release()

    def stop(self) -> None:
        """Stop the server if this process started it, and delete a temporary directory."""
        self._stopping.set()
        with self._lock:
            guardian, self._guardian, self._lost = self._guardian, None, None
            files, ended = self._files, guardian is None or guardian.end(_STOP)
            if not ended:
                logger.warning("%s is still running %g s after it was told to stop", self._name, _STOP)
            elif files is not None and files.creator == os.getpid():
                files.remove()
                self._files = None
            self._socket = None
            self._stopping.clear()

    def _join_or_start(self, deadline: float, timeout: float, *, join: bool) -> None:
        """Return with ``_socket`` set to a server that answers; the caller holds ``_lock``."""
        files = self._directory()
        while True:
            own = self._own_guardian()
            if own is None and self._may_start(files):
                own = self._try_start(files)
            path = self._socket if own is not None else files.recorded_socket()
            answer = Answer.GONE
            if path is not None:
                answer = probe(path, min(deadline - time.monotonic(), _PROBE))
            if answer is Answer.UP and (own is not None or join):
                self._socket, self._lost = path, None
                if own is not None and not own.was_up:
                    self._announce(own)
                return
            hopeless = self._stopping.is_set() or not files.path.is_dir()
            if hopeless or time.monotonic() >= deadline:
                raise self._unanswered(files, answer, timeout)
            time.sleep(_POLL)

    def _own_guardian(self) -> Guardian | None:
        """Return the guardian of our running server; raise if the server died before it ever answered."""
        guardian = self._guardian
        if guardian is None or not guardian.exited.is_set():
            return guardian
        self._guardian = None
        if guardian.was_up:
            return None  # it ran and was lost: start another one
        files = self._directory()
        message = (
            f"{self._name} ended while it started: {files.log_tail(self._log_start)} (its log: {files.log})"
        )
        raise ServerUnreachable(message)

    def _try_start(self, files: ServerDirectory) -> Guardian | None:
        """Start a server if none lives in the directory."""
        lock = files.claim()
        if lock is None:
            return None
        try:
            binary = find_server_binary()
            self._socket = files.place_socket()
            self._log_start = files.log_size()
            self._started_at = time.monotonic()
            self._guardian = Guardian(
                [str(binary), *files.options(self._socket)],
                lock=lock,
                log=files.log,
                remove=files.removable,
                on_exit=self._server_ended,
            )
        except OSError as error:
            raise ServerUnreachable(f"{self._name} cannot be started: {error}") from error
        finally:
            close_unshared(lock)  # from here on the lock is the server's alone
        return self._guardian

    def _announce(self, guardian: Guardian) -> None:
        guardian.was_up = True
        logger.info("%s started (process %s); others can join it at %s", self._name, self._pid(), self.url)

    # -- restarting: in the guardian's thread ------------------------------------------------------------

    def _server_ended(self, guardian: Guardian) -> None:
        with self._lock:
            if self._guardian is not guardian or not guardian.was_up:
                return  # stopped by us, replaced already, or never up: then ensure() reports it
            self._guardian, self._lost = None, guardian
        if time.monotonic() - self._started_at > _MAX_DELAY:
            self._delay = 0.0
        logger.warning("%s ended unexpectedly: restarting it", self._name)
        # A server whose shell was killed is on its way out and still answers: joining it would be in vain.
        join = self._may_join() and not guardian.outlived
        while not self._stopping.wait(self._delay):
            self._delay = min(max(2 * self._delay, 0.1), _MAX_DELAY)
            with self._lock:
                if self._lost is not guardian:
                    return  # ensure() or stop() came first
                try:
                    self._join_or_start(time.monotonic() + _RESTART, _RESTART, join=join)
                    return
                except (ServerUnreachable, ConfigurationError) as error:
                    if self._stopping.is_set():
                        return
                    logger.warning("%s; next attempt in %g s", error, self._delay)
            join = self._may_join()

    # -- the two kinds of server --------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return "the embedded server" + (f" of {self.directory}" if self.directory else "")

    def _directory(self) -> ServerDirectory:
        files = self._files
        if files is None or (self._may_start(files) and not files.path.is_dir()):
            files = self._files = ServerDirectory(self.directory)
        return files

    def _may_join(self) -> bool:
        """Only a private server's owner must not: what still answers there is what it has just lost."""
        return self.directory is not None or (self._files is not None and self._files.creator != os.getpid())

    def _may_start(self, files: ServerDirectory) -> bool:
        return files.keep or files.creator == os.getpid()

    def _pid(self) -> int | None:
        return self._files.server_pid() if self._files else None

    def _unanswered(self, files: ServerDirectory, answer: Answer, timeout: float) -> ServerUnreachable:
        if not self._may_start(files):
            return ServerUnreachable(
                f"the embedded server in {files.path} does not answer: process {files.creator}, which this"
                " process was forked from, started it and has stopped it or ended"
            )
        advice = ""
        if answer is Answer.SILENT:
            pid = files.server_pid()
            advice = f"; kill -9 {pid} ends it, and another one takes its place" if pid else ""
        return ServerUnreachable(
            f"the embedded server in {files.path} is {answer.value} after {timeout:g} s{advice}"
            f" (its log: {files.log})"
        )

    def _forked(self) -> None:
        """In a forked child: let go of what is the parent's."""
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        if self._guardian is not None:
            self._guardian.disown()
        self._guardian = self._lost = None
        if self.directory is not None:
            self._files = None  # a private directory is kept in mind: it says whose server this is


_servers: weakref.WeakSet[EmbeddedServer] = weakref.WeakSet()
_registry: dict[Path | None, EmbeddedServer] = {}
_registry_lock = threading.Lock()


def embedded_server(url: str) -> EmbeddedServer:
    """Return this process's server for an ``embedded://`` URL; nothing is started yet.

    Args:
        url: ``embedded://``, or ``embedded://`` followed by an absolute path, percent-encoded where needed.

    Returns:
        The same object for each URL that means the same directory.

    Raises:
        ConfigurationError: the URL is none of these.
    """
    directory = _parse(url)
    with _registry_lock:
        server = _registry.get(directory)
        if server is None:
            server = _registry[directory] = EmbeddedServer(directory)
        return server


def _unix_url(path: Path) -> str:
    return "unix://" + quote(str(path))


def _parse(url: str) -> Path | None:
    """Return the directory that an embedded URL names, without symbolic links, or None."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigurationError(f"{url!r} is no URL: {error}") from error
    if parts.scheme != "embedded" or not url[len("embedded:") :].startswith("//"):
        raise ConfigurationError("an embedded URL is embedded:// or embedded:///path/to/dir")
    if "@" in parts.netloc:  # not repeated here: it may hold a password
        raise ConfigurationError("an embedded URL takes no user or password")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"{url!r}: an embedded URL takes no options (write ? as %3F and # as %23)")
    try:
        if parts.netloc:
            absolute = Path(parts.netloc + parts.path).expanduser().absolute()
            raise ConfigurationError(
                f"{url!r}: the directory has to be absolute, such as embedded://{absolute}"
            )
        if not parts.path:
            return None
        directory = Path(os.fsdecode(unquote_to_bytes(parts.path))).resolve()
    except ConfigurationError:
        raise
    except (ValueError, OSError, RuntimeError) as error:  # a NUL byte, a loop of links, an unknown ~user
        raise ConfigurationError(f"{url!r} names no directory: {error}") from error
    if directory == Path("/"):
        raise ConfigurationError(f"{url!r}: write embedded:// for a private server, or name a directory")
    return directory


def _stop_all() -> None:
    for server in list(_servers):
        server.stop()


def _forget_in_child() -> None:
    global _registry_lock
    _registry_lock = threading.Lock()
    for server in list(_servers):
        server._forked()


atexit.register(_stop_all)
os.register_at_fork(after_in_child=_forget_in_child)
