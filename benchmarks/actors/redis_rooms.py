"""The floor of rooms: redis-py's Pub/Sub, nothing kept, nobody's presence known.

One process has one subscription for each room, parses a message once, and calls all members with it. The
sender publishes what has come together with one pipeline.
"""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import redis

from benchmarks.actors.conversation import aconverse, converse, play
from benchmarks.actors.hearing import Hearing

TICK = 0.001
BATCH = 100


async def listener(url: str, name: str, rooms: int, members: int) -> None:
    """Be all members of rooms."""
    hearing = Hearing()
    client: Any = redis.Redis.from_url(url, protocol=2)
    subscription = client.pubsub()
    callbacks = {f"{name}-{number}".encode(): [hearing.arrived] * members for number in range(rooms)}
    subscription.subscribe(*callbacks)
    for _ in callbacks:
        subscription.get_message(timeout=10)

    def hear() -> None:
        while True:
            found = subscription.get_message(ignore_subscribe_messages=True, timeout=10)
            if found is not None:
                message = json.loads(found["data"])
                for callback in callbacks[found["channel"]]:
                    callback(dict(message))

    threading.Thread(target=hear, daemon=True).start()
    await aconverse(begin=hearing.begin, heard=hearing.figures)


def publisher(url: str, name: str, rooms: int) -> None:
    """Send to rooms in turns."""
    client: Any = redis.Redis.from_url(url, protocol=2)
    clock = time.perf_counter

    def send(numbers: range, times: list[float]) -> None:
        pipeline = client.pipeline(transaction=False)
        for number, due in zip(numbers, times, strict=True):
            message = {"type": "message", "user": "ann", "text": "Good morning, everybody!", "sent": due}
            pipeline.publish(f"{name}-{number % rooms}", json.dumps(message))
        pipeline.execute()

    def flood(count: int, **_: Any) -> dict[str, float]:
        begun = clock()
        for start in range(0, count, BATCH):
            some = range(start, min(start + BATCH, count))
            send(some, [clock()] * len(some))
        return {"calls": count, "begun": begun, "sent_per_second": count / (clock() - begun)}

    def offer(rate: float, seconds: float) -> dict[str, float]:
        count, number, begun = int(rate * seconds), 0, clock()
        while number < count:
            due = min(int((clock() - begun) * rate) + 1, count)
            if due > number:
                some = range(number, due)
                send(some, [begun + one / rate for one in some])
                number = due
            time.sleep(TICK)
        return {"calls": count, "begun": begun, "sent_per_second": count / (clock() - begun)}

    converse(flood=flood, offer=offer)


if __name__ == "__main__":
    play(listener, publisher)
