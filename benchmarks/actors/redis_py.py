"""redis-py as it comes: ``get_message``, one ``publish``; and its fastest way to hear, ``read_response``."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import redis
import redis.asyncio

from benchmarks.actors.conversation import aconverse, converse, play
from benchmarks.actors.timing import Arrivals, one_by_one
from benchmarks.payload import ORDER_JSON


def listener(url: str, channel: str, *, bare: bool) -> None:
    """Hear messages, by ``get_message`` or, ``bare``, by ``read_response``."""
    arrivals = Arrivals()
    client: Any = redis.Redis.from_url(url, protocol=2)
    subscription = client.pubsub()
    subscription.subscribe(channel)
    subscription.get_message(timeout=10)

    def get_messages() -> None:
        while True:
            message = subscription.get_message(ignore_subscribe_messages=True, timeout=10)
            if message is not None:
                arrivals.arrived(json.loads(message["data"]))

    def read_responses() -> None:
        read = subscription.connection.read_response
        while True:
            arrivals.arrived(json.loads(read(push_request=True, timeout=None)[2]))

    threading.Thread(target=read_responses if bare else get_messages, daemon=True).start()
    converse(expect=arrivals.expect, rate=arrivals.rate)


async def async_listener(url: str, channel: str) -> None:
    """Hear messages by ``read_response`` of redis.asyncio."""
    arrivals = Arrivals()
    client: Any = redis.asyncio.Redis.from_url(url, protocol=2)
    subscription = client.pubsub()
    await subscription.subscribe(channel)
    await subscription.get_message(timeout=10)

    async def read_responses() -> None:
        read = subscription.connection.read_response
        while True:
            arrivals.arrived(json.loads((await read(push_request=True, timeout=None))[2]))

    reading = asyncio.create_task(read_responses())
    await aconverse(expect=arrivals.expect_async, rate=arrivals.rate_async)
    reading.cancel()


def low_level_publisher(url: str) -> None:
    """Publish with ``send_packed_command`` and ``read_response``: the least that a round trip needs."""
    connection: Any = redis.Redis.from_url(url, protocol=2).connection_pool.get_connection()

    def once() -> None:
        connection.send_packed_command(connection.pack_command("PUBLISH", "nobody", ORDER_JSON))
        connection.read_response()

    converse(publish=lambda calls: one_by_one(once, calls))


def publisher(url: str) -> None:
    """Publish a body that is ready, one after the other."""
    client = redis.Redis.from_url(url)
    converse(publish=lambda calls: one_by_one(lambda: client.publish("nobody", ORDER_JSON), calls))


if __name__ == "__main__":
    play(listener, async_listener, publisher, low_level_publisher)
