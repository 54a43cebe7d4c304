"""Every error that redis_toolkit raises, as one tree.

```text
RedisToolkitError
├── ConfigurationError (ValueError)      a registration, option or URL that cannot work
├── EncodeError (ValueError)             a payload the codec cannot write
│   └── PayloadTooLarge                  ... or that is over the size limit
├── DecodeError (ValueError)             bytes that are not what the codec reads
├── PayloadMismatch (ValueError)         a payload that does not fit the handler's parameters
├── RemoteError                          the handler that answered a request raised
├── RequestTimeout (TimeoutError)        no answer by the deadline
│   └── NoResponders                     nobody serves the channel: said at once
├── ServerUnreachable (ConnectionError)  nothing was executed: no connection
│   ├── AuthenticationFailed             user or password refused
│   └── OutcomeUnknown                   the connection was cut after bytes had left
├── WorkersFailed                        no worker process could be started
├── TaskCancelled                        a task was cancelled before it had ended
├── TaskExpired                          a task was not begun in time
├── TaskUnknown                          nothing is known of a task, or nothing any more
├── GroupUnknown                         a channel has no durable group of this name
├── Retry                                raised by a handler: try this again later
├── Reject                               raised by a handler: do not try this again
├── QueueFull                            a queue has as many tasks as it may hold
├── StreamFull                           a durable group is as far behind as it may be
└── CommandRefused                       the server answered with an error
    ├── PermissionDenied                 an ACL forbids a command, key or channel
    ├── StoreFull                        maxmemory is reached
    └── KeyConflict                      a key of ours holds a value of another type
```

Rules: timeouts are also the builtin ``TimeoutError`` and connection errors the builtin
``ConnectionError``; a message says what happened, to what, and what to do about it. redis-py's own
exceptions never reach a user: ``_core/recovery.py`` sorts them into this tree, in one table.
"""

from __future__ import annotations

import datetime
import math

__all__ = [
    "AuthenticationFailed",
    "CommandRefused",
    "ConfigurationError",
    "DecodeError",
    "EncodeError",
    "GroupUnknown",
    "KeyConflict",
    "NoResponders",
    "OutcomeUnknown",
    "PayloadMismatch",
    "PayloadTooLarge",
    "PermissionDenied",
    "QueueFull",
    "RedisToolkitError",
    "Reject",
    "RemoteError",
    "RequestTimeout",
    "Retry",
    "ServerUnreachable",
    "StoreFull",
    "StreamFull",
    "TaskCancelled",
    "TaskExpired",
    "TaskUnknown",
    "WorkersFailed",
]


class RedisToolkitError(Exception):
    """The root of all errors of redis_toolkit."""


class ConfigurationError(RedisToolkitError, ValueError):
    """A registration, an option or a URL that cannot work; raised before anything is sent."""


class EncodeError(RedisToolkitError, ValueError):
    """The codec cannot write this payload. Nothing was sent."""


class PayloadTooLarge(EncodeError):
    """The encoded payload is over the size limit. Nothing was sent."""


class DecodeError(RedisToolkitError, ValueError):
    """These bytes are not what the codec reads."""


class PayloadMismatch(RedisToolkitError, ValueError):
    """The payload does not fit the parameters of the handler."""


class RemoteError(RedisToolkitError):
    """The handler that answered a request raised an exception.

    Attributes:
        type: name of the remote exception's class, such as ``"KeyError"``.
        message: its text.
        traceback: the remote traceback as text, or None unless the serving app was built with
            ``send_tracebacks=True``.
    """

    def __init__(self, type: str, message: str, traceback: str | None = None) -> None:
        super().__init__(type, message, traceback)
        self.type = type
        self.message = message
        self.traceback = traceback

    def __str__(self) -> str:
        text = f"{self.type}: {self.message}"
        return f"{text}\n\nRemote traceback:\n{self.traceback}" if self.traceback else text


class RequestTimeout(RedisToolkitError, TimeoutError):
    """No answer arrived by the deadline of a request. The handler may still be running."""


class NoResponders(RequestTimeout):
    """Nobody serves the channel of a request. It was not sent to anyone."""


class ServerUnreachable(RedisToolkitError, ConnectionError):
    """No connection to the server. Nothing of this operation was executed."""


class AuthenticationFailed(ServerUnreachable):
    """The server refused the user or the password."""


class OutcomeUnknown(ServerUnreachable):
    """The connection was cut after the command had been sent: it was executed, or it was not."""


class WorkersFailed(RedisToolkitError):
    """No worker process could be started: each ended before it was ready."""


class TaskCancelled(RedisToolkitError):
    """A task was cancelled before it had ended: it did not run, or not to its end."""


class TaskExpired(RedisToolkitError):
    """A task was not begun by the time that its caller had set (``expires=``); it did not run."""


class TaskUnknown(RedisToolkitError):
    """Nothing is known of a task: its result is kept no more, it was purged, or it was never submitted."""


class GroupUnknown(RedisToolkitError):
    """A channel has no durable group of this name, and there are no dead letters of one."""


class QueueFull(RedisToolkitError):
    """A queue holds as many tasks as its ``max_pending`` allows. Nothing was submitted."""


class StreamFull(RedisToolkitError):
    """A durable group is as far behind as its ``max_backlog`` allows. Nothing was published."""


class Retry(RedisToolkitError):
    """Raise this in a handler of a task, or of a durable group, to have it called again later.

    It counts as an attempt. It is tried again as often as the job's ``retries=`` say for `Retry`
    (``retries={Retry: 100}``), else up to 25 times or as often as after other failures, whatever is more;
    then it is a dead letter.

    Args:
        delay: seconds (or a `timedelta`) until the next attempt; None: as the job's ``backoff=`` says.

    Raises:
        ConfigurationError: the delay is no duration.

    Example:
        ``raise Retry(delay=30)``
    """

    def __init__(self, delay: float | datetime.timedelta | None = None) -> None:
        seconds: object = delay.total_seconds() if isinstance(delay, datetime.timedelta) else delay
        if seconds is not None and (
            isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf
        ):
            raise ConfigurationError(f"Retry(delay={delay!r}): give seconds from 0, or a timedelta")
        self.delay = seconds
        super().__init__("again" if seconds is None else f"again in {seconds:g} s")


class Reject(RedisToolkitError):
    """Raise this in a handler of a task, or of a durable group, to make it a dead letter at once.

    Args:
        reason: what is said there.

    Example:
        ``raise Reject("no such customer")``
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class CommandRefused(RedisToolkitError):
    """The server answered a command with an error."""


class PermissionDenied(CommandRefused):
    """The user of this connection may not run a command, or not on this key or channel."""


class StoreFull(CommandRefused):
    """The server reached its memory limit (``maxmemory``) and refuses writes."""


class KeyConflict(CommandRefused):
    """A key of redis_toolkit holds a value of another type: something else wrote to it."""


def counted(number: int, noun: str) -> str:
    """Return how many there are, as one says it: "1 task", "2 tasks"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def one_line(text: str) -> str:
    """Return a text as one line that a terminal shows as it is: everything unprintable is escaped."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
