"""Flows: the protocol as generators that say what they want done, and never do it.

A flow yields a `Call`, an `Exchange` or an `ExchangeMany`, is sent what came of it, and returns the
result of the operation. A driver carries the steps out, on a caller's thread or on an event loop.

Rules:

- A flow knows no redis, no asyncio and no threading: it is tested by sending it answers by hand.
- A step says what a driver must know to be safe: whether it may be repeated (`Call.repeatable`), and
  how long it may take (`Deadline`).
- Nobody changes a step once it is yielded. That is not enforced: a frozen dataclass takes several times as
  long to make, and each request makes four.
- Errors are thrown into the flow at its ``yield``; most flows let them pass.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

from redis_toolkit._core.scripts import Script
from redis_toolkit.errors import RequestTimeout
from redis_toolkit.record import Record
from redis_toolkit.wire import Reply

__all__ = [
    "REFUSED",
    "Arg",
    "Call",
    "Command",
    "Deadline",
    "Exchange",
    "ExchangeMany",
    "Flow",
    "Outgoing",
    "Refused",
    "ScriptCall",
    "by_sha",
    "by_text",
]

Arg = str | bytes | int | float
Command = tuple[Arg, ...]
T = TypeVar("T")


class Deadline(Record):
    """When one try of an operation has to end: the steps that share it share the time.

    A flow has no clock: the driver starts it with the first step.

    Attributes:
        timeout_ms: how long the try may take.
        at: when it ends, on the driver's clock in seconds; None before it has begun.
    """

    __slots__ = ("at", "timeout_ms")

    def __init__(self, timeout_ms: int, at: float | None = None) -> None:
        self.timeout_ms = timeout_ms
        self.at = at

    def begin(self, now: float) -> float:
        """Return when it ends; it begins now if it has not."""
        if self.at is None:
            self.at = now + self.timeout_ms / 1000
        return self.at


class ScriptCall(Record):
    """One run of a Lua script. A driver sends its SHA1, and its text when the server lacks it."""

    __slots__ = ("args", "keys", "script")

    def __init__(self, script: Script, keys: tuple[str, ...], args: tuple[Arg, ...]) -> None:
        self.script = script
        self.keys = keys
        self.args = args


def by_text(command: Command | ScriptCall) -> Command:
    """Return the command that sends a script's text (``EVAL``); other commands as they are."""
    if isinstance(command, ScriptCall):
        return ("EVAL", command.script.text, len(command.keys), *command.keys, *command.args)
    return command


def by_sha(command: Command | ScriptCall) -> Command:
    """Return the command that names a script (``EVALSHA``); other commands as they are."""
    if isinstance(command, ScriptCall):
        return ("EVALSHA", command.script.sha, len(command.keys), *command.keys, *command.args)
    return command


class Call(Record):
    """Commands in one round trip. Answered with the list of their replies.

    Attributes:
        commands: what to send, in order.
        repeatable: whether sending it twice does no harm, so that a driver may repeat it when the
            connection is cut and the outcome is unknown.
        deadline: when it has to end; None means: within the app's ``command_timeout``.
    """

    __slots__ = ("commands", "deadline", "repeatable")

    def __init__(
        self,
        commands: tuple[Command | ScriptCall, ...],
        repeatable: bool = False,
        deadline: Deadline | None = None,
    ) -> None:
        self.commands = commands
        self.repeatable = repeatable
        self.deadline = deadline


class Refused:
    """The type of `REFUSED`."""

    def __repr__(self) -> str:
        return "REFUSED"


REFUSED = Refused()
"""The outcome of a request that was not sent, because nobody serves its channel."""


class Outgoing(Record):
    """One request, ready but for the address of its reply, which the driver chooses.

    Attributes:
        id: the request's id; the reply carries it.
        channel: what the caller asked, for error messages.
        reply_key: the reply list of a sync caller, in the slot of the request.
        build: given the address of the reply and the ms that are left, returns the script call that
            sends the request. Raises `EncodeError` when the payload cannot be written.
    """

    __slots__ = ("build", "channel", "id", "reply_key")

    def __init__(
        self, id: str, channel: str, reply_key: str, build: Callable[[str, int], ScriptCall]
    ) -> None:
        self.id = id
        self.channel = channel
        self.reply_key = reply_key
        self.build = build

    def timeout(self) -> RequestTimeout:
        """Return the error of a request that was sent and not answered by its deadline."""
        return RequestTimeout(
            f"no reply to request {self.id} on {self.channel!r} by the deadline; it may still run"
        )


class Exchange(Record):
    """Send a request, then wait for the reply by its id.

    Answered with the `Reply`, as ``read`` makes it of the body, or with `REFUSED`. `RequestTimeout` is
    thrown at the deadline.
    """

    __slots__ = ("deadline", "read", "request")

    def __init__(self, request: Outgoing, read: Callable[[bytes], Reply], deadline: Deadline) -> None:
        self.request = request
        self.read = read
        self.deadline = deadline


class ExchangeMany(Record):
    """Send many requests, at most ``window`` unanswered at a time, each with its own deadline.

    Answered with a list in the order of ``requests``: a `Reply`, `REFUSED`, or the exception that
    ended that one request. They all have one ``reply_key``.
    """

    __slots__ = ("read", "requests", "timeout_ms", "window")

    def __init__(
        self, requests: Sequence[Outgoing], read: Callable[[bytes], Reply], timeout_ms: int, window: int
    ) -> None:
        self.requests = requests
        self.read = read
        self.timeout_ms = timeout_ms
        self.window = window


Flow = Generator[Call | Exchange | ExchangeMany, Any, T]
