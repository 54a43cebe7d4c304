"""Connections that are killed, cut, swallowed, or lose a reply, while durable work flows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.conftest import StartWork
from tests.faults.test_connections import seeded
from tests.kit.faults import Tier
from tests.kit.proxy import Proxy
from tests.kit.servers import Server


@pytest.mark.fault(14, "durable", "tasks")
def test_all_connections_are_killed_again_and_again(own_server: Server, work: StartWork, tier: Tier) -> None:
    def kill() -> None:
        for kind in ("normal", "pubsub"):
            own_server.execute("CLIENT", "KILL", "TYPE", kind)

    with work() as flowing:
        flowing.lasts(tier(1.5, 30.0), kill)
        flowing.flows()


@pytest.mark.fault(16, "durable", "tasks")
def test_a_cut_at_any_offset(proxy: Proxy, work: StartWork, tier: Tier) -> None:
    chance = seeded()
    with work() as flowing:
        for _ in range(tier(12, 300)):
            offset = chance.choice([chance.randrange(100), chance.randrange(3000)])
            proxy.cut_after(offset, chance.choice(["up", "down"]), chance.choice(["fin", "rst"]))
            flowing.lasts(0.1)
        proxy.clear()
        flowing.flows()


@pytest.mark.fault(17, "durable", "tasks")
@pytest.mark.long
@pytest.mark.parametrize("direction", ["both", "up", "down"])
def test_a_network_that_swallows_everything_for_a_while(
    proxy: Proxy, work: StartWork, direction: Any
) -> None:
    with work({"ping_interval": 4.0}) as flowing:
        proxy.blackhole(direction)
        flowing.lasts(60.0)
        proxy.heal()
        flowing.flows()


@pytest.mark.fault(18, "durable", "tasks")
def test_executed_and_the_reply_dropped_again_and_again(proxy: Proxy, work: StartWork, tier: Tier) -> None:
    chance = seeded()
    with work() as flowing:
        for _ in range(tier(12, 300)):
            what = chance.choice([b"EVAL", b"XREADGROUP", b"XADD", b"orders", b"rt:q:{threads}", b"rt:ack"])
            proxy.drop_reply(what, how=chance.choice(["fin", "rst"]))
            flowing.lasts(0.1)
        proxy.clear()
        flowing.flows()
