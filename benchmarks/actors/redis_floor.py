"""What can be built on redis-py by hand: its low-level calls, one pool, and a prototype that batches.

- ``caller`` and ``async_caller``: a push and a blocking pop in one packet, written and read with
  ``send_packed_command`` and ``read_response``; the worker is that of ``floor``.
- ``pool_caller``: each call takes a connection of the client's pool, as redis-py is commonly used.
- ``batch_caller`` and ``batch_worker``: the least that many callers at once need. Requests have an id
  and the name of the caller's inbox; whatever waits goes out as one push, and is popped as one batch.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from typing import Any

import redis
import redis.asyncio

from benchmarks.actors.conversation import aconverse, converse, play
from benchmarks.actors.timing import one_by_one, together
from benchmarks.payload import ORDER, ORDER_JSON

REPLY_TTL_MS = 60_000
TIMEOUT = 5
BATCH = 1000


def caller(url: str, channel: str) -> None:
    """Ask, one request after the other, with redis-py's low-level calls."""
    connection: Any = redis.Redis.from_url(url, protocol=2).connection_pool.get_connection()
    commands = [("RPUSH", f"{channel}:requests", ORDER_JSON), ("BLPOP", f"{channel}:reply", TIMEOUT)]

    def once() -> None:
        connection.send_packed_command(connection.pack_commands(commands))
        connection.read_response()
        if connection.read_response() is None:
            raise TimeoutError

    converse(ask=lambda calls: one_by_one(once, calls))


async def async_caller(url: str, channel: str) -> None:
    """The same with those of redis.asyncio."""
    wire = await AsyncWire.connect(url)
    commands = [("RPUSH", f"{channel}:requests", ORDER_JSON), ("BLPOP", f"{channel}:reply", TIMEOUT)]

    async def once() -> None:
        if (await wire.exchange(commands))[1] is None:
            raise TimeoutError

    async def ask(calls: int) -> dict[str, float]:
        return await together(once, calls, 1)

    await aconverse(ask=ask)


async def pool_caller(url: str, channel: str) -> None:
    """Ask with one connection of the pool for each call on its way."""
    client: Any = redis.asyncio.Redis.from_url(url, protocol=2)

    async def once(number: int) -> Any:
        replies = f"{channel}:reply:{number}"
        envelope = json.dumps({"id": number, "reply_to": replies, "data": number})
        async with client.pipeline(transaction=False) as pipeline:
            pipeline.rpush(f"{channel}:requests", envelope).blpop([replies], timeout=60)
            return json.loads((await pipeline.execute())[1][1])["data"]

    async def in_flight(calls: int) -> dict[str, float]:
        answers = await asyncio.gather(*(once(number) for number in range(calls)))
        return {"right": sum(place == answer for place, answer in enumerate(answers))}

    await aconverse(in_flight=in_flight)
    await client.aclose()


class AsyncWire:
    """A connection of redis.asyncio: packets of commands out, replies in."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @classmethod
    async def connect(cls, url: str) -> AsyncWire:
        client: Any = redis.asyncio.Redis.from_url(url, protocol=2, socket_timeout=None)
        return cls(await client.connection_pool.get_connection())

    async def exchange(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        await self._connection.send_packed_command(self._connection.pack_commands(commands))
        return [await self._connection.read_response() for _ in commands]


class Inbox:
    """Requests of many callers: one connection that pushes what has come together, one that pops replies."""

    def __init__(self, url: str, channel: str) -> None:
        self._url, self._requests, self._replies = url, f"{channel}:requests", f"{channel}:inbox"
        self._ids = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._outbox: list[str] = []
        self._filled = asyncio.Event()

    async def request(self, payload: Any) -> Any:
        number = next(self._ids)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._outbox.append(json.dumps({"id": number, "reply_to": self._replies, "data": payload}))
        self._filled.set()
        return await answer

    async def push(self) -> None:
        wire = await AsyncWire.connect(self._url)
        while await self._filled.wait():
            self._filled.clear()
            batch, self._outbox = self._outbox, []
            await wire.exchange([("RPUSH", self._requests, *batch)])

    async def pop(self) -> None:
        wire = await AsyncWire.connect(self._url)
        while True:
            for reply in popped(await wire.exchange(pop(self._replies))):
                self._waiting.pop(reply["id"]).set_result(reply["data"])


async def batch_caller(url: str, channel: str) -> None:
    """Ask, any number at once."""
    inbox = Inbox(url, channel)

    async def ask(calls: int, callers: int) -> dict[str, float]:
        return await together(lambda: inbox.request(ORDER), calls, callers)

    async with asyncio.TaskGroup() as tasks:
        duties = [tasks.create_task(duty) for duty in (inbox.push(), inbox.pop())]
        await aconverse(ask=ask)
        for duty in duties:
            duty.cancel()


def pop(key: str) -> list[tuple[Any, ...]]:
    """Return the commands that wait for one entry and take all others that are there."""
    return [("BLPOP", key, 0), ("LPOP", key, BATCH)]


def popped(replies: list[Any]) -> list[Any]:
    """Return the messages that `pop` has brought."""
    first, more = replies[-2:]
    return [json.loads(body) for body in (first[1], *(more or ()))]


def replies_to(requests: list[Any], results: list[Any]) -> list[tuple[Any, ...]]:
    """Return the commands that answer a batch: one push for each inbox."""
    bodies: dict[str, list[str]] = {}
    for request, result in zip(requests, results, strict=True):
        bodies.setdefault(request["reply_to"], []).append(json.dumps({"id": request["id"], "data": result}))
    pushes: list[tuple[Any, ...]] = [("RPUSH", inbox, *found) for inbox, found in bodies.items()]
    return pushes + [("PEXPIRE", inbox, REPLY_TTL_MS) for inbox in bodies]


def worker(url: str, channel: str) -> None:
    """Answer batches in one thread."""
    key = f"{channel}:requests"
    client = redis.Redis.from_url(url, protocol=2, socket_timeout=None)
    connection: Any = client.connection_pool.get_connection()

    def exchange(commands: list[tuple[Any, ...]]) -> list[Any]:
        connection.send_packed_command(connection.pack_commands(commands))
        return [connection.read_response() for _ in commands]

    def handle(order: Any) -> Any:
        return order

    def answer() -> None:
        requests = popped(exchange(pop(key)))
        while True:
            results = [handle(request["data"]) for request in requests]
            requests = popped(exchange(replies_to(requests, results) + pop(key)))

    threading.Thread(target=answer, daemon=True).start()
    converse()


async def async_worker(url: str, channel: str) -> None:
    """Answer batches on an event loop."""
    key = f"{channel}:requests"
    wire = await AsyncWire.connect(url)

    async def handle(order: Any) -> Any:
        return order

    async def answer() -> None:
        requests = popped(await wire.exchange(pop(key)))
        while True:
            results = [await handle(request["data"]) for request in requests]
            requests = popped(await wire.exchange(replies_to(requests, results) + pop(key)))

    answering = asyncio.create_task(answer())
    await aconverse()
    answering.cancel()


if __name__ == "__main__":
    play(caller, async_caller, pool_caller, batch_caller, worker, async_worker)
