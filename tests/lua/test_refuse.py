from __future__ import annotations

import pytest

from redis_toolkit import keys
from redis_toolkit._core.scripts import REFUSE
from tests.kit.servers import Server
from tests.lua.run import all_keys, expires_within, run

REPLIES = keys.reply("orders", "r1")
TTL = 60_000


@pytest.mark.fault(25, "requests")
@pytest.mark.parametrize("there", [[], ["first"]])
def test_errors_are_pushed_in_order_when_memory_is_full(server: Server, there: list[str]) -> None:
    for reply in there:
        server.execute("RPUSH", REPLIES, reply)
    server.execute("CONFIG", "SET", "maxmemory", "1")
    try:
        assert run(server, REFUSE, [REPLIES], TTL, "one", "two") == 2
    finally:
        server.execute("CONFIG", "SET", "maxmemory", "0")
    assert server.execute("LRANGE", REPLIES, 0, -1) == [*there, "one", "two"]
    assert expires_within(server, REPLIES, TTL)
    assert all_keys(server) == {REPLIES}
