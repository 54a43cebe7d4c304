"""Replies that the server refuses: their callers hear of it where the server lets them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from redis_toolkit import keys
from redis_toolkit._core.connection import Connections
from redis_toolkit._core.flow import Command
from redis_toolkit._core.flows import serving
from redis_toolkit.codecs import Codec, JSONCodec, MsgpackCodec, TextCodec
from redis_toolkit.wire import Wire
from redis_toolkit.worker.aside import Aside
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.undelivered import instead_of
from tests.kit.servers import Server

REPLIES = keys.reply("orders", "r1")
OOM = redis.OutOfMemoryError("command not allowed when used memory > 'maxmemory'.", status_code="OOM")


def pushed(*replies: bytes) -> Command:
    """Return the refused push of some replies."""
    [(push, _)] = serving.push_replies([(REPLIES, body) for body in replies])
    return push


@pytest.mark.parametrize("codec", [JSONCodec(), MsgpackCodec(), TextCodec()], ids=["json", "msgpack", "text"])
@pytest.mark.fault(25, "requests")
def test_each_caller_gets_an_error_that_its_wire_can_read(codec: Codec) -> None:
    wire = Wire(codec, 1_000_000)
    [command] = instead_of(pushed(*(wire.reply(name, "x" * 5000) for name in ("a", "b"))), OOM)
    bodies = [part for part in command if isinstance(part, bytes)]
    assert all(len(body) < 500 for body in bodies)
    replies = [wire.read_reply(body) for body in bodies]
    assert [reply.id for reply in replies] == ["a", "b"]
    for reply in replies:
        assert reply.error is not None
        assert reply.error.type == "StoreFull"
        assert "OOM" in reply.error.message
        assert "maxmemory" in reply.error.message


@pytest.mark.parametrize("why", [redis.ResponseError("WRONGTYPE"), redis.exceptions.NoPermissionError("no")])
def test_other_refusals_are_left_alone(why: Exception) -> None:
    assert instead_of(pushed(Wire(JSONCodec(), 1000).reply("a", 1)), why) == []


def test_what_names_no_caller_is_left_alone() -> None:
    assert instead_of(pushed(b"{}", b"\x80", b"no reply"), OOM) == []


@pytest.fixture
def connections(bus: Server) -> Iterator[Connections]:
    connections = Connections(bus.url)
    yield connections
    connections.close()


@pytest.mark.fault(25, "requests")
def test_replies_that_are_sent_aside_are_refused_too(bus: Server, connections: Connections) -> None:
    wire, counters = Wire(JSONCodec(), 1000), Counters()
    aside = Aside(connections, counters)
    bus.execute("CONFIG", "SET", "maxmemory", "1")
    try:
        aside.send([(REPLIES, wire.reply("a", 1)), (REPLIES, wire.reply("b", 2))])
    finally:
        bus.execute("CONFIG", "SET", "maxmemory", "0")
    replies = [wire.read_reply(body.encode()) for body in bus.execute("LRANGE", REPLIES, 0, -1)]
    assert [(reply.id, reply.error is not None) for reply in replies] == [("a", True), ("b", True)]
    assert counters.snapshot() == {"undelivered": 2}


@pytest.mark.parametrize("right", ["-rpush", "-eval"])
def test_what_may_not_be_told_either_is_logged(
    bus: Server, caplog: pytest.LogCaptureFixture, right: str
) -> None:
    bus.execute("ACL", "SETUSER", "worker", "on", ">secret", "~*", "+@all", right)
    connections = Connections(bus.url.replace("://", "://worker:secret@"))
    bus.execute("CONFIG", "SET", "maxmemory", "1")
    try:
        Aside(connections, Counters()).send([(REPLIES, Wire(JSONCodec(), 1000).reply("a", 1))])
    finally:
        bus.execute("CONFIG", "SET", "maxmemory", "0")
        connections.close()
        bus.execute("ACL", "DELUSER", "worker")
    assert "1 replies were not delivered" in caplog.text
    assert ("callers could not be told" in caplog.text) is (right == "-eval")
