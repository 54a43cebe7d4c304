"""redis-py as it comes: ``get_message``, one ``publish``; and its fastest way to hear, ``read_response``."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import redis

from benchmarks.actors.conversation import converse, options
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


def publisher(url: str) -> None:
    """Publish a body that is ready, one after the other."""
    client = redis.Redis.from_url(url)
    converse(publish=lambda calls: one_by_one(lambda: client.publish("nobody", ORDER_JSON), calls))


ROLES: dict[str, Callable[..., Any]] = {"listener": listener, "publisher": publisher}

if __name__ == "__main__":
    role, given = options()
    ROLES[role](**given)
