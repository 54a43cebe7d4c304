"""Connections to one server: pooled ones for callers, dedicated ones for readers and workers.

Rules, each from an experiment with redis-py 8:

- No retries of redis-py's own: it would send again what is not safe to repeat.
- RESP2, and maintenance notifications off: with them a pooled connection is not checked for unread
  data, and a stale reply becomes another call's answer.
- A pooled connection is checked before it is used: one with unread bytes, or closed by the server, is
  replaced. One on which anything went wrong is closed, never returned.
- Nothing is connected before it is needed. How one connection is used, `link.py` says.
- After a fork, the child drops what it inherited and connects anew.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import Any

import redis

from redis_toolkit._core.embedded import embedded_server
from redis_toolkit._core.link import NOTHING, Link, new_reader, packed
from redis_toolkit._core.recovery import Failed, Fate
from redis_toolkit._core.server import Password, RedisServer, server_of_client, server_of_url, url_of
from redis_toolkit.errors import ConfigurationError, ServerUnreachable

__all__ = ["NOTHING", "Connections", "Link", "new_reader", "packed", "shared_connections"]

MAX_IDLE = 64
"""Pooled connections that are kept open while nobody uses them."""


class Connections:
    """All connections of this process to one server.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, ``valkey://`` or ``embedded://``.
        client: a redis-py client whose server and login are used instead of a URL.
        connect_timeout: seconds to reach the server and log in.
        password: one that is not in the URL, or a function that is called for it at each connection.

    Attributes:
        url: as it was given, perhaps with a password: never for messages, which have `where`.
        reached: whether this process was ever connected to it.

    Raises:
        ConfigurationError: the URL cannot be understood.
    """

    def __init__(
        self,
        url: str | None,
        *,
        client: Any = None,
        connect_timeout: float = 5.0,
        password: Password | None = None,
    ) -> None:
        self._embedded = None
        self._server: RedisServer | None = None
        self._given_client = client
        self._connect_timeout = connect_timeout
        self._idle: list[Link] = []
        weakref.finalize(self, _close_all, self._idle)  # at the latest when the program ends
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._client: Any = client
        self.reached = False
        self.url = url or ""
        if client is not None:
            self._server = server_of_client(client)
        elif url is not None and url.startswith("embedded:"):
            if password is not None:
                raise ConfigurationError("an embedded server has no password: leave password= out")
            self._embedded = embedded_server(url)
        else:
            self._server = server_of_url(self.url, password)

    @property
    def where(self) -> str:
        """The server's URL without its password, for messages; nothing is started for it."""
        return self.url if self._server is None else self._server.where

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
        link.connect(timeout, first=not self.reached)
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
                _close_all(self._idle)
                self._pid = os.getpid()


def _close_all(links: list[Link]) -> None:
    while links:
        links.pop().close()


_shared: weakref.WeakValueDictionary[tuple[str, float, Any], Connections] = weakref.WeakValueDictionary()
_shared_lock = threading.Lock()


def shared_connections(url: str, connect_timeout: float, password: Password | None = None) -> Connections:
    """Return the connections of this process to a URL: one pool for all who name the same one."""
    name = (url, connect_timeout, password)
    with _shared_lock:
        found = _shared.get(name)
        if found is None:
            found = Connections(url, connect_timeout=connect_timeout, password=password)
            _shared[name] = found
        return found


def _renew_locks() -> None:
    """In a forked child: another thread of the parent may have held them."""
    global _shared_lock
    _shared_lock = threading.Lock()
    for connections in list(_shared.values()):
        connections._lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_locks)
