"""A connected socket as a link uses it: one send for a packet, one wait and one read for what comes.

Rules:

- Every wait has a deadline (`time.monotonic` seconds), for all of its bytes together.
- A plain socket is tried first and waited for only when it is not ready. With Python's own socket
  timeouts each send and each read would cost two more system calls.
- TLS may have to write in order to read, and has data that no poll sees: it is tried first, and says what
  to wait for. OpenSSL allows one thread at a time on a connection, but a reader waits while others send:
  nothing waits inside OpenSSL, and what does not wait is under a lock.
- The threshold under which arriving bytes wake nobody (``SO_RCVLOWAT``) is set for one wait and then
  taken back, whatever happened: with it on, a short reply on this connection would never be seen.
"""

from __future__ import annotations

import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

__all__ = ["PlainSocket", "TlsSocket", "socket_of"]

T = TypeVar("T")
RECEIVE_BYTES = 64 * 1024
SHORTEST = 0.001
"""Seconds that a wait takes at least, so that what is there already is found."""


class PlainSocket:
    """A socket of TCP or of a Unix path.

    Args:
        sock: connected; it belongs to this object now.
    """

    __slots__ = ("_polling", "has_threshold", "raw")

    def __init__(self, sock: socket.socket) -> None:
        self.raw = sock
        self.has_threshold = sys.platform == "linux" and sock.family != socket.AF_UNIX
        self._polling = select.poll()
        self._polling.register(sock, select.POLLIN)
        sock.setblocking(False)

    def send(self, packet: bytes, deadline: float) -> None:
        """Send all of a packet.

        Raises:
            TimeoutError: the other side did not take it by the deadline.
            OSError: the connection is gone.
        """
        try:
            sent = self.raw.send(packet)
        except BlockingIOError:
            sent = 0
        if sent != len(packet):
            self.raw.settimeout(max(deadline - time.monotonic(), SHORTEST))
            try:
                self.raw.sendall(memoryview(packet)[sent:])
            finally:
                self.raw.setblocking(False)

    def receive(self, deadline: float) -> bytes | None:
        """Return what has come, b"" when the other side has closed, None when nothing came by the deadline.

        Raises:
            OSError: the connection is gone.
        """
        if not self._polling.poll(max(deadline - time.monotonic(), SHORTEST) * 1000):
            return None
        return self.raw.recv(RECEIVE_BYTES)

    def receive_more_than(self, few: int, deadline: float) -> bytes | None:
        """Do what `receive` does, but sleep on while there are only ``few`` bytes, where that is possible."""
        if not self.has_threshold:
            return self.receive(deadline)
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, few + 1)
        try:
            return self.receive(deadline)
        finally:
            self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)

    def is_quiet(self) -> bool:
        """Return whether it is open and has nothing to read."""
        return not self._polling.poll(0)


class TlsSocket:
    """A TLS socket, on which one thread may read while another writes.

    It has what `PlainSocket` has, but for the threshold.

    Args:
        sock: connected, the handshake done; it belongs to this object now.
    """

    __slots__ = ("_lock", "raw")

    def __init__(self, sock: Any) -> None:
        self.raw = sock
        self._lock = threading.Lock()
        sock.setblocking(False)

    def send(self, packet: bytes, deadline: float) -> None:
        """Send all of a packet; see `PlainSocket.send`."""
        view = memoryview(packet)
        while view:
            view = view[self._by(deadline, partial(self.raw.send, view)) :]

    def receive(self, deadline: float) -> bytes | None:
        """Return what has come; see `PlainSocket.receive`."""
        try:
            data: bytes = self._by(deadline, partial(self.raw.recv, RECEIVE_BYTES))
        except TimeoutError:
            return None
        return data

    def receive_more_than(self, few: int, deadline: float) -> bytes | None:  # noqa: ARG002 (not for TLS)
        """Do what `receive` does."""
        return self.receive(deadline)

    def is_quiet(self) -> bool:
        """Return whether it is open and has nothing to read; records of TLS itself are taken in."""
        try:
            self.raw.recv(1)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        return False

    def _by(self, deadline: float, operation: Callable[[], T]) -> T:
        """Repeat an operation that does not block until it needs no more waiting.

        Raises:
            TimeoutError: not by the deadline.
        """
        while True:
            try:
                with self._lock:
                    return operation()
            except ssl.SSLWantReadError:
                events = select.POLLIN
            except ssl.SSLWantWriteError:
                events = select.POLLOUT
            number = self.raw.fileno()
            if number < 0:
                raise ConnectionResetError("the connection is closed")
            polling = select.poll()
            polling.register(number, events)
            if not polling.poll(max(deadline - time.monotonic(), SHORTEST) * 1000):
                raise TimeoutError("the TLS connection was not ready by the deadline")


def socket_of(sock: socket.socket) -> PlainSocket | TlsSocket:
    """Return what drives a connected socket."""
    return TlsSocket(sock) if isinstance(sock, ssl.SSLSocket) else PlainSocket(sock)
