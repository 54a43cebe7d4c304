"""The floors: the same Redis commands on a bare socket with hiredis, without ids or codecs.

Two kinds of caller: one on a blocking socket, and one that is an asyncio protocol. Each pushes its
request with a plain ``RPUSH`` or, ``scripted``, with the script that the project sends.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import hiredis

from benchmarks.actors.conversation import aconverse, converse, play
from benchmarks.actors.timing import one_by_one, together
from benchmarks.payload import ORDER_JSON
from redis_toolkit._core.scripts import REQUEST

HOST = "127.0.0.1"
REPLY_TTL_MS = 60_000
FOREVER_MS = 10**15
TIMEOUT = 5


class Wire:
    """A connection: packets of commands out, replies in."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def send(self, *commands: tuple[Any, ...]) -> None:
        self._socket.sendall(packed(*commands))

    def read(self) -> Any:
        reply = self._reader.gets()
        while reply is False:
            self._reader.feed(self._socket.recv(65536))
            reply = self._reader.gets()
        return reply


class AsyncWire(asyncio.Protocol):
    """The same on an event loop; one packet at a time."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._replies: list[Any] = []
        self._wanted = 0
        self._answered: asyncio.Future[list[Any]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            self._replies.append(reply)
        if len(self._replies) == self._wanted and self._answered is not None:
            self._answered.set_result(self._replies)

    async def exchange(self, *commands: tuple[Any, ...]) -> list[Any]:
        self._replies, self._wanted = [], len(commands)
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(packed(*commands))
        return await self._answered


def packed(*commands: tuple[Any, ...]) -> bytes:
    return b"".join(hiredis.pack_command(command) for command in commands)


def worker(port: int, channel: str) -> None:
    """Answer: a blocking pop, then the push of the reply in one packet with the next pop."""
    requests, replies = f"{channel}:requests", f"{channel}:reply"
    wire = Wire(port)
    wire.send(("ZADD", f"{channel}:servers", FOREVER_MS, "floor"))
    wire.read()

    def answer() -> None:
        wire.send(("BLPOP", requests, 0))
        while True:
            _, body = wire.read()
            wire.send(("RPUSH", replies, body), ("PEXPIRE", replies, REPLY_TTL_MS), ("BLPOP", requests, 0))
            wire.read()
            wire.read()

    threading.Thread(target=answer, daemon=True).start()
    converse()


def request(channel: str, *, scripted: bool) -> list[tuple[Any, ...]]:
    """Return the commands of one request: a push and a blocking pop."""
    requests, replies = f"{channel}:requests", f"{channel}:reply"
    push: tuple[Any, ...] = ("RPUSH", requests, ORDER_JSON)
    if scripted:
        keys = (requests, f"{channel}:servers", replies)
        push = ("EVAL", REQUEST.text, 3, *keys, f"{channel}:serve", TIMEOUT * 1000, ORDER_JSON, "!")
    return [push, ("BLPOP", replies, TIMEOUT)]


def checked(answer: Any) -> None:
    if not isinstance(answer, list) or not answer[1].endswith(ORDER_JSON):
        raise ValueError(f"no answer but {answer!r}")


def caller(port: int, channel: str, *, scripted: bool = False) -> None:
    """Ask on a blocking socket."""
    wire, commands = Wire(port), request(channel, scripted=scripted)

    def once() -> None:
        wire.send(*commands)
        wire.read()
        checked(wire.read())

    converse(ask=lambda calls: one_by_one(once, calls))


async def async_caller(port: int, channel: str, *, scripted: bool = False) -> None:
    """Ask as an asyncio protocol."""
    commands = request(channel, scripted=scripted)
    _, wire = await asyncio.get_running_loop().create_connection(AsyncWire, HOST, port)

    async def once() -> None:
        checked((await wire.exchange(*commands))[1])

    async def ask(calls: int) -> dict[str, float]:
        return await together(once, calls, 1)

    await aconverse(ask=ask)


if __name__ == "__main__":
    play(worker, caller, async_caller)
