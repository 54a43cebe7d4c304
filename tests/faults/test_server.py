"""A server that forgets, stands still, loads, is a replica, or is full, while requests and events flow."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from redis_toolkit import RemoteError, StoreFull
from tests.e2e.conftest import MakeApp, released
from tests.faults.conftest import StartTraffic
from tests.faults.troubles import full, not_serving, replica_of_nobody
from tests.kit.faults import Tier
from tests.kit.servers import Server
from tests.kit.waiting import eventually

# -- it forgets ------------------------------------------------------------------------------------------


@pytest.mark.fault(11, "events", "requests")
def test_a_restart_without_persistence(own_server: Server, traffic: StartTraffic, tier: Tier) -> None:
    with traffic() as flowing:
        for _ in range(tier(2, 20)):
            own_server.kill()
            flowing.lasts(tier(0.3, 1.0))
            own_server.start()
            flowing.flows()
        assert len(flowing.gaps) >= 2


@pytest.mark.fault(11, "events", "requests")
def test_everything_is_flushed_again_and_again(own_server: Server, traffic: StartTraffic, tier: Tier) -> None:
    with traffic() as flowing:
        flowing.lasts(tier(1.5, 15.0), lambda: own_server.execute("FLUSHALL"))
        flowing.flows()
        assert not flowing.gaps
        assert "NoResponders" not in flowing.outcomes


# -- it stands still -------------------------------------------------------------------------------------


@pytest.mark.fault(15, "events", "requests")
def test_all_clients_are_paused(own_server: Server, traffic: StartTraffic, tier: Tier) -> None:
    with traffic() as flowing:
        own_server.execute("CLIENT", "PAUSE", int(tier(1.5, 5.0) * 1000))
        flowing.lasts(tier(1.5, 5.0))
        flowing.flows()


@pytest.mark.fault(15, "events", "requests")
def test_the_process_of_the_server_stands_still(
    own_server: Server, traffic: StartTraffic, tier: Tier
) -> None:
    with traffic({"ping_interval": tier(15.0, 4.0)}) as flowing:
        own_server.pause()
        try:
            flowing.lasts(tier(1.5, 20.0))
        finally:
            own_server.resume()
        flowing.flows()


# -- it does not serve now -------------------------------------------------------------------------------


@pytest.mark.fault(24, "events", "requests")
@pytest.mark.parametrize("state", ["READONLY", "MASTERDOWN", "LOADING"])
def test_a_server_that_does_not_serve_now(
    own_server: Server, traffic: StartTraffic, tier: Tier, state: str
) -> None:
    seconds = tier(1.0, 10.0)
    with traffic() as flowing:
        with not_serving(own_server, state, seconds):
            flowing.lasts(seconds)
        flowing.flows()


@pytest.mark.fault(24, "requests")
@pytest.mark.parametrize("stale", ["yes", "no"])
def test_a_request_waits_until_it_serves_again(
    own_server: Server, make_app: MakeApp, quickly: dict[str, Any], every_style: None, stale: str
) -> None:
    app, caller = make_app(own_server.url, **quickly), make_app(own_server.url, **quickly)
    app.on("echo")(lambda data: data)
    with app:
        assert caller.request("echo", 1, timeout=30) == 1
        with replica_of_nobody(own_server, stale):
            end = threading.Timer(0.1, own_server.execute, ("REPLICAOF", "NO", "ONE"))
            end.start()
            assert caller.request("echo", 2, timeout=30) == 2
            end.join()


# -- it is full ------------------------------------------------------------------------------------------


@pytest.mark.fault(25, "events", "requests")
def test_a_full_server_refuses_requests_and_passes_events_on(
    own_server: Server, make_app: MakeApp, quickly: dict[str, Any], every_style: None
) -> None:
    app, caller = make_app(own_server.url, **quickly), make_app(own_server.url, **quickly)
    heard: list[int] = []
    app.on("echo")(lambda data: data)
    app.on("news")(heard.append)
    with app:
        assert caller.request("echo", 1, timeout=30) == 1
        with full(own_server):
            with pytest.raises(StoreFull, match="OOM"):
                caller.request("echo", 2, timeout=60)
            many = caller.request_many("echo", [1, 2], timeout=60, return_exceptions=True)
            assert [type(outcome) for outcome in many] == [StoreFull] * 2
            assert caller.publish("news", 7) == 1
            eventually(lambda: heard == [7])
            assert app.health_check()
        assert caller.request("echo", 3, timeout=30) == 3


@pytest.mark.fault(25, "requests")
def test_the_caller_hears_of_a_reply_that_does_not_fit(
    own_server: Server, make_app: MakeApp, quickly: dict[str, Any], every_style: None
) -> None:
    app, caller = make_app(own_server.url, **quickly), make_app(own_server.url, **quickly)
    entered, go_on = threading.Semaphore(0), threading.Event()
    many = 6

    @app.on("fills")
    def fills(data: int) -> str:
        entered.release()
        assert go_on.wait(60)
        return "x" * data

    def fill() -> None:
        for _ in range(many):
            assert entered.acquire(timeout=60)
        own_server.execute("CONFIG", "SET", "maxmemory", "1")
        go_on.set()

    with released(go_on), app:
        filler = threading.Thread(target=fill)
        filler.start()
        started = time.monotonic()
        try:
            outcomes = caller.request_many("fills", [10, 100_000] * 3, timeout=60, return_exceptions=True)
        finally:
            filler.join(60)
            own_server.execute("CONFIG", "SET", "maxmemory", "0")
        assert time.monotonic() - started < 30  # long before the timeout
        assert [type(outcome) for outcome in outcomes] == [RemoteError] * many
        assert {outcome.type for outcome in outcomes} == {"StoreFull"}
        assert all("maxmemory" in outcome.message for outcome in outcomes)
        assert app.counters["undelivered"] == many
        assert caller.request("fills", 3, timeout=30) == "xxx"
