"""The floors: the same Redis commands on a bare socket with hiredis, without scripts, ids or codecs."""

from __future__ import annotations

import socket
import threading
from typing import Any

import hiredis

from benchmarks.actors.conversation import converse, options
from benchmarks.actors.timing import one_by_one
from benchmarks.payload import ORDER_JSON

REPLY_TTL_MS = 60_000


class Wire:
    """A connection: packets of commands out, replies in."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def send(self, *commands: tuple[Any, ...]) -> None:
        self._socket.sendall(b"".join(hiredis.pack_command(command) for command in commands))

    def read(self) -> Any:
        reply = self._reader.gets()
        while reply is False:
            self._reader.feed(self._socket.recv(65536))
            reply = self._reader.gets()
        return reply


def worker(port: int) -> None:
    """Answer: a blocking pop, then the push of the reply in one packet with the next pop."""

    def answer() -> None:
        wire = Wire(port)
        wire.send(("BLPOP", "floor:requests", 0))
        while True:
            _, body = wire.read()
            wire.send(
                ("RPUSH", "floor:reply", body),
                ("PEXPIRE", "floor:reply", REPLY_TTL_MS),
                ("BLPOP", "floor:requests", 0),
            )
            wire.read()
            wire.read()

    threading.Thread(target=answer, daemon=True).start()
    converse()


def caller(port: int) -> None:
    """Ask: a push and a blocking pop in one packet."""
    wire = Wire(port)

    def once() -> None:
        wire.send(("RPUSH", "floor:requests", ORDER_JSON), ("BLPOP", "floor:reply", 5))
        wire.read()
        wire.read()

    converse(ask=lambda calls: one_by_one(once, calls))


if __name__ == "__main__":
    role, given = options()
    {"worker": worker, "caller": caller}[role](**given)
