"""A server that forgets everything while people talk in a room, and garbage in what it keeps."""

from __future__ import annotations

import pytest

from tests.faults.conftest import StartTalk
from tests.kit.faults import Tier
from tests.kit.servers import Server


@pytest.mark.fault(11, "chat")
@pytest.mark.parametrize("how", ["restarted", "flushed"])
def test_what_it_forgot_is_reported_and_who_stays_is_there_again(
    own_server: Server, talk: StartTalk, tier: Tier, how: str
) -> None:
    """Who was not cut off while it forgot has heard all, and need not be told of a gap."""
    with talk({"lease": 2.0}, whole=False) as flowing:
        for turn in range(1, tier(2, 20) + 1):
            if how == "restarted":
                own_server.restart()
            else:
                own_server.execute("FLUSHALL")
            flowing.flows()
            for seat in flowing.heard:
                most = range(turn, turn + 1) if how == "restarted" else range(turn + 1)
                assert len(seat.gaps) in most, seat.gaps
