"""Connections to one server: pooled ones for callers, dedicated ones for readers and workers.

Rules, each from an experiment with redis-py 8:

- No retries of redis-py's own: it would send again what is not safe to repeat.
- RESP2, and maintenance notifications off: with them a pooled connection is not checked for unread
  data, and a stale reply becomes another call's answer.
- A pooled connection is checked before it is used: one with unread bytes, or closed by the server, is
  replaced. One on which anything went wrong is closed, never returned.
- Every read has a deadline. Nothing is connected before it is needed.
- After a fork, the child drops what it inherited and connects anew.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

import hiredis
import redis
from redis.connection import DefaultParser

from redis_toolkit._core.embedded import embedded_server
from redis_toolkit._core.flow import Command
from redis_toolkit._core.recovery import Failed, Fate, sort
from redis_toolkit._core.server import RedisServer, server_of_client, server_of_url, url_of
from redis_toolkit.errors import ConfigurationError, ServerUnreachable

__all__ = ["Connections", "Link", "shared_connections"]

MAX_IDLE = 64
"""Pooled connections that are kept open while nobody uses them."""
SEND_TIMEOUT = 5.0
"""Seconds that the server may take to receive a packet that has no deadline."""
RECEIVE_BYTES = 64 * 1024
NOTHING: Any = object()
"""Stands for a reply that has not come, as None is one."""


def new_reader() -> Any:
    """Return a parser of replies that makes redis-py's exceptions of error replies."""
    return hiredis.Reader(notEnoughData=NOTHING, replyError=DefaultParser.parse_error)


def packed(commands: Sequence[Command | bytes]) -> bytes:
    """Return commands as the bytes that are sent. Some may be given as such."""
    return b"".join(
        [command if type(command) is bytes else hiredis.pack_command(_plain(command)) for command in commands]  # type: ignore[arg-type]
    )


def _plain(command: Command) -> tuple[Any, ...]:
    """Return a command with floats as text; hiredis packs str, bytes and int itself."""
    return tuple([repr(part) if type(part) is float else part for part in command])


class Link:
    """One connection: sends packets of commands, reads replies by a deadline.

    Whatever goes wrong on it leaves it closed. It belongs to one thread at a time.
    """

    __slots__ = ("_connection", "_reader", "_sock", "where")

    def __init__(self, connection: Any, where: str) -> None:
        self._connection = connection
        self._sock: Any = None
        self._reader: Any = None
        self.where = where

    def connect(self, timeout: float) -> None:
        """Connect and log in within ``timeout`` seconds; redis-py does that, and no more.

        Raises:
            Failed: not reached, or not let in.
        """
        connection = self._connection
        connection.socket_connect_timeout = connection.socket_timeout = max(timeout, 0.001)
        try:
            connection.connect()
        except (redis.RedisError, OSError) as error:
            self.close()
            raise sort(error, sent=False, where=self.where) from error
        except BaseException:
            self.close()
            raise
        self._sock = connection._sock
        self._reader = new_reader()

    def is_clean(self) -> bool:
        """Return whether it is open and has no unread bytes: fit for the next command."""
        try:
            return (
                self._reader is not None and not self._reader.has_data() and not self._connection.can_read(0)
            )
        except (redis.RedisError, OSError):
            return False

    def send(self, commands: Sequence[Command | bytes], deadline: float | None = None) -> None:
        """Send commands as one packet, by a deadline (monotonic seconds) or within `SEND_TIMEOUT`.

        Raises:
            Failed: the connection is gone; whether the commands arrived is unknown.
        """
        packet = packed(commands)
        left = SEND_TIMEOUT if deadline is None else deadline - time.monotonic()
        try:
            sock = self._open()
            sock.settimeout(max(left, 0.001))
            sock.sendall(packet)
        except OSError as error:
            self.close()
            raise sort(error, sent=True, where=self.where) from error
        except BaseException:
            self.close()
            raise

    def read(self, timeout: float) -> Any:
        """Return the next reply; an error reply is returned, not raised.

        Raises:
            Failed: nothing came within ``timeout`` seconds, however slowly, or the connection is gone.
        """
        reply = self.poll(timeout)
        if reply is NOTHING:
            self.close()
            error = TimeoutError(f"no reply within {timeout:.3g} s")
            raise sort(error, sent=True, where=self.where) from error
        return reply

    def poll(self, timeout: float) -> Any:
        """Return the next reply, or `NOTHING` when none is complete after ``timeout`` seconds; it stays open.

        Raises:
            Failed: the connection is gone.
        """
        try:
            reply = self._open_reader().gets()
            if reply is NOTHING:
                reply = self._receive(time.monotonic() + timeout)
        except (redis.RedisError, hiredis.ProtocolError, OSError) as error:
            self.close()
            raise sort(error, sent=True, where=self.where) from error
        except BaseException:
            self.close()
            raise
        if isinstance(reply, redis.RedisError) and not isinstance(reply, redis.ResponseError):
            self.close()  # LOADING and the like, which redis-py counts among connection errors
            raise sort(reply, sent=True, where=self.where) from reply
        return reply

    def _receive(self, deadline: float) -> Any:
        """Receive until a reply is complete; `NOTHING` at the deadline."""
        sock, reader = self._open(), self._open_reader()
        while True:
            left = deadline - time.monotonic()
            sock.settimeout(max(left, 0.001))
            try:
                data = sock.recv(RECEIVE_BYTES)
            except TimeoutError:
                return NOTHING
            if not data:
                raise ConnectionResetError("connection closed by the server")
            reader.feed(data)
            reply = reader.gets()
            if reply is not NOTHING or left <= 0:
                return reply

    def _open(self) -> Any:
        if self._sock is None:
            raise ConnectionResetError("the connection is closed")
        return self._sock

    def _open_reader(self) -> Any:
        if self._reader is None:
            raise ConnectionResetError("the connection is closed")
        return self._reader

    def call(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        """Send commands and return their replies, error replies among them."""
        self.send(commands, deadline)
        return [self.read(deadline - time.monotonic()) for _ in commands]

    def detach(self) -> socket.socket:
        """Return its connected socket, which is the caller's from now on."""
        sock: socket.socket = self._open()
        self._sock = self._reader = self._connection._sock = None
        self._connection._parser.on_disconnect()
        sock.setblocking(False)
        return sock

    def close(self) -> None:
        """Close it. It may be connected again."""
        self._sock = self._reader = None
        self._connection.disconnect()


class Connections:
    """All connections of this process to one server.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, ``valkey://`` or ``embedded://``.
        client: a redis-py client whose server and login are used instead of a URL.
        connect_timeout: seconds to reach the server and log in.

    Raises:
        ConfigurationError: the URL cannot be understood.
    """

    def __init__(self, url: str | None, *, client: Any = None, connect_timeout: float = 5.0) -> None:
        self._embedded = None
        self._server: RedisServer | None = None
        self._given_client = client
        self._connect_timeout = connect_timeout
        self._idle: list[Link] = []
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._client: Any = client
        self.reached = False
        self.url = url or ""
        if client is not None:
            self._server = server_of_client(client)
        elif url is not None and url.startswith("embedded:"):
            self._embedded = embedded_server(url)
        else:
            self._server = server_of_url(self.url)

    @property
    def is_embedded(self) -> bool:
        """Whether the server is one that processes like this one start."""
        return self._embedded is not None

    def real_url(self) -> str:
        """Return the URL that another process can connect to; starts the embedded server if need be."""
        if self._embedded is not None:
            return self._embedded.ensure()
        return self.url or url_of(self._target(0).options)

    def acquire(self, deadline: float) -> Link:
        """Return a connection that is fit for use; give it back with `release`, or close it.

        Raises:
            Failed: none could be made by the deadline.
        """
        if self._pid != os.getpid():
            self._forget_inherited()
        while True:
            try:
                link = self._idle.pop()
            except IndexError:
                return self.dedicated(deadline)
            if link.is_clean():
                return link
            link.close()

    def release(self, link: Link) -> None:
        """Take back a connection on which everything that was asked for has been read."""
        if len(self._idle) < MAX_IDLE and self._pid == os.getpid():
            self._idle.append(link)
        else:
            link.close()

    def dedicated(self, deadline: float | None = None) -> Link:
        """Return a new connection that is its owner's alone; the owner closes it.

        Raises:
            Failed: none could be made by the deadline.
        """
        timeout = self._connect_timeout
        if deadline is not None:
            timeout = max(min(timeout, deadline - time.monotonic()), 0.001)
        server = self._target(timeout)
        link = Link(server.kind(**server.options), server.where)
        link.connect(timeout)
        self.reached = True
        return link

    @property
    def client(self) -> Any:
        """The redis-py client on these connections: no retries, its own pool, bytes as replies."""
        with self._lock:
            if self._client is None:
                server = self._target(self._connect_timeout)
                pool = redis.ConnectionPool(
                    connection_class=server.kind, max_connections=10_000, **server.options
                )
                self._client = redis.Redis(connection_pool=pool)
        return self._client

    def _target(self, timeout: float) -> RedisServer:
        """Return where to connect; an embedded server is started, or started again, for that."""
        if self._embedded is not None:
            try:
                self._server = server_of_url(self._embedded.ensure(timeout))
            except ServerUnreachable as error:
                raise Failed(Fate.NOT_EXECUTED, error) from error
            except ConfigurationError as error:
                raise Failed(Fate.PERMANENT, error) from error
        assert self._server is not None
        return self._server

    def close(self) -> None:
        """Close what is idle. Whoever needs a connection afterwards gets a new one."""
        while self._idle:
            self._idle.pop().close()
        with self._lock:
            if self._client is not None and self._given_client is None:
                # Those in use belong to whoever shares this pool, and go on.
                self._client.connection_pool.disconnect(inuse_connections=False)
                self._client = None

    def _forget_inherited(self) -> None:
        """In a forked child: the parent's sockets are closed here without a word to the server."""
        with self._lock:
            if self._pid != os.getpid():
                inherited, self._idle = self._idle, []
                for link in inherited:
                    link.close()
                self._pid = os.getpid()


_shared: weakref.WeakValueDictionary[tuple[str, float], Connections] = weakref.WeakValueDictionary()
_shared_lock = threading.Lock()


def shared_connections(url: str, connect_timeout: float) -> Connections:
    """Return the connections of this process to a URL: one pool for all who name the same one."""
    with _shared_lock:
        found = _shared.get((url, connect_timeout))
        if found is None:
            found = _shared[url, connect_timeout] = Connections(url, connect_timeout=connect_timeout)
        return found


def _renew_locks() -> None:
    """In a forked child: another thread of the parent may have held them."""
    global _shared_lock
    _shared_lock = threading.Lock()
    for connections in list(_shared.values()):
        connections._lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_locks)
