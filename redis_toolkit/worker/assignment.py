"""What a supervisor tells the worker process that it starts, and how the two talk.

Rules:

- A worker is a fresh interpreter. It learns that it is one from an environment variable, which it
  takes out of its environment at once: what it starts itself is no worker.
- Supervisor and worker share a socket. Lines of JSON go both ways; when one side ends, the other reads
  the end of the stream, and a worker without a supervisor stops.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["VARIABLE", "Assignment", "Channel", "assignment"]

VARIABLE = "REDIS_TOOLKIT_WORKER"


class Assignment(NamedTuple):
    """The part of one worker process.

    Attributes:
        fd: its end of the socket to the supervisor.
        process: its name in the registries, chosen by the supervisor.
        ordinal: which supervised app of the program it serves, counted from 1 as they are started;
            0 when the app was imported by name.
        urls: the URLs that embedded servers of the program have, by the ``embedded:`` URL.
        path: the supervisor's import path.
        supervisor: its process id.
    """

    fd: int
    process: str
    ordinal: int
    urls: Mapping[str, str] = {}
    path: tuple[str, ...] = ()
    supervisor: int | None = None

    def to_environment(self) -> dict[str, str]:
        """Return the variable that carries it."""
        return {VARIABLE: json.dumps(self._asdict())}


_lock = threading.Lock()
_taken: list[Assignment | None] = []


def assignment() -> Assignment | None:
    """Return the part of this process, or None when it is no worker. Read once, then kept."""
    with _lock:
        if not _taken:
            text = os.environ.pop(VARIABLE, None)
            found = None
            if text is not None:
                found = Assignment(**json.loads(text))
                os.set_inheritable(found.fd, False)
            _taken.append(found)
        return _taken[0]


class Channel:
    """One end of the socket between supervisor and worker: JSON objects, a line each."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self._buffer = b""
        self._lock = threading.Lock()

    def send(self, **message: Any) -> bool:
        """Send a message; returns False when the other side has gone."""
        try:
            with self._lock:
                self.socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return False
        return True

    def receive(self) -> list[dict[str, Any]] | None:
        """Wait for messages and return them; None when the other side has gone."""
        try:
            data = self.socket.recv(65536)
        except OSError:
            return None
        if not data:
            return None
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        """Close this end."""
        self.socket.close()


def _renew_lock() -> None:
    """In a forked child: another thread of the parent may have held it."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)
