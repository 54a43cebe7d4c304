from __future__ import annotations

import pytest

from redis_toolkit import keys
from redis_toolkit._core.scripts import SERVE
from tests.kit.servers import Server
from tests.lua.run import LEASE, all_keys, expires_within, run, server_ms

SERVERS = keys.servers("orders")


def scores(server: Server) -> dict[str, int]:
    found = server.execute("ZRANGE", SERVERS, 0, -1)
    return {name: int(server.execute("ZSCORE", SERVERS, name)) for name in found}


def test_the_member_expires_one_lease_from_now_and_the_key_after_two(server: Server) -> None:
    before = server_ms(server)
    run(server, SERVE, [SERVERS], "p1", LEASE)
    after = server_ms(server)

    assert list(scores(server)) == ["p1"]
    assert before + LEASE <= scores(server)["p1"] <= after + LEASE
    assert expires_within(server, SERVERS, 2 * LEASE)
    assert all_keys(server) == {SERVERS}


def test_it_returns_the_servers_clock(server: Server) -> None:
    before = server_ms(server)
    assert before <= int(run(server, SERVE, [SERVERS], "p1", LEASE)) <= server_ms(server)


def test_again_it_renews_the_lease(server: Server) -> None:
    run(server, SERVE, [SERVERS], "p1", LEASE)
    first = scores(server)["p1"]
    run(server, SERVE, [SERVERS], "p1", 9 * LEASE)

    assert scores(server)["p1"] >= first + 8 * LEASE
    assert expires_within(server, SERVERS, 18 * LEASE)


def test_those_whose_lease_ran_out_are_removed_and_others_stay(server: Server) -> None:
    now = server_ms(server)
    server.execute("ZADD", SERVERS, 1, "long dead", now, "just dead", now + 60_000, "alive")

    run(server, SERVE, [SERVERS], "p1", LEASE)

    assert set(scores(server)) == {"alive", "p1"}


@pytest.mark.fault(25, "requests")
def test_it_goes_on_when_memory_is_full(server: Server) -> None:
    server.execute("ZADD", SERVERS, 1, "dead")
    server.execute("CONFIG", "SET", "maxmemory", "1")
    try:
        run(server, SERVE, [SERVERS], "p1", LEASE)
    finally:
        server.execute("CONFIG", "SET", "maxmemory", "0")
    assert set(scores(server)) == {"p1"}
