"""The heartbeat: on the registries for as long as it lives, and in time with the server's clock."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from redis_toolkit import KeyConflict, ServerUnreachable, keys
from redis_toolkit._core.connection import Connections
from redis_toolkit.settings import Settings
from redis_toolkit.worker.heartbeat import Heartbeat, ServerClock
from tests.kit.ports import HOST, free_port
from tests.kit.proxy import Proxy
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.fakes import no_threads_left

SERVERS = keys.servers("add")


@pytest.fixture(autouse=True)
def all_threads_end() -> Iterator[None]:
    with no_threads_left("rt-heartbeat"):
        yield


def heartbeat(url: str, lease: float = 60.0, clock: ServerClock | None = None) -> Heartbeat:
    return Heartbeat(
        "me", Connections(url), Settings(lease=lease), clock or ServerClock(), ["add", "sub"], ["add:*"]
    )


def server_ms(server: Server) -> float:
    seconds, micros = server.execute("TIME")
    return int(seconds) * 1000 + int(micros) / 1000


def test_it_registers_for_one_lease_and_takes_that_back(bus: Server) -> None:
    beating = heartbeat(bus.url)
    before = server_ms(bus)
    beating.start()
    after = server_ms(bus)
    for key, member in (
        (SERVERS, "me"),
        (keys.servers("sub"), "me"),
        (keys.servers("add:*"), "me"),
        (keys.patterns(), "add:*"),
    ):
        assert before - 1 <= float(bus.execute("ZSCORE", key, member)) - 60_000 <= after
        assert 60_000 < bus.execute("PTTL", key) <= 120_000
    bus.execute("RPUSH", keys.requests("add"), "one", "two")
    bus.execute("RPUSH", keys.requests("add:*"), "three")
    assert beating.stop() == 3
    assert bus.execute("EXISTS", SERVERS, keys.servers("sub"), keys.servers("add:*")) == 0


def test_the_others_of_a_channel_stay_when_it_leaves(bus: Server) -> None:
    bus.execute("ZADD", SERVERS, int(server_ms(bus)) + 60_000, "other")
    bus.execute("ZADD", SERVERS, int(server_ms(bus)) - 1, "dead")
    beating = heartbeat(bus.url)
    beating.start()
    assert sorted(bus.execute("ZRANGE", SERVERS, 0, -1)) == ["me", "other"]
    beating.stop()
    assert bus.execute("ZRANGE", SERVERS, 0, -1) == ["other"]


def grows(server: Server, times: int = 2) -> None:
    """Wait until the lease has been renewed several times."""
    seen: set[str] = set()

    def look() -> bool:
        seen.add(str(server.execute("ZSCORE", SERVERS, "me")))
        return len(seen - {"None"}) > times

    eventually(look, what="renewals of the lease")


def test_it_renews_its_lease(bus: Server) -> None:
    beating = heartbeat(bus.url, lease=1.2)
    beating.start()
    grows(bus)
    beating.stop()


@pytest.mark.fault(11, "requests")
def test_it_registers_again_after_a_flush(bus: Server) -> None:
    beating = heartbeat(bus.url, lease=1.2)
    beating.start()
    bus.execute("FLUSHALL")
    bus.execute("SCRIPT", "FLUSH")
    grows(bus)
    beating.stop()


@pytest.mark.fault(14, "requests")
def test_it_survives_lost_connections(bus: Server) -> None:
    with Proxy(HOST, bus.port) as proxy:
        beating = heartbeat(proxy.url, lease=1.2)
        beating.start()
        proxy.refuse()
        proxy.rst()
        bus.execute("DEL", SERVERS)
        proxy.accept()
        grows(bus)
        proxy.blackhole()
        bus.execute("DEL", SERVERS)
        proxy.heal()
        grows(bus)
        beating.stop()


def test_when_it_cannot_leave_its_lease_ends(bus: Server) -> None:
    with Proxy(HOST, bus.port) as proxy:
        beating = heartbeat(proxy.url, lease=1.2)
        beating.start()
        proxy.refuse()
        proxy.rst()
        assert beating.stop() == 0
    eventually(lambda: bus.execute("EXISTS", SERVERS) == 0, what="end of the lease")


def test_a_start_that_fails_says_why_and_leaves_nothing() -> None:
    with pytest.raises(ServerUnreachable, match="cannot reach"):
        heartbeat(f"redis://{HOST}:{free_port()}/0").start()


@pytest.mark.fault(34, "requests")
def test_a_foreign_value_in_the_registry_is_named(bus: Server) -> None:
    bus.execute("SET", SERVERS, "foreign")
    with pytest.raises(KeyConflict):
        heartbeat(bus.url).start()


def test_the_clock_knows_the_servers_time() -> None:
    clock = ServerClock()
    assert not clock.has_passed(0)  # unknown
    now = time.monotonic()
    clock.update(5_000_000, now - 1.0, now + 1.0)  # the answer is taken to be from the middle
    assert clock.has_passed(4_999_000)
    assert not clock.has_passed(5_000_000 + 3_600_000)
    clock.update(5_000_000, now - 3600.0, now - 3600.0)  # an hour ago: it is later now
    assert clock.has_passed(5_000_000 + 3_599_000)
    assert not clock.has_passed(5_000_000 + 3_600_000 + 600_000)
    clock.update(1_000, now, now)  # the server's clock was set back
    assert not clock.has_passed(4_999_000)


def test_a_beat_sets_the_clock(bus: Server) -> None:
    clock = ServerClock()
    beating = heartbeat(bus.url, clock=clock)
    beating.start()
    now = server_ms(bus)
    assert clock.has_passed(int(now) - 60_000)
    assert not clock.has_passed(int(now) + 60_000)
    beating.stop()
