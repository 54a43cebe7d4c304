"""FAULTS.md for live events: each interruption is one gap, and everything is subscribed again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from redis_toolkit import App, Gap
from tests.e2e.conftest import MakeApp
from tests.kit.proxy import Proxy
from tests.kit.servers import Server
from tests.kit.waiting import eventually

NAMES = ("exact", "other", "glob:*")


class Listening:
    """An app that listens through a broken network, and what it has heard."""

    def __init__(self, app: App, server: Server) -> None:
        self.app = app
        self.server = server
        self.got: list[Any] = []
        self.gaps: list[Gap] = []
        app.on(*NAMES, requests=False)(self.got.append)
        app.on_gap(self.gaps.append)

    def publish(self, channel: str, body: str) -> int:
        return int(self.server.execute("PUBLISH", channel, body))

    def everything_is_back(self) -> None:
        """Each of the channels delivers again, once."""
        self.got.clear()
        eventually(lambda: [self.publish(name, "0") for name in ("exact", "other", "glob:1")] == [1, 1, 1])
        eventually(self.app.health_check)
        eventually(lambda: len(self.got) >= 3)
        self.publish("exact", "1")
        self.publish("glob:2", "2")
        eventually(lambda: self.got[-2:] == [1, 2])
        assert set(self.got[:-2]) == {0}

    def be_silent_for_pings(self, number: int) -> None:
        """Wait until the reader has asked for some signs of life more, each of which it gets."""

        def pings() -> int:
            return int(self.server.execute("INFO", "commandstats").get("cmdstat_ping", {"calls": 0})["calls"])

        before = pings()
        eventually(lambda: pings() > before + number)

    def gap_number(self, number: int) -> None:
        eventually(lambda: len(self.gaps) == number)

    def one_gap(self, log: pytest.LogCaptureFixture) -> Gap:
        """The interruption has been reported once, in each of the three ways."""
        eventually(lambda: self.gaps)
        assert self.app.counters["gaps"] == 1
        lines = [record.getMessage() for record in log.records if "gap in live events" in record.getMessage()]
        assert len(lines) == 1
        [gap] = self.gaps
        assert set(gap.channels) == set(NAMES)
        assert 0 < gap.started <= gap.ended
        assert gap.dropped is None
        return gap


def fin(proxy: Proxy, listening: Listening) -> None:
    proxy.fin()


def rst(proxy: Proxy, listening: Listening) -> None:
    proxy.rst()


def cut_in_a_message(how: Any) -> Callable[[Proxy, Listening], None]:
    def cut(proxy: Proxy, listening: Listening) -> None:
        proxy.cut_after(100, "down", how)
        listening.publish("exact", '"' + "x" * 10_000 + '"')

    return cut


def client_kill(proxy: Proxy, listening: Listening) -> None:
    listening.server.execute("CLIENT", "KILL", "TYPE", "pubsub")


@pytest.mark.parametrize(
    "fault",
    [fin, rst, cut_in_a_message("fin"), cut_in_a_message("rst"), client_kill],
    ids=["fin", "rst", "fin in a message", "rst in a message", "client kill"],
)
@pytest.mark.fault(16, "events")
def test_a_cut_connection_is_one_gap(
    own_server: Server,
    proxy: Proxy,
    make_app: MakeApp,
    quickly: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    fault: Callable[[Proxy, Listening], None],
) -> None:
    caplog.set_level(logging.INFO, "redis_toolkit")
    listening = Listening(make_app(proxy.url, **quickly), own_server)
    with listening.app:
        listening.publish("exact", '"before"')
        eventually(lambda: listening.got == ["before"])
        fault(proxy, listening)
        listening.one_gap(caplog)
        assert listening.got == ["before"]  # half a message is none
        listening.everything_is_back()
        assert len(listening.gaps) == 1


@pytest.mark.parametrize("direction", ["up", "down", "both"])
@pytest.mark.fault(17, "events")
def test_a_dead_network_is_noticed_and_is_one_gap(
    own_server: Server,
    proxy: Proxy,
    make_app: MakeApp,
    quickly: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    direction: Any,
) -> None:
    listening = Listening(
        make_app(proxy.url, **{**quickly, "ping_interval": 0.7, "connect_timeout": 0.5}), own_server
    )
    with listening.app:
        proxy.blackhole(direction)
        eventually(lambda: "not subscribed, trying again" in caplog.text)
        proxy.heal()
        gap = listening.one_gap(caplog)
        listening.everything_is_back()
        listening.be_silent_for_pings(2)
        assert len(listening.gaps) == 1
    assert "no sign of life" in gap.reason


@pytest.mark.fault(11, "events")
def test_a_killed_server_is_one_gap_however_long_it_is_away(
    own_server: Server, make_app: MakeApp, quickly: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "redis_toolkit")  # what is said again is said there
    listening = Listening(make_app(own_server.url, **quickly), own_server)
    with listening.app:
        own_server.kill()
        eventually(lambda: caplog.text.count("not subscribed, trying again") >= 4)
        assert not listening.gaps  # it has not ended
        own_server.start()
        listening.one_gap(caplog)
        listening.everything_is_back()
        assert len(listening.gaps) == 1


@pytest.mark.fault(16, "events")
def test_each_interruption_is_a_gap_of_its_own(
    own_server: Server, proxy: Proxy, make_app: MakeApp, quickly: dict[str, Any]
) -> None:
    listening = Listening(make_app(proxy.url, **quickly), own_server)
    with listening.app:
        for number in range(1, 6):
            proxy.rst()
            listening.gap_number(number)
        listening.everything_is_back()
        assert listening.app.counters == {"gaps": 5}
    starts = [gap.started for gap in listening.gaps]
    assert starts == sorted(starts)


def test_a_failing_gap_callback_disturbs_nothing(
    own_server: Server,
    proxy: Proxy,
    make_app: MakeApp,
    quickly: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make_app(proxy.url, **quickly)

    @app.on_gap
    def fail(gap: Gap) -> None:
        raise ValueError("callback")

    listening = Listening(app, own_server)
    with app:
        proxy.fin()
        listening.one_gap(caplog)
        listening.everything_is_back()
    assert "on_gap callback" in caplog.text


@pytest.mark.fault(19, "events")
def test_a_slow_and_sliced_network_changes_nothing(
    own_server: Server, proxy: Proxy, make_app: MakeApp, quickly: dict[str, Any]
) -> None:
    listening = Listening(make_app(proxy.url, **quickly), own_server)
    proxy.slice(1)
    proxy.delay(0.01, 0.009, seed=7)
    with listening.app:
        client = own_server.client()
        for number in range(300):
            client.publish(("exact", "other", "glob:x")[number % 3], number)
        eventually(lambda: len(listening.got) == 300)
    assert listening.got == list(range(300))
    assert listening.app.counters == {}


def test_start_says_that_nobody_is_there(own_server: Server, make_app: MakeApp) -> None:
    app = make_app(own_server.url, connect_timeout=1)
    app.on("exact")(lambda data: None)
    own_server.kill()
    with pytest.raises(ConnectionError, match="cannot reach"):
        app.start()
    own_server.start()
    with app:
        assert app.publish("exact", 1) == 1
