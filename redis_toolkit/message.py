"""What a handler can ask for besides the payload: the whole `Message`, its `Headers`; and `Gap`.

Rules: these are plain values. They hold no connection, and nothing a handler does to them reaches
the server, but for `Message.once`. For that a message knows its handler: not as a field, so that it is
compared, copied as a dict and sent to another process without it.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from redis_toolkit.errors import ConfigurationError
from redis_toolkit.record import Frozen

__all__ = ["ExactChannel", "Gap", "Headers", "Message"]


class Headers(dict[str, str]):
    """The headers of a message: text by name. Empty when the sender gave none."""


class ExactChannel(str):
    """A channel name that is never read as a glob, whatever characters it has.

    Example:
        ``@app.on(ExactChannel("what?"))`` hears ``what?`` and not ``whats``.
    """

    __slots__ = ()


class _Handled:
    """What a handler has got; the slot is empty in what was made by hand."""

    __slots__ = ("_handler",)

    _handler: Any


@dataclass(slots=True)
class Message(_Handled):
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

    def once(self, key: str, ttl: float | timedelta) -> AbstractContextManager[bool]:
        """Do something once, although this message may come twice.

        The block is told whether it is the first. It counts as done when that block has ended without an
        exception; who comes later gets False. It is no lock: two that run at the same time are both the
        first, and so is the next one after a worker that died inside the block.

        Args:
            key: names what is done. It counts for this handler (for this group, or this task type) on this
                channel; others have their own.
            ttl: seconds, or a timedelta, for which it is known that it was done: longer than the message
                may be tried again.

        Returns:
            A context manager that gives True the first time, and False when it was done before.

        Raises:
            ConfigurationError: the key or the time cannot work; or the message was built by hand, so that
                there is no server to ask.
            ServerUnreachable: on entering the block: whether it was done cannot be known.

        Example:
            ```python
            @app.on("orders", group="billing", retries=5)
            def bill(order: Order, message: Message) -> None:
                with message.once(f"charge-{order.id}", ttl=7 * 86400) as first:
                    if first:
                        charge(order)
            ```
        """
        handler = self._known("once")
        once: AbstractContextManager[bool] = handler.app._once(self.channel, handler.scope, key, ttl)
        return once

    def aonce(self, key: str, ttl: float | timedelta) -> AbstractAsyncContextManager[bool]:
        """Do what `once` does in a coroutine: ``async with message.aonce(...) as first:``."""
        handler = self._known("aonce")
        aonce: AbstractAsyncContextManager[bool]
        aonce = handler.app._aonce(self.channel, handler.scope, key, ttl)
        return aonce

    def __getstate__(self) -> object:
        state: Any = object.__getstate__(self)
        state[1].pop("_handler", None)
        return state

    def _known(self, name: str) -> Any:
        """Return the handler that has got this message."""
        handler = getattr(self, "_handler", None)
        if handler is None or handler.app is None:
            raise ConfigurationError(
                f"{name}() asks the server, and this message was not given to a handler of an app: "
                "take it as a parameter, `def handler(data, message: Message)`; a copy of it has lost that"
            )
        return handler


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Gap(Frozen):
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
