"""Connections that are killed, cut, swallowed, or lose a reply, while people talk in a room."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.conftest import StartTalk
from tests.faults.troubles import cut_anywhere, drop_replies, each_direction, kill_clients
from tests.kit.faults import Tier
from tests.kit.proxy import Proxy
from tests.kit.servers import Server
from tests.kit.waiting import eventually


@pytest.mark.fault(14, "chat")
def test_all_connections_are_killed_again_and_again(own_server: Server, talk: StartTalk, tier: Tier) -> None:
    with talk() as flowing:
        flowing.lasts(tier(1.5, 30.0), lambda: kill_clients(own_server))
        flowing.flows()


@pytest.mark.fault(16, "chat")
@pytest.mark.fault(19, "chat")
def test_a_cut_at_any_offset(proxy: Proxy, talk: StartTalk, tier: Tier) -> None:
    with talk() as flowing:
        cut_anywhere(proxy, flowing, times=tier(12, 300))


@pytest.mark.fault(17, "chat")
@each_direction
def test_a_network_that_swallows_everything_for_a_while(
    proxy: Proxy, talk: StartTalk, tier: Tier, direction: Any
) -> None:
    """For longer than a lease: who is behind it is taken for lost, and joins again."""
    short = {"ping_interval": 0.7, "connect_timeout": 0.5, "command_timeout": 0.7, "lease": 1.0}
    with talk(tier(short, {"ping_interval": 4.0}), stays=False) as flowing:
        proxy.blackhole(direction)
        flowing.lasts(tier(0.5, 60.0))
        eventually(flowing.nobody_stays, what="an end of those who are cut off")
        proxy.heal()
        flowing.flows()


@pytest.mark.fault(18, "chat")
def test_executed_and_the_reply_dropped_again_and_again(proxy: Proxy, talk: StartTalk, tier: Tier) -> None:
    words = [b"EVAL", b"with id", b"called", b"awaited", b":members", b":log", b":sent:"]
    with talk() as flowing:
        drop_replies(proxy, flowing, words, times=tier(12, 300))
