from __future__ import annotations

import pytest

from redis_toolkit import keys
from redis_toolkit._core.scripts import WITHDRAW
from tests.kit.servers import Server
from tests.lua.run import all_keys, run

REQUESTS, SERVERS = keys.requests("orders"), keys.servers("orders")


def withdraw(server: Server, process: str = "p1") -> int:
    return int(run(server, WITHDRAW, [SERVERS, REQUESTS], process))


def test_it_takes_back_one_and_leaves_the_others(server: Server) -> None:
    server.execute("ZADD", SERVERS, 10, "p1", 20, "p2")
    assert withdraw(server) == 0
    assert server.execute("ZRANGE", SERVERS, 0, -1) == ["p2"]


def test_the_last_one_takes_the_key_with_it(server: Server) -> None:
    server.execute("ZADD", SERVERS, 10, "p1")
    withdraw(server)
    assert all_keys(server) == set()


@pytest.mark.parametrize("waiting", [1, 3])
def test_it_says_how_many_requests_wait_and_leaves_them(server: Server, waiting: int) -> None:
    items = [f"1 {number}" for number in range(waiting)]
    server.execute("RPUSH", REQUESTS, *items)

    assert withdraw(server) == waiting
    assert server.execute("LRANGE", REQUESTS, 0, -1) == items


def test_twice_or_from_a_stranger_it_does_no_harm(server: Server) -> None:
    server.execute("ZADD", SERVERS, 10, "p1")
    assert withdraw(server, "stranger") == 0
    assert withdraw(server) == withdraw(server) == 0
