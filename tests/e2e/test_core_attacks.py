"""Attacks on the core: what looks like something else, what is executed in part, who is made to wait.

Each of these was a fault once; the first part needs no server, or one made of fixed replies.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis.connection import DefaultParser
from redis.exceptions import NoPermissionError, ReadOnlyError

from redis_toolkit import App
from redis_toolkit._core.connection import Connections
from redis_toolkit._core.recovery import Fate, sort
from redis_toolkit.codecs import MsgpackCodec, SignedCodec
from redis_toolkit.errors import (
    AuthenticationFailed,
    ConfigurationError,
    DecodeError,
    OutcomeUnknown,
    RequestTimeout,
    StoreFull,
)
from redis_toolkit.message import Headers
from redis_toolkit.settings import Settings
from redis_toolkit.wire import Wire
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.member import Member
from redis_toolkit.worker.threads import RequestThreads
from tests.core.awaiting import awaiting, becomes, hub_of
from tests.core.callers import Scripted, calling, listens
from tests.e2e.conftest import MakeApp
from tests.kit.servers import Server
from tests.kit.waiting import eventually

KEY = "a key that is long enough"
FORGED = b"\x82\xa2rt\x01\xa4evil\xa4data"
"""A map with the mark of an envelope and no payload, so no signature."""
NOT_NOW = [
    b"-READONLY You can't write against a read only replica.\r\n",
    b"-LOADING Redis is loading the dataset in memory\r\n",
    b"-MASTERDOWN Link with MASTER is down\r\n",
]
"""What a server answers from one command to the next, when it has become another one meanwhile."""


def test_what_only_looks_like_an_envelope_does_not_get_around_a_signature() -> None:
    wire = Wire(SignedCodec("json", KEY), 1000)
    with pytest.raises(DecodeError, match="no valid signature"):
        wire.read_live(FORGED)
    assert wire.read_live(wire.live({"rt": 1, "evil": "data"}))[0] == {"rt": 1, "evil": "data"}
    assert wire.read_live(wire.live(1, {"a": "b"})) == (1, Headers({"a": "b"}))


def test_a_handler_behind_a_signature_hears_nothing_forged(own_server: Server, make_app: MakeApp) -> None:
    app = make_app(own_server.url, codec=SignedCodec("json", KEY))
    heard: list[Any] = []
    app.on("signed")(heard.append)
    with app:
        assert own_server.execute("PUBLISH", "signed", FORGED) == 1
        app.publish("signed", "ours")
        eventually(lambda: heard, what="the signed event")
    assert heard == ["ours"]


@pytest.mark.parametrize("length", [4, 8, 12])
@pytest.mark.parametrize("start", [b"\xc7%c\xff", b"\xc8\x00%c\xff", b"\xc9\x00\x00\x00%c\xff"])
@pytest.mark.parametrize("around", [b"%b", b"\x91%b", b"\x81\xa1a%b"])
def test_msgpack_times_are_refused_in_each_of_their_forms(around: bytes, start: bytes, length: int) -> None:
    body = around % (start % length + bytes(length))
    with pytest.raises(DecodeError):
        MsgpackCodec().decode(body)


def test_the_name_of_a_key_is_no_state_of_the_server() -> None:
    error = NoPermissionError("no permissions to run the 'pexpire' command on 'rt:c:{READONLY}:requests'")
    assert sort(error, sent=True, where="here").fate is Fate.REFUSED
    error_of_script = ReadOnlyError("ERR Error running script: @user_script:23: -READONLY You can't write")
    assert sort(error_of_script, sent=True, where="here").fate is Fate.NOT_EXECUTED


def test_passwords_that_cannot_be_sent_are_named(own_server: Server) -> None:
    with pytest.raises(ConfigurationError, match="no UTF-8 form"):
        App(own_server.url, password="\ud800")
    app = App(own_server.url, password=lambda: "\ud800")
    with pytest.raises(AuthenticationFailed, match="no UTF-8 form"):
        app.publish("a", 1)


# -- executed in part ---------------------------------------------------------------------------------


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    server = Scripted(b"+unused\r\n")
    yield server
    server.close()


@pytest.mark.parametrize("answer", NOT_NOW)
@pytest.mark.parametrize("call", ["request", "request_many"])
def test_a_request_whose_pop_is_refused_for_now_is_not_sent_twice(
    scripted: Scripted, call: str, answer: bytes
) -> None:
    scripted.replies = [b":1\r\n", answer] * 20
    with calling(scripted.url, command_timeout=0.3) as app:
        if call == "request":
            with pytest.raises(OutcomeUnknown):
                app.request("a", 1, timeout=0.5)
        else:
            (outcome,) = app.request_many("a", [1], timeout=0.5, return_exceptions=True)
            assert isinstance(outcome, OutcomeUnknown)
    assert scripted.seen.count(b"EVAL") == 1


class Halfway(Scripted):
    """Has nothing in any list; other commands get the replies in turn."""

    def _reply(self, words: list[bytes]) -> bytes:
        if words[0] == b"BLPOP":
            time.sleep(0.05)
        return b"*-1\r\n" if words[0] in (b"BLPOP", b"LPOP") else super()._reply(words)


@pytest.mark.parametrize("answer", NOT_NOW)
@pytest.mark.parametrize("awaited", [False, True])
def test_many_events_of_which_some_were_published_are_not_published_twice(
    awaited: bool, answer: bytes
) -> None:
    server = Halfway(*[b"*2\r\n:1\r\n$0\r\n\r\n", answer] * 20)

    async def main(app: App) -> None:
        with pytest.raises(OutcomeUnknown):
            await app.apublish_many("a", [1, 2])

    try:
        if awaited:
            awaiting(server.url, main, command_timeout=0.3)
        else:
            with calling(server.url, command_timeout=0.3) as app, pytest.raises(OutcomeUnknown):
                app.publish_many("a", [1, 2])
    finally:
        server.close()
    assert server.seen == [b"EVALSHA", b"EVALSHA"]


def test_an_awaited_request_is_not_sent_twice_when_the_inbox_becomes_read_only(own_server: Server) -> None:
    listens(own_server, "silent")
    parse: Any = DefaultParser.parse_error  # it has no types
    error = parse("READONLY You can't write against a read only replica.")

    async def main(app: App) -> None:
        asking = asyncio.create_task(app.arequest("silent", 1, timeout=30))
        await becomes(lambda: own_server.execute("LLEN", "rt:c:{silent}:requests") == 1, "the request")
        hub = hub_of(app)
        hub._popped(hub._inbox, error)
        with pytest.raises(OutcomeUnknown):
            await asking
        assert own_server.execute("LLEN", "rt:c:{silent}:requests") == 1

    awaiting(own_server.url, main)


def test_a_refusal_of_one_request_of_many_says_nothing_of_the_others(scripted: Scripted) -> None:
    scripted.replies = [
        b":1\r\n",
        b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
        b"*-1\r\n",
    ]
    with calling(scripted.url) as app:
        sent, refused = app.request_many("a", [1, 2], timeout=0.2, return_exceptions=True)
    assert isinstance(sent, RequestTimeout)
    assert isinstance(refused, StoreFull)


# -- threads ------------------------------------------------------------------------------------------


def test_a_leader_that_was_deposed_as_it_finished_does_not_claim(own_server: Server) -> None:
    connections = Connections(own_server.url)
    threads = RequestThreads({}, 2, connections, Settings(), Counters())
    me, other = Member[Any, Any](), Member[Any, Any]()
    threads._leader = other
    threads._orphans.append((None, b"for the other"))  # type: ignore[arg-type]
    threads._fill(me)
    assert me.link is None
    assert not me.batch
    assert len(threads._orphans) == 1


def test_nobody_is_woken_by_the_id_of_a_connection_that_is_gone(own_server: Server) -> None:
    connections = Connections(own_server.url)
    threads = RequestThreads({}, 1, connections, Settings(), Counters())
    threads._leader = Member(link_id=7)
    own_server.execute("CONFIG", "RESETSTAT")
    threads._unblock()
    assert "cmdstat_client|unblock" not in own_server.execute("INFO", "commandstats")
    connections.close()
