"""redis-py's TCP and TLS connections, made to keep one deadline.

Rules:

- Resolving the name, trying each of its addresses and the TLS handshake share one deadline
  (`TCPConnection.until`); without one they do what redis-py does.
- A resolver cannot be interrupted: it runs in a thread, which is left behind when it takes too long.
  What is an address already is not resolved.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import redis
from redis.connection import SSLConnection

__all__ = ["TCPConnection", "TLSConnection", "speaks_tls"]

T = TypeVar("T")


class TCPConnection(redis.Connection):
    """A connection by TCP.

    Attributes:
        until: when it has to be made, in monotonic seconds; None leaves it to redis-py's timeouts.
    """

    until: float | None = None

    def _connect(self) -> Any:
        if self.until is None:
            return super()._connect()  # type: ignore[no-untyped-call]
        failure: OSError = OSError(f"the name {self.host} has no address")
        for family, kind, protocol, _, address in self._addresses(self.until):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self.socket_keepalive:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                    for name, value in self.socket_keepalive_options.items():
                        sock.setsockopt(socket.IPPROTO_TCP, name, value)
                sock.settimeout(left_until(self.until))
                sock.connect(address)
                sock.settimeout(left_until(self.until))
            except OSError as error:
                failure = error
                sock.close()
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise failure

    def _addresses(self, until: float) -> list[Any]:
        """Return what ``getaddrinfo`` says, by a deadline."""
        wanted = (self.host, self.port, self.socket_type, socket.SOCK_STREAM)
        try:
            return socket.getaddrinfo(*wanted, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            return _in_a_thread(lambda: socket.getaddrinfo(*wanted), until, f"resolving {self.host}")


class TLSConnection(SSLConnection, TCPConnection):
    """A connection by TLS."""

    def _wrap_socket_with_ssl(self, sock: Any) -> Any:
        wrapped = super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]
        if self.until is not None:
            wrapped.settimeout(left_until(self.until))
        return wrapped


def speaks_tls(connection: Any, until: float) -> bool:
    """Return whether the port of a plain connection answers a TLS handshake, by a deadline.

    Nothing is sent over it, so its certificate does not matter.
    """
    if not isinstance(connection, redis.Connection) or isinstance(connection, SSLConnection):
        return False  # a Unix socket, or TLS already
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((connection.host, connection.port), left_until(until)) as plain,
            context.wrap_socket(plain, server_hostname=connection.host),
        ):
            return True
    except ssl.SSLError as error:
        return "ALERT" in str(error).upper()  # it refuses us, in the words of TLS
    except (OSError, ValueError):  # nobody, or a host that cannot be named in a handshake
        return False


def left_until(deadline: float) -> float:
    """Return the seconds until then, never 0, which would mean: do not wait."""
    return max(deadline - time.monotonic(), 0.001)


def _in_a_thread(work: Callable[[], T], until: float, name: str) -> T:
    """Return what ``work`` returns, or raise what it raises; `TimeoutError` at the deadline."""
    outcome: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            errors.append(error)  # raised where it is waited for

    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is about to end, and starts no more threads
        run()
    else:
        thread.join(left_until(until))
    if errors:
        raise errors[0]
    if not outcome:
        raise TimeoutError(f"{name} took too long")
    return outcome[0]
