"""The listener of one process: confirmed before it is ready, one gap for each interruption, a role that
can be taken over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from redis_toolkit import App, PermissionDenied, ServerUnreachable, keys
from redis_toolkit._core.connection import Connections
from redis_toolkit.message import Gap
from redis_toolkit.settings import Settings
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.lane import Lane
from redis_toolkit.worker.listener import Listener
from tests.kit.ports import HOST, free_port
from tests.kit.proxy import Proxy
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.fakes import handler_of, no_threads_left
from tests.worker.programs import subscribers

SERVE = keys.serve("add")


class Rig:
    """A listener with a lane for "news" and "n*", and one for "all" that every process has."""

    def __init__(self, url: str, settings: Settings, *, listening: bool = True) -> None:
        self.got: list[Any] = []
        self.gaps: list[Gap] = []
        handlers = [
            handler_of(self.got.append, "news", "n*"),
            handler_of(self.got.append, "all", every_worker=True),
        ]
        self.lanes = [Lane(handler, settings, self.gaps.append, Counters()) for handler in handlers]
        self.listener = Listener(
            Connections(url), settings, self.lanes, [SERVE], self.gaps.append, listening=listening
        )

    def close(self) -> None:
        self.listener.stop()
        for lane in self.lanes:
            assert lane.stop(time.monotonic() + 30)


PATIENT = Settings(ping_interval=30, reconnect_cap=0.2)
"""A busy machine is not taken for a dead connection."""
IMPATIENT = Settings(ping_interval=0.5, reconnect_cap=0.2)


@pytest.fixture
def rig(bus: Server) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def new(url: str = bus.url, settings: Settings = PATIENT, *, start: bool = True, **how: Any) -> Rig:
        rig = Rig(url, settings, **how)
        if start:
            rig.listener.start()
            made.append(rig)
        return rig

    with no_threads_left("rt-"):
        yield new
        for one in made:
            one.close()


@pytest.fixture
def proxy(bus: Server) -> Iterator[Proxy]:
    with Proxy(HOST, bus.port) as proxy:
        yield proxy


def hears_again(rig: Rig, client: App) -> None:
    def look() -> bool:
        client.publish("news", "again")
        return "again" in rig.got

    eventually(look, what="live events")


def test_everything_is_confirmed_when_it_has_started(rig: Callable[..., Rig], client: App) -> None:
    one = rig()
    assert one.listener.confirmed
    assert client.publish("news", 1) == 2  # by name and by glob
    assert client.publish("nothing", 2) == 1
    assert client.publish("all", 3) == 1
    eventually(lambda: sorted(one.got) == [1, 2, 3], what="each of them once")
    assert one.gaps == []


def test_internal_channels_are_heard_without_the_role_and_from_the_start(bus: Server, proxy: Proxy) -> None:
    heard: list[bytes | None] = []
    internal = [("rt:x", heard.append), ("rt:y", lambda _: None)]
    listener = Listener(
        Connections(proxy.url), PATIENT, [], [SERVE], lambda _: None, listening=False, internal=internal
    )
    with no_threads_left("rt-"):
        listener.start()
        try:
            assert heard == [None]  # subscribed: what was said before may have been missed
            bus.execute("PUBLISH", "rt:x", "one")
            bus.execute("PUBLISH", "rt:y", "other")
            eventually(lambda: heard == [None, b"one"])
            proxy.rst()
            eventually(lambda: heard == [None, b"one", None])
            bus.execute("PUBLISH", "rt:x", "two")
            eventually(lambda: heard[-1] == b"two")
        finally:
            listener.stop()


def test_it_waits_for_the_confirmation(rig: Callable[..., Rig], bus: Server, proxy: Proxy) -> None:
    proxy.delay(0.1)
    one = rig(proxy.url)
    assert subscribers(bus, "news") == subscribers(bus, SERVE) == 1
    assert one.listener.confirmed


def test_without_the_role_it_hears_only_what_every_worker_hears(
    rig: Callable[..., Rig], bus: Server, client: App
) -> None:
    one = rig(listening=False)
    assert client.publish("news", 1) == 0
    assert client.publish("all", 2) == 1
    assert subscribers(bus, SERVE) == 1
    eventually(lambda: one.got == [2], what="the event for all")


def test_it_takes_the_role_and_reports_what_was_missed(rig: Callable[..., Rig], client: App) -> None:
    one = rig(listening=False)
    one.listener.listen(1000.0, "the one before ended")
    assert one.listener.wait_confirmed(30)
    assert client.publish("news", 1) == 2
    eventually(lambda: one.got == [1], what="the event")
    [gap] = one.gaps
    assert (gap.started, gap.reason, gap.dropped) == (1000.0, "the one before ended", None)
    assert set(gap.channels) >= {"news", "n*"}
    one.listener.listen(2000.0, "told twice")
    assert client.publish("news", 2) == 2
    eventually(lambda: one.got == [1, 2], what="the event, once")
    assert len(one.gaps) == 1


def test_the_first_listener_reports_no_gap(rig: Callable[..., Rig], client: App) -> None:
    one = rig(listening=False)
    one.listener.listen(None, "")
    assert one.listener.wait_confirmed(30)
    assert client.publish("news", 1) == 2
    assert one.gaps == []


def test_the_role_is_kept_when_it_was_given_without_a_connection(
    rig: Callable[..., Rig], proxy: Proxy, client: App
) -> None:
    one = rig(proxy.url, listening=False)
    proxy.refuse()
    proxy.rst()
    eventually(lambda: not one.listener.confirmed, what="the loss")
    one.listener.listen(1000.0, "the one before ended")
    proxy.accept()
    hears_again(one, client)
    [gap] = one.gaps
    assert gap.started == 1000.0


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_lost_connection_is_one_gap(rig: Callable[..., Rig], proxy: Proxy, client: App, how: str) -> None:
    one = rig(proxy.url)
    before = time.time()
    getattr(proxy, how)()
    hears_again(one, client)
    [gap] = one.gaps
    assert gap.started <= gap.ended
    assert gap.ended >= before
    assert set(gap.channels) == {"news", "n*", "all"}


def test_a_refused_reconnect_is_still_one_gap(rig: Callable[..., Rig], proxy: Proxy, client: App) -> None:
    one = rig(proxy.url)
    proxy.refuse()
    proxy.rst()
    eventually(lambda: not one.listener.confirmed, what="the loss")
    proxy.accept()
    hears_again(one, client)
    assert len(one.gaps) == 1


@pytest.mark.parametrize("direction", ["up", "down", "both"])
def test_a_silent_connection_is_given_up_and_reported(
    rig: Callable[..., Rig], proxy: Proxy, client: App, direction: Any
) -> None:
    one = rig(proxy.url, IMPATIENT)
    proxy.blackhole(direction)
    eventually(lambda: not one.listener.confirmed, what="the loss")
    proxy.heal()
    hears_again(one, client)
    assert "no sign of life" in one.gaps[0].reason
    assert len(one.gaps) == 1


def test_an_idle_connection_that_answers_pings_is_kept(
    rig: Callable[..., Rig], bus: Server, client: App
) -> None:
    def pings() -> int:
        return int(bus.client().info("commandstats").get("cmdstat_ping", {"calls": 0})["calls"])

    one = rig(settings=IMPATIENT)
    before = pings()
    eventually(lambda: pings() > before + 2, what="pings")
    assert client.publish("news", 1) == 2
    assert one.gaps == []


def test_it_unsubscribes_when_it_stops(bus: Server, client: App) -> None:
    one = Rig(bus.url, PATIENT)
    one.listener.start()
    client.publish_many("news", range(100))
    one.listener.stop()
    assert not one.listener.confirmed
    eventually(lambda: subscribers(bus, "news") == subscribers(bus, SERVE) == 0, what="the end")
    assert client.publish("news", 101) == 0
    assert all(lane.stop(time.monotonic() + 30) for lane in one.lanes)
    assert one.got == list(range(100))  # sent before the stop, so received before its end
    assert one.gaps == []


def test_it_stops_without_a_server(bus: Server, proxy: Proxy) -> None:
    one = Rig(proxy.url, PATIENT)
    one.listener.start()
    proxy.refuse()
    proxy.rst()
    eventually(lambda: not one.listener.confirmed, what="the loss")
    with no_threads_left("rt-listener"):
        one.close()
    assert one.gaps == []


def test_a_server_that_is_not_there_is_said_at_the_start(rig: Callable[..., Rig]) -> None:
    with pytest.raises(ServerUnreachable, match="cannot reach"):
        rig(f"redis://{HOST}:{free_port()}/0", start=False).listener.start()


@pytest.mark.fault(35, "events")
def test_a_channel_that_is_not_allowed_is_said_at_the_start(rig: Callable[..., Rig], bus: Server) -> None:
    bus.execute("ACL", "SETUSER", "some", "on", ">secret", "~*", "+@all", "resetchannels", "&other")
    try:
        url = bus.url.replace("redis://", "redis://some:secret@")
        with pytest.raises(PermissionDenied):
            rig(url, start=False).listener.start()
    finally:
        bus.execute("ACL", "DELUSER", "some")
