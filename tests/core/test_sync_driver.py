"""The driver that callers' threads use, against real servers and a proxy that breaks things on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from redis_toolkit._core.connection import Connections
from redis_toolkit._core.flow import Call, Flow
from redis_toolkit._core.flows import events, requests
from redis_toolkit._core.recovery import Failed
from redis_toolkit._core.sync_driver import LinkDriver, SyncDriver
from redis_toolkit.codecs import JSONCodec
from redis_toolkit.errors import (
    CommandRefused,
    EncodeError,
    KeyConflict,
    NoResponders,
    OutcomeUnknown,
    RemoteError,
    RequestTimeout,
    ServerUnreachable,
)
from redis_toolkit.globs import rank
from redis_toolkit.settings import Settings
from redis_toolkit.wire import Wire
from tests.core.callers import LATE, Interrupted, Scripted, calling, interrupting, listens, serving
from tests.kit.servers import Server
from tests.kit.threads import in_threads


class TestRequests:
    def test_answers_errors_and_nobody(self, server: Server) -> None:
        def fail(data: Any) -> None:
            raise KeyError(data)

        with serving(server.url, double=lambda data: data * 2, fail=fail), calling(server.url) as app:
            assert app.request("double", 21) == 42
            with pytest.raises(RemoteError, match="KeyError: 'x'"):
                app.request("fail", "x")
            started = time.monotonic()
            with pytest.raises(NoResponders, match="'nobody'"):
                app.request("nobody", 1, timeout=600)
            assert time.monotonic() - started < 60
            with pytest.raises(EncodeError):
                app.request("double", object())
            assert app.request("double", 1) == 2

    def test_fifty_threads_each_get_their_own_answers(self, server: Server) -> None:
        with serving(server.url, echo=lambda data: data), calling(server.url) as app:

            def work(number: int) -> None:
                for turn in range(10):
                    assert app.request("echo", [number, turn], timeout=60) == [number, turn]

            in_threads(*(partial(work, number) for number in range(50)))

    def test_after_a_timeout_the_late_reply_is_nobody_elses(self, server: Server) -> None:
        listens(server, "slow")
        with serving(server.url, echo=lambda data: data), calling(server.url) as app:
            with pytest.raises(RequestTimeout, match="'slow'"):
                app.request("slow", 1, timeout=0.1)
            assert [app.request("echo", number) for number in range(5)] == list(range(5))

    @pytest.mark.fault(34, "requests")
    def test_a_foreign_value_in_the_way_is_said_at_once(self, server: Server) -> None:
        listens(server, "orders")
        server.execute("SET", "rt:c:{orders}:requests", "mine")
        with calling(server.url) as app:
            started = time.monotonic()
            with pytest.raises(KeyConflict):
                app.request("orders", 1, timeout=600)
            assert time.monotonic() - started < 60
            assert app.health_check()

    def test_many_of_them(self, server: Server) -> None:
        def handler(data: Any) -> Any:
            if data == 7:
                raise ValueError("seven")
            return data * 2

        with serving(server.url, double=handler), calling(server.url) as app:
            found = app.request_many("double", range(300), timeout=60, window=20, return_exceptions=True)
            assert found[:7] == [0, 2, 4, 6, 8, 10, 12]
            assert isinstance(found[7], RemoteError)
            assert found[8:] == [number * 2 for number in range(8, 300)]
            assert app.request_many("double", []) == []
            nobody = app.request_many("nobody", range(3), return_exceptions=True)
            assert [type(outcome) for outcome in nobody] == [NoResponders] * 3
            mixed = app.request_many("double", [1, object(), 2], return_exceptions=True)
            assert (mixed[0], type(mixed[1]), mixed[2]) == (2, EncodeError, 4)


class TestScripts:
    def test_a_server_that_lost_its_scripts_gets_the_text(self, server: Server) -> None:
        with calling(server.url) as app:
            for _ in range(2):
                server.execute("SCRIPT", "FLUSH")
                with pytest.raises(NoResponders):  # asks for the globs by EVALSHA
                    app.request("nobody", 1)


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    made: list[Scripted] = []

    def make(*replies: bytes) -> Scripted:
        made.append(Scripted(*replies))
        return made[-1]

    yield make
    for each in made:
        each.close()


class TestErrorReplies:
    @pytest.mark.parametrize(
        "line",
        [
            b"LOADING Redis is loading",
            b"READONLY You can't write",
            b"MASTERDOWN Link down",
            b"TRYAGAIN later",
        ],
    )
    def test_what_passes_is_waited_for(self, scripted: Callable[..., Scripted], line: bytes) -> None:
        fake = scripted(b"+PONG\r\n", b"-" + line + b"\r\n", b"-" + line + b"\r\n", b"*2\r\n:3\r\n$0\r\n\r\n")
        with calling(fake.url, command_timeout=60) as app:
            assert app.health_check()
            assert app.publish("a", 1) == 3
        assert fake.seen == [b"PING", b"EVALSHA", b"EVALSHA", b"EVALSHA"]

    def test_but_not_for_ever(self, scripted: Callable[..., Scripted]) -> None:
        fake = scripted(b"+PONG\r\n", b"-LOADING Redis is loading\r\n")
        with calling(fake.url, command_timeout=0.3) as app:
            assert app.health_check()
            started = time.monotonic()
            with pytest.raises(ServerUnreachable, match="LOADING"):
                app.publish("a", 1)
            assert time.monotonic() - started < 0.3 + LATE

    def test_a_refusal_is_said_at_once(self, scripted: Callable[..., Scripted]) -> None:
        fake = scripted(b"+PONG\r\n", b"-ERR unknown command\r\n", b":1\r\n")
        with calling(fake.url) as app:
            assert app.health_check()
            with pytest.raises(CommandRefused, match="unknown command"):
                app.publish("a", 1)
        assert fake.seen == [b"PING", b"EVALSHA"]

    def test_a_reply_that_is_no_protocol(self, scripted: Callable[..., Scripted]) -> None:
        fake = scripted(b"+PONG\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with calling(fake.url) as app:
            assert app.health_check()
            with pytest.raises(OutcomeUnknown):
                app.publish("a", 1)


class TestInterrupts:
    @pytest.mark.fault(20, "requests")
    def test_the_next_request_gets_its_own_reply(self, own_server: Server) -> None:
        listens(own_server, "slow")
        with serving(own_server.url, echo=lambda data: data), calling(own_server.url) as app:
            app.health_check()
            [pooled] = app._connections._idle
            with (
                interrupting(lambda: own_server.execute("LLEN", "rt:c:{slow}:requests")),
                pytest.raises(Interrupted),
            ):
                app.request("slow", 1, timeout=60)

            assert pooled not in app._connections._idle
            assert pooled._connection._sock is None
            assert [app.request("echo", number) for number in range(3)] == [0, 1, 2]

    @pytest.mark.fault(20, "requests")
    def test_in_many(self, own_server: Server) -> None:
        listens(own_server, "slow")
        with serving(own_server.url, echo=lambda data: data), calling(own_server.url) as app:
            app.health_check()
            with (
                interrupting(lambda: own_server.execute("LLEN", "rt:c:{slow}:requests") == 3),
                pytest.raises(Interrupted),
            ):
                app.request_many("slow", range(3), timeout=60)
            assert app.request_many("echo", range(3)) == [0, 1, 2]


class TestFlows:
    def test_what_goes_wrong_is_thrown_into_the_flow(self, server: Server) -> None:
        def flow() -> Flow[str]:
            try:
                yield Call((("NONSENSE",),))
            except CommandRefused:
                yield Call((("PING",),))
                return "recovered"
            return "nothing went wrong"

        made = Connections(server.url)
        assert SyncDriver(made, Settings()).run(flow()) == "recovered"
        made.close()

    def test_a_link_driver_calls_only(self, server: Server) -> None:
        made = Connections(server.url)
        driver = LinkDriver(made, 30)
        driver.run(events.ping())
        assert driver.run(events.publish("a", events.Event(b"1"))).receivers == 0
        call, wire = requests.OutgoingRequest("a", "id", None), Wire(JSONCodec(), 1000)
        with pytest.raises(TypeError, match="calls only"):
            driver.run(requests.request(call, wire, rank, timeout_ms=1))
        driver.close()

    def test_a_link_driver_connects_anew_after_a_failure(self, own_server: Server) -> None:
        made = Connections(own_server.url)
        driver = LinkDriver(made, 30)
        driver.run(events.ping())
        own_server.restart()
        with pytest.raises(Failed):
            driver.run(events.ping())
        driver.run(events.ping())
        driver.close()
