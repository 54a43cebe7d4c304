"""One connection: packets of commands out, replies in, by deadlines.

Rules:

- redis-py makes the connection, with TLS where that is asked for. Logging in, sending and receiving are
  done here, on the socket: its own timeouts begin anew with every byte, and these are for the whole.
- Whatever goes wrong on a link leaves it closed. It belongs to one thread at a time.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import Any

import hiredis
import redis
from redis.connection import DefaultParser

from redis_toolkit._core.flow import Command
from redis_toolkit._core.login import login, logs_in_plainly
from redis_toolkit._core.reaching import speaks_tls
from redis_toolkit._core.recovery import Failed, Fate, partly, sort, tls_expected
from redis_toolkit._core.sockets import PlainSocket, TlsSocket, socket_of

__all__ = ["NOTHING", "Link", "new_reader", "packed"]

SEND_TIMEOUT = 5.0
"""Seconds that the server may take to receive a packet that has no deadline."""
SLICE = 100
"""Commands that are sent at once: the server works on them while the next ones are packed."""
TLS_SECONDS = 1.0
"""Seconds for finding out whether a port speaks TLS, when it has hung up on a plain connection."""
NOTHING: Any = object()
"""Stands for a reply that has not come, as None is one."""


def new_reader() -> Any:
    """Return a parser of replies that makes redis-py's exceptions of error replies."""
    return hiredis.Reader(notEnoughData=NOTHING, replyError=DefaultParser.parse_error)


def packed(commands: Sequence[Command | bytes]) -> bytes:
    """Return commands as the bytes that are sent. Some may be given as such."""
    pack: Any = hiredis.pack_command  # its stub knows tuples of one part only
    return b"".join([command if type(command) is bytes else pack(command) for command in commands])


class Link:
    """One connection: sends packets of commands, reads replies by a deadline.

    Args:
        connection: redis-py's, not connected yet.
        where: the server's URL without its password, for messages.
    """

    __slots__ = ("_connection", "_heard", "_reader", "_socket", "where")

    def __init__(self, connection: Any, where: str) -> None:
        self._connection = connection
        self._socket: PlainSocket | TlsSocket | None = None
        self._reader: Any = None
        self._heard = False
        self.where = where

    def connect(self, timeout: float, *, first: bool = True) -> None:
        """Connect and log in within ``timeout`` seconds.

        Args:
            timeout: seconds.
            first: whether no server was ever reached here. Then it has to show that it is one, before
                anything is sent that it might execute, and a failure tells how to start one.

        Raises:
            Failed: not reached, or not let in.
        """
        connection = self._connection
        deadline = time.monotonic() + timeout
        connection.socket_connect_timeout = connection.socket_timeout = max(timeout, 0.001)
        connection.until = deadline
        if logs_in_plainly(connection):
            connection.redis_connect_func = lambda _connection: self._log_in(deadline)
        try:
            connection.connect()
            if self._socket is None:
                self._adopt()
            if first:
                self._greet(deadline)
        except (redis.RedisError, OSError, hiredis.ProtocolError) as error:
            hung_up = self._hung_up(error)
            self.close()
            if hung_up and speaks_tls(connection, min(deadline, time.monotonic() + TLS_SECONDS)):
                raise tls_expected(self.where) from error
            raise sort(error, sent=False, where=self.where, advise=first) from error
        except BaseException:
            self.close()
            raise

    def _greet(self, deadline: float) -> None:
        """Have the other side say something that a server says."""
        assert self._socket is not None
        self._socket.send(packed([("PING",)]), deadline)
        reply = self._next(deadline)
        if reply is NOTHING:
            plain = self.where.startswith(("redis://", "valkey://"))
            maybe = ": does that port speak TLS? Then use rediss://" if plain else ""
            raise TimeoutError(f"it took the connection, and has not answered in time{maybe}")
        if isinstance(reply, redis.RedisError):
            fate = sort(reply, sent=False, where=self.where).fate
            if fate is not Fate.REFUSED:  # as PING is under an ACL without it, or when the disk is full
                raise reply

    def _hung_up(self, error: Exception) -> bool:
        """Return whether the other side took the connection, and has ended it without a word."""
        return self._socket is not None and not self._heard and isinstance(error, ConnectionError)

    def _adopt(self) -> None:
        """Take over the socket that redis-py has connected."""
        self._socket = socket_of(self._connection._sock)
        self._reader, self._heard = new_reader(), False

    def _log_in(self, deadline: float) -> None:
        """Log in, in one packet, and wait for the answers no longer than until the deadline."""
        self._adopt()
        commands = login(self._connection)
        if not commands:
            return
        assert self._socket is not None
        self._socket.send(packed(commands), deadline)
        for _ in commands:
            reply = self._next(deadline)
            if reply is NOTHING:
                raise TimeoutError("the login was not answered in time")
            if isinstance(reply, Exception):
                raise reply

    def is_clean(self) -> bool:
        """Return whether it is open and has no unread bytes: fit for the next command."""
        try:
            return self._socket is not None and not self._reader.has_data() and self._socket.is_quiet()
        except OSError:
            return False

    def send(self, commands: Sequence[Command | bytes], deadline: float | None = None) -> None:
        """Send commands as one packet, by a deadline (monotonic seconds) or within `SEND_TIMEOUT`.

        Raises:
            Failed: the connection is gone; whether the commands arrived is unknown.
        """
        until = time.monotonic() + SEND_TIMEOUT if deadline is None else deadline
        first = packed(commands[:SLICE])
        try:
            if self._socket is None:
                raise ConnectionResetError("the connection is closed")
            self._socket.send(first, until)
            for start in range(SLICE, len(commands), SLICE):
                self._socket.send(packed(commands[start : start + SLICE]), until)
        except OSError as error:
            self.close()
            raise sort(error, sent=True, where=self.where) from error
        except BaseException:
            self.close()
            raise

    def read(self, timeout: float) -> Any:
        """Return the next reply, which comes within ``timeout`` seconds; see `read_by`."""
        return self.read_by(time.monotonic() + timeout)

    def read_by(self, deadline: float, few: int = 0) -> Any:
        """Return the next reply; an error reply is returned, not raised.

        Args:
            deadline: by when it has to be complete, in monotonic seconds.
            few: bytes that are not worth to be woken for, as more are sure to follow: those of this reply
                at its shortest, when others follow it. Without any effect where the system cannot do that.

        Raises:
            Failed: it was not there by the deadline, or the connection is gone.
        """
        reply = self._checked(deadline, few)
        if reply is NOTHING:
            self.close()
            error = TimeoutError("no reply by the deadline")
            raise sort(error, sent=True, where=self.where) from error
        return reply

    def poll(self, timeout: float) -> Any:
        """Return the next reply, or `NOTHING` when none is complete after ``timeout`` seconds; it stays open.

        Raises:
            Failed: the connection is gone.
        """
        return self._checked(time.monotonic() + timeout, 0)

    def _checked(self, deadline: float, few: int) -> Any:
        try:
            reply = self._next(deadline, few)
        except (redis.RedisError, hiredis.ProtocolError, OSError) as error:
            self.close()
            raise sort(error, sent=True, where=self.where) from error
        except BaseException:
            self.close()
            raise
        return self._fit(reply) if isinstance(reply, Exception) else reply

    def _there(self, most: int) -> list[Any]:
        """Return replies that have come already, up to ``most``; raises as `read_by` does."""
        replies: list[Any] = []
        following = self._reader.gets
        try:
            while len(replies) < most and (reply := following()) is not NOTHING:
                replies.append(self._fit(reply) if isinstance(reply, Exception) else reply)
        except hiredis.ProtocolError as error:
            self.close()
            raise sort(error, sent=True, where=self.where) from error
        except BaseException:
            self.close()
            raise
        return replies

    def _fit(self, reply: Exception) -> Exception:
        """Return an error reply that is about its command; raise what is about the connection, closed."""
        if isinstance(reply, redis.RedisError) and not isinstance(reply, redis.ResponseError):
            self.close()  # LOADING and the like, which redis-py counts among connection errors
            raise sort(reply, sent=True, where=self.where) from reply
        return reply

    def _next(self, deadline: float, few: int = 0) -> Any:
        """Return the next reply, received if need be; `NOTHING` at the deadline."""
        sock, reader = self._socket, self._reader
        if sock is None:
            raise ConnectionResetError("the connection is closed")
        reply = reader.gets()
        while reply is NOTHING:
            data = sock.receive_more_than(few, deadline) if few else sock.receive(deadline)
            if data is None:
                return NOTHING
            if not data:
                raise ConnectionResetError("connection closed by the server")
            self._heard = True
            reader.feed(data)
            reply, few = reader.gets(), 0
            if reply is NOTHING and time.monotonic() >= deadline:
                return NOTHING
        return reply

    def call(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        """Send commands and return their replies, error replies among them."""
        self.send(commands, deadline)
        replies: list[Any] = []
        try:
            while (missing := len(commands) - len(replies)) > 0:
                replies.append(self.read_by(deadline))
                if missing > 1:
                    replies += self._there(missing - 1)
        except Failed as failure:
            raise (partly(failure, self.where) if replies else failure) from failure.__cause__
        return replies

    def detach(self) -> socket.socket:
        """Return its connected socket, non-blocking, which is the caller's from now on."""
        if self._socket is None:
            raise ConnectionResetError("the connection is closed")
        sock: socket.socket = self._socket.raw
        self._socket = self._reader = self._connection._sock = None
        self._connection._parser.on_disconnect()
        sock.setblocking(False)
        return sock

    def close(self) -> None:
        """Close it. It may be connected again."""
        self._socket = self._reader = None
        self._connection.disconnect()
