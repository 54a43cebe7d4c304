"""What handlers have done already, each thing under a key of its own (see `redis_toolkit.once`).

Rules: a mark is set when the thing is done, never before, and may be set twice; so each step may be repeated.
"""

from __future__ import annotations

from redis_toolkit._core.flow import Call, Flow

__all__ = ["is_done", "mark"]


def is_done(key: str) -> Flow[bool]:
    """Return whether it was done before (``EXISTS``)."""
    replies = yield Call((("EXISTS", key),), repeatable=True)
    return bool(replies[0])


def mark(key: str, ttl_ms: int) -> Flow[None]:
    """Note for a while that it is done (``SET``)."""
    yield Call((("SET", key, 1, "PX", ttl_ms),), repeatable=True)
