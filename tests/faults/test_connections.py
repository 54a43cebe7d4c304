"""Connections that are cut, swallowed, delayed and sliced, while requests and events flow both ways."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.conftest import StartTraffic
from tests.faults.troubles import cut_anywhere, drop_replies, each_direction, kill_clients, seeded
from tests.kit.faults import Tier
from tests.kit.proxy import Proxy
from tests.kit.servers import Server


@pytest.mark.fault(14, "events", "requests")
def test_all_connections_are_killed_again_and_again(
    own_server: Server, traffic: StartTraffic, tier: Tier
) -> None:
    with traffic() as flowing:
        flowing.lasts(tier(2.0, 30.0), lambda: kill_clients(own_server))
        flowing.flows()
        assert flowing.gaps


@pytest.mark.fault(17, "events", "requests")
@each_direction
def test_a_network_that_swallows_everything_for_a_while(
    proxy: Proxy, traffic: StartTraffic, tier: Tier, direction: Any
) -> None:
    short = {"ping_interval": 0.7, "connect_timeout": 0.5}
    with traffic(tier(short, {"ping_interval": 4.0})) as flowing:
        proxy.blackhole(direction)
        flowing.lasts(tier(2.0, 60.0))
        proxy.heal()
        flowing.flows()
        assert flowing.gaps


@pytest.mark.fault(19, "events", "requests")
def test_latency_and_slices_of_a_byte(proxy: Proxy, traffic: StartTraffic, tier: Tier) -> None:
    seed = seeded().randrange(2**32)
    # A connection is made, and a request goes its way, in a few trips of up to 0.9 s.
    with traffic(timeout=10.0) as flowing:
        proxy.slice(1)
        flowing.lasts(tier(0.5, 5.0))
        proxy.delay(tier(0.05, 0.5), tier(0.04, 0.4), seed)
        flowing.lasts(tier(1.0, 15.0))
        proxy.clear()
        flowing.flows()
        assert not flowing.gaps


@pytest.mark.fault(19, "events", "requests")
@pytest.mark.fault(16, "events", "requests")
def test_a_cut_at_any_offset(proxy: Proxy, traffic: StartTraffic, tier: Tier) -> None:
    with traffic() as flowing:
        cut_anywhere(proxy, flowing, times=tier(15, 300))


@pytest.mark.fault(18, "events", "requests")
def test_executed_and_the_reply_dropped_again_and_again(
    proxy: Proxy, traffic: StartTraffic, tier: Tier
) -> None:
    words = [b"EVAL", b"$5\r\nBLPOP", b"LPOP", b"RPUSH", b"news", b"threads", b"coroutines"]
    with traffic() as flowing:
        drop_replies(proxy, flowing, words, times=tier(15, 300))
