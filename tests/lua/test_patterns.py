from __future__ import annotations

from redis_toolkit import keys
from redis_toolkit._core.scripts import PATTERNS, SERVE
from tests.kit.servers import Server
from tests.lua.run import LEASE, run, server_ms


def patterns(server: Server) -> list[str]:
    found = run(server, PATTERNS, [keys.patterns()])
    assert isinstance(found, list)
    return found


def test_none(server: Server) -> None:
    assert patterns(server) == []


def test_those_with_a_lease(server: Server) -> None:
    run(server, SERVE, [keys.patterns()], "users:*", LEASE)
    run(server, SERVE, [keys.patterns()], "a b*", LEASE)
    assert set(patterns(server)) == {"users:*", "a b*"}


def test_not_those_whose_lease_ran_out(server: Server) -> None:
    now = server_ms(server)
    server.execute("ZADD", keys.patterns(), 1, "old:*", now, "just:*", now + 60_000, "new:*")
    assert patterns(server) == ["new:*"]


def test_it_only_reads(server: Server) -> None:
    server.execute("ZADD", keys.patterns(), 1, "old:*")
    patterns(server)
    assert server.execute("ZCARD", keys.patterns()) == 1
