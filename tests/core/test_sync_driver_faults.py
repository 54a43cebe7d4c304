"""The driver that callers' threads use, when the network and the server fail it."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from redis_toolkit.errors import (
    OutcomeUnknown,
    RequestTimeout,
    ServerUnreachable,
)
from tests.core.callers import LATE, calling, listens, serving
from tests.kit.proxy import Proxy
from tests.kit.servers import Server


class TestWhatIsSentTwice:
    """Nothing, unless it is safe: the proxy sees each command once."""

    @pytest.mark.fault(18, "events")
    def test_a_publish_whose_reply_is_lost(self, own_server: Server, proxy: Proxy) -> None:
        heard = own_server.client().pubsub()  # type: ignore[no-untyped-call]
        heard.subscribe("a")
        assert heard.get_message(timeout=30)
        with calling(proxy.url) as app:
            app.health_check()
            drop = proxy.drop_reply(b"PUBLISH")
            with pytest.raises(OutcomeUnknown, match="executed, or not"):
                app.publish("a", "once")
            assert drop.hits == 1
            assert app.publish("a", "after") == 1
        got = [heard.get_message(timeout=30) for _ in range(2)]
        assert [message["data"] for message in got if message] == ['"once"', '"after"']
        heard.close()

    @pytest.mark.fault(18, "requests")
    def test_a_request_whose_reply_is_lost_runs_once(self, own_server: Server, proxy: Proxy) -> None:
        ran: list[Any] = []
        with serving(own_server.url, work=ran.append), calling(proxy.url) as app:
            app.health_check()
            proxy.drop_reply(b"EVAL")
            with pytest.raises(OutcomeUnknown):
                app.request("work", "lost", timeout=30)
            app.request("work", "after", timeout=30)
        assert ran == ["lost", "after"]

    def test_a_command_that_is_cut_before_it_arrives(self, own_server: Server, proxy: Proxy) -> None:
        with calling(proxy.url) as app:
            app.health_check()
            proxy.cut_after(0, "up")
            before = proxy.accepted
            with pytest.raises(OutcomeUnknown):
                app.publish("a", 1)
            assert proxy.accepted == before
            assert app.publish("a", 1) == 0

    def test_a_ping_is_repeated(self, own_server: Server, proxy: Proxy) -> None:
        with calling(proxy.url, command_timeout=30) as app:
            app.health_check()
            drop = proxy.drop_reply(b"PING")
            assert app.health_check()
            assert drop.hits == 1

    @pytest.mark.fault(16, "requests")
    def test_pooled_connections_that_were_cut_meanwhile_are_replaced(
        self, own_server: Server, proxy: Proxy
    ) -> None:
        with calling(proxy.url) as app:
            app.health_check()
            for cut in (proxy.fin, proxy.rst):
                cut()
                assert app.publish("a", 1) == 0


class TestAServerThatComesAndGoes:
    @pytest.mark.fault(11, "events")
    def test_publishing_goes_on_after_a_restart(self, own_server: Server) -> None:
        with calling(own_server.url) as app:
            assert app.publish("a", 1) == 0
            own_server.restart()
            assert app.publish("a", 1) == 0

    @pytest.mark.fault(11, "events")
    def test_a_publish_waits_for_a_server_that_was_there(self, own_server: Server) -> None:
        with calling(own_server.url, command_timeout=60) as app:
            app.health_check()
            own_server.kill()
            done: list[int] = []
            thread = threading.Thread(target=lambda: done.append(app.publish("a", 1)))
            thread.start()
            own_server.start()
            thread.join(60)
            assert done == [0]

    def test_but_not_longer_than_its_deadline(self, own_server: Server) -> None:
        with calling(own_server.url, command_timeout=0.5) as app:
            app.health_check()
            own_server.kill()
            started = time.monotonic()
            with pytest.raises(ServerUnreachable):
                app.publish("a", 1)
            assert time.monotonic() - started < 0.5 + LATE


class TestDeadlines:
    @pytest.mark.parametrize("direction", ["up", "down", "both"])
    @pytest.mark.fault(17, "events", "requests")
    def test_a_network_that_swallows_everything(
        self, own_server: Server, proxy: Proxy, direction: Any
    ) -> None:
        listens(own_server, "a")
        with calling(proxy.url, command_timeout=0.5) as app:
            app.health_check()
            proxy.blackhole(direction)
            for ask in (
                lambda: app.request("a", 1, timeout=0.5),
                lambda: app.request_many("a", [1, 2], timeout=0.5),
                lambda: app.publish("a", 1),
            ):
                started = time.monotonic()
                with pytest.raises((RequestTimeout, OutcomeUnknown, ServerUnreachable)):
                    ask()
                assert time.monotonic() - started < 0.5 + LATE

    @pytest.mark.fault(15, "events", "requests")
    def test_a_server_that_stands_still(self, own_server: Server) -> None:
        listens(own_server, "a")
        with calling(own_server.url) as app:
            app.health_check()
            own_server.pause()
            started = time.monotonic()
            with pytest.raises(RequestTimeout):
                app.request("a", 1, timeout=0.5)
            assert time.monotonic() - started < 0.5 + LATE
            own_server.resume()
            assert app.publish("a", 1) == 0

    @pytest.mark.fault(15, "events")
    def test_a_big_message_to_a_server_that_does_not_read(self, own_server: Server) -> None:
        with calling(own_server.url, command_timeout=0.5, max_payload=64_000_000) as app:
            app.health_check()
            own_server.pause()
            started = time.monotonic()
            with pytest.raises((OutcomeUnknown, ServerUnreachable)):
                app.publish("a", "x" * 30_000_000)
            assert time.monotonic() - started < 0.5 + LATE
            own_server.resume()

    def test_retries_have_a_deadline_each(self, own_server: Server) -> None:
        listens(own_server, "a")
        with calling(own_server.url) as app, pytest.raises(RequestTimeout):
            app.request("a", 1, timeout=0.1, retries=2)
        envelopes = own_server.execute("LRANGE", "rt:c:{a}:requests", 0, -1)
        assert len(envelopes) == 3
        assert ['"attempt":2' in envelope for envelope in envelopes] == [False, True, False]
