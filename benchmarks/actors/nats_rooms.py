"""Rooms as subjects of a NATS server: each member has a subscription. Nothing is kept or announced."""

from __future__ import annotations

import json
from typing import Any

import nats  # type: ignore[import-not-found]

from benchmarks.actors.conversation import aconverse, play
from benchmarks.actors.hearing import Hearing
from benchmarks.actors.nats_py import new_loop
from benchmarks.actors.offering import offer, together_many


async def listener(url: str, name: str, rooms: int, members: int) -> None:
    """Be all members of rooms."""
    client = await nats.connect(url)
    hearing = Hearing()

    async def hear(message: Any) -> None:
        hearing.arrived(json.loads(message.data))

    for room in range(rooms):
        for _ in range(members):
            await client.subscribe(f"{name}-{room}", cb=hear)
    await client.flush()
    await aconverse(begin=hearing.begin, heard=hearing.figures)
    await client.close()


async def publisher(url: str, name: str, rooms: int) -> None:
    """Send to rooms in turns."""
    client = await nats.connect(url)

    async def send(number: int, due: float) -> None:
        message = {"type": "message", "user": "ann", "text": "Good morning, everybody!", "sent": due}
        await client.publish(f"{name}-{number % rooms}", json.dumps(message).encode())

    async def flood(count: int, callers: int) -> dict[str, float]:
        return await together_many(send, count, callers)

    async def at_rate(rate: float, seconds: float) -> dict[str, float]:
        return await offer(send, rate, seconds)

    await aconverse(flood=flood, offer=at_rate)
    await client.close()


if __name__ == "__main__":
    play(listener, publisher, loop_factory=new_loop)
