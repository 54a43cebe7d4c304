"""Live events: ``PUBLISH``, one or many in a round trip.

Rules: a publish is never repeated once bytes have left, as nothing in a bare payload would tell a
subscriber that it is the second copy.
"""

from __future__ import annotations

from collections.abc import Sequence

from redis_toolkit._core.flow import Call, Flow

__all__ = ["ping", "publish", "publish_many"]

CHUNK = 500
"""Messages per round trip: enough to hide the round trip, few enough to keep buffers small."""


def publish(channel: str, body: bytes) -> Flow[int]:
    """Publish one body; returns the number of live receivers (``PUBLISH``)."""
    replies = yield Call((("PUBLISH", channel, body),))
    return int(replies[0])


def publish_many(channel: str, bodies: Sequence[bytes]) -> Flow[list[int]]:
    """Publish bodies in order; returns the number of live receivers of each (pipelined ``PUBLISH``)."""
    receivers: list[int] = []
    for start in range(0, len(bodies), CHUNK):
        chunk = bodies[start : start + CHUNK]
        replies = yield Call(tuple(("PUBLISH", channel, body) for body in chunk))
        receivers.extend(int(reply) for reply in replies)
    return receivers


def ping() -> Flow[None]:
    """Ask for a sign of life (``PING``)."""
    yield Call((("PING",),), repeatable=True)
