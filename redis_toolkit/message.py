"""What a handler can ask for besides the payload: the whole `Message`, its `Headers`; and `Gap`.

Rules: these are plain values. They hold no connection, and nothing a handler does to them reaches
the server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["ExactChannel", "Gap", "Headers", "Message"]


class Headers(dict[str, str]):
    """The headers of a message: text by name. Empty when the sender gave none."""


class ExactChannel(str):
    """A channel name that is never read as a glob, whatever characters it has.

    Example:
        ``@app.on(ExactChannel("what?"))`` hears ``what?`` and not ``whats``.
    """

    __slots__ = ()


@dataclass(slots=True)
class Message:
    """One received message.

    Attributes:
        channel: the channel it was sent to.
        data: the decoded payload, before any model was made of it.
        headers: what the sender passed as ``headers=``.
        id: the id of a request; None for a live event, which has none.
        pattern: the glob that matched, when the handler is registered with one.
        attempt: 1, or more when the caller of a request asks again, or a task or a durable event is tried
            again (``retries=``).
        deliveries: how often this attempt of a task or a durable event was given to a worker: more than 1
            when an earlier one vanished with it.
    """

    channel: str
    data: Any
    headers: Headers = field(default_factory=Headers)
    id: str | None = None
    pattern: str | None = None
    attempt: int = 1
    deliveries: int = 1


@dataclass(frozen=True, slots=True)
class Gap:
    """An interruption of live events: what was published meanwhile is lost for these channels.

    Attributes:
        channels: the exact names and globs concerned.
        started: wall-clock seconds of the last sign of life before it.
        ended: wall-clock seconds when every subscription was confirmed again.
        reason: one line: what happened.
        dropped: how many messages were lost, where that is known (an overflowing lane), else None.
    """

    channels: tuple[str, ...]
    started: float
    ended: float
    reason: str
    dropped: int | None = None
