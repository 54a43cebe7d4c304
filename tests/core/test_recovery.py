"""The error table, row by row, with the errors that redis-py makes of real replies."""

from __future__ import annotations

import socket
import ssl
import threading
import time

import pytest
import redis
from redis._parsers.base import BaseParser

from redis_toolkit._core.recovery import Failed, Fate, PasswordUnknown, reconnecting, retrying, sort
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

WHERE = "redis://somewhere:6379/0"


def reply(text: str) -> Exception:
    """Return what redis-py makes of an error reply."""
    error = BaseParser.parse_error(text)  # type: ignore[no-untyped-call]
    assert isinstance(error, Exception)
    return error


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize(
    ("text", "fate", "kind"),
    [
        ("LOADING Redis is loading the dataset in memory", Fate.NOT_EXECUTED, ServerUnreachable),
        ("READONLY You can't write against a read only replica.", Fate.NOT_EXECUTED, ServerUnreachable),
        ("MASTERDOWN Link with MASTER is down", Fate.NOT_EXECUTED, ServerUnreachable),
        ("CLUSTERDOWN The cluster is down", Fate.NOT_EXECUTED, ServerUnreachable),
        ("TRYAGAIN Multiple keys request during rehashing of slot", Fate.NOT_EXECUTED, ServerUnreachable),
        ("ERR max number of clients reached", Fate.NOT_EXECUTED, ServerUnreachable),
        ("OOM command not allowed when used memory > 'maxmemory'.", Fate.REFUSED, StoreFull),
        (
            "ERR Error running script (call to f_1): @user_script:9: 9: -OOM command not allowed",
            Fate.REFUSED,
            StoreFull,
        ),
        ("MISCONF Redis is configured to save RDB snapshots, but", Fate.REFUSED, StoreFull),
        ("NOPERM this user has no permissions to run the 'eval' command", Fate.REFUSED, PermissionDenied),
        ("NOPERM No permissions to access a channel", Fate.REFUSED, PermissionDenied),
        (
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            Fate.REFUSED,
            KeyConflict,
        ),
        ("WRONGTYPE Operation against a key script: 3a, on @user_script:5.", Fate.REFUSED, KeyConflict),
        ("ERR unknown command 'FOO'", Fate.REFUSED, CommandRefused),
        ("ERR syntax error", Fate.REFUSED, CommandRefused),
        ("NOTHING we have heard of", Fate.REFUSED, CommandRefused),
        ("NOAUTH Authentication required.", Fate.PERMANENT, AuthenticationFailed),
        (
            "WRONGPASS invalid username-password pair or user is disabled.",
            Fate.PERMANENT,
            AuthenticationFailed,
        ),
    ],
)
def test_error_replies(text: str, fate: Fate, kind: type[RedisToolkitError], sent: bool) -> None:
    failed = sort(reply(text), sent=sent, where=WHERE)

    assert failed.fate is fate
    assert type(failed.error) is kind
    assert WHERE in str(failed.error)
    assert text.split(" ", 1)[1].rstrip(".") in str(failed.error)


LOST = [
    redis.ConnectionError("Connection closed by server."),
    redis.TimeoutError("Timeout reading from socket"),
    ConnectionResetError(104, "Connection reset by peer"),
    OSError(113, "No route to host"),
    socket.gaierror(-2, "Name or service not known"),
    redis.InvalidResponse("Protocol Error: b'HTTP'"),
]


def test_a_wait_that_the_server_broke_off_is_an_unknown_outcome() -> None:
    """What was sent before the wait has been executed."""
    failed = sort(reply("UNBLOCKED force unblock from blocking operation"), sent=True, where=WHERE)
    assert failed.fate is Fate.UNKNOWN
    assert type(failed.error) is OutcomeUnknown


@pytest.mark.parametrize("error", LOST)
def test_a_lost_connection_depends_on_whether_bytes_had_left(error: Exception) -> None:
    before = sort(error, sent=False, where=WHERE)
    assert (before.fate, type(before.error)) == (Fate.NOT_EXECUTED, ServerUnreachable)

    after = sort(error, sent=True, where=WHERE)
    assert (after.fate, type(after.error)) == (Fate.UNKNOWN, OutcomeUnknown)


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("error", [*LOST, redis.ConnectionError("two\nlines"), reply("ERR a\nb")])
def test_each_message_is_one_line(error: Exception, sent: bool) -> None:
    assert "\n" not in str(sort(error, sent=sent, where=WHERE))


def test_who_finds_no_server_is_told_what_to_do() -> None:
    text = str(sort(OSError("refused."), sent=False, where=WHERE))
    assert text.startswith(f"cannot reach {WHERE}: refused. Start a Redis")
    assert 'App("embedded://")' in text
    assert "$REDIS_TOOLKIT_URL" in text
    known = str(sort(OSError("refused."), sent=False, where=WHERE, advise=False))
    assert known == f"cannot reach {WHERE}: refused"


def test_who_goes_on_by_itself_says_what_happened_and_no_more() -> None:
    lost = sort(OSError("reset"), sent=True, where=WHERE)
    assert lost.why == f"the connection to {WHERE} was lost (reset)"
    refused = sort(reply("NOPERM no"), sent=True, where=WHERE)
    assert refused.why == str(refused.error)


class TestRetrying:
    def failing(self, fate: Fate, times: int) -> tuple[list[int], object]:
        calls: list[int] = []

        def once() -> str:
            calls.append(1)
            if len(calls) <= times:
                raise Failed(fate, ServerUnreachable("x"))
            return "done"

        return calls, once

    @pytest.mark.parametrize(
        ("fate", "repeatable"), [(Fate.NOT_EXECUTED, False), (Fate.NOT_EXECUTED, True), (Fate.UNKNOWN, True)]
    )
    def test_what_may_be_tried_again(self, fate: Fate, repeatable: bool) -> None:
        calls, once = self.failing(fate, 2)
        assert retrying(time.monotonic() + 60, repeatable=repeatable)(once) == "done"  # type: ignore[arg-type]
        assert len(calls) == 3

    @pytest.mark.parametrize(
        ("fate", "repeatable"),
        [(Fate.UNKNOWN, False), (Fate.REFUSED, True), (Fate.PERMANENT, True), (Fate.REFUSED, False)],
    )
    def test_what_may_not(self, fate: Fate, repeatable: bool) -> None:
        calls, once = self.failing(fate, 1)
        with pytest.raises(Failed):
            retrying(time.monotonic() + 60, repeatable=repeatable)(once)  # type: ignore[arg-type]
        assert len(calls) == 1

    def test_other_errors_pass(self) -> None:
        def once() -> None:
            raise KeyError("a")

        with pytest.raises(KeyError):
            retrying(time.monotonic() + 60, repeatable=True)(once)

    def test_no_try_starts_after_the_deadline(self) -> None:
        calls, once = self.failing(Fate.NOT_EXECUTED, 1000)
        with pytest.raises(Failed):
            retrying(time.monotonic() - 1, repeatable=True)(once)  # type: ignore[arg-type]
        assert len(calls) == 1


class TestReconnecting:
    def test_until_it_works_telling_of_each_failure(self) -> None:
        heard: list[Failed] = []
        left = [Failed(Fate.UNKNOWN, ServerUnreachable("a")), Failed(Fate.PERMANENT, ServerUnreachable("b"))]

        def connect() -> str:
            if left:
                raise left.pop(0)
            return "connected"

        expected = list(left)
        assert reconnecting(0.01, threading.Event(), heard.append)(connect) == "connected"
        assert heard == expected

    def test_until_it_shall_stop(self) -> None:
        stopping = threading.Event()
        tries: list[int] = []

        def connect() -> None:
            tries.append(1)
            if len(tries) == 3:
                stopping.set()
            raise Failed(Fate.NOT_EXECUTED, ServerUnreachable("down"))

        with pytest.raises(Failed):
            reconnecting(0.01, stopping, lambda failure: None)(connect)
        assert len(tries) == 3

    def test_stopping_ends_a_wait(self) -> None:
        stopping = threading.Event()

        def connect() -> None:
            threading.Timer(0.05, stopping.set).start()
            raise Failed(Fate.NOT_EXECUTED, ServerUnreachable("down"))

        started = time.monotonic()
        with pytest.raises(Failed):
            reconnecting(1000, stopping, lambda failure: None)(connect)
        assert time.monotonic() - started < 30


def tls(reason: str) -> Exception:
    """Return what redis-py makes of a TLS handshake that failed."""
    error = redis.ConnectionError(f"Error 1 connecting to somewhere:6379. {reason}")
    error.__context__ = ssl.SSLError(1, reason)
    return error


@pytest.mark.parametrize(
    ("error", "fate", "way_out"),
    [
        (reply("NOAUTH Authentication required."), Fate.PERMANENT, "password="),
        (reply("WRONGPASS invalid username-password pair"), Fate.PERMANENT, "check user and password"),
        (PasswordUnknown("the password function ask raised KeyError"), Fate.PERMANENT, "mend"),
        (reply("DENIED Redis is running in protected mode because"), Fate.PERMANENT, "give it a password"),
        (tls("CERTIFICATE_VERIFY_FAILED: self-signed"), Fate.PERMANENT, "ssl_ca_certs"),
        (tls("CERTIFICATE_VERIFY_FAILED: Hostname mismatch"), Fate.PERMANENT, "ssl_check_hostname"),
        (tls("CERTIFICATE_VERIFY_FAILED: certificate has expired"), Fate.PERMANENT, "renew"),
        (tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"), Fate.PERMANENT, "ssl_certfile"),
        (tls("WRONG_VERSION_NUMBER"), Fate.PERMANENT, "use redis://"),
        (
            redis.InvalidResponse(r'Protocol error, got "\x15" as reply type byte'),
            Fate.PERMANENT,
            "rediss://",
        ),
        (reply("ERR max number of clients reached"), Fate.NOT_EXECUTED, "raise maxclients"),
        (OSError(111, "Connection refused"), Fate.NOT_EXECUTED, "Start a Redis"),
        (reply("NOPERM no permissions"), Fate.REFUSED, "ACL SETUSER"),
        (reply("ERR The user executing the script can't run this command"), Fate.REFUSED, "ACL SETUSER"),
        (reply("OOM command not allowed"), Fate.REFUSED, "raise maxmemory"),
        (reply("MISCONF Redis is configured to save"), Fate.REFUSED, "disk"),
        (reply("WRONGTYPE Operation against a key"), Fate.REFUSED, "delete or rename"),
        (reply("ERR DB index is out of range"), Fate.REFUSED, "no database of that number"),
    ],
)
def test_every_row_names_the_server_and_the_way_out(error: Exception, fate: Fate, way_out: str) -> None:
    failed = sort(error, sent=False, where=WHERE, doing="PUBLISH 'news'")
    assert failed.fate is fate
    assert WHERE in str(failed)
    assert way_out in str(failed)
    assert "\n" not in str(failed)
    if fate is Fate.REFUSED:
        assert "PUBLISH 'news'" in str(failed)
