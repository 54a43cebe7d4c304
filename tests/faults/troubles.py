"""The faults that are caused in the same way, whatever flows meanwhile.

Rules: what is caused ends with its function or its ``with``; what is random comes from `seeded`.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.faults.flowing import Flowing
from tests.kit.ports import HOST, free_port
from tests.kit.proxy import Proxy
from tests.kit.servers import Server

each_direction = pytest.mark.parametrize(
    "direction",
    ["both", pytest.param("up", marks=pytest.mark.long), pytest.param("down", marks=pytest.mark.long)],
)


def seeded() -> random.Random:
    """Return a source of random choices whose seed is shown when the test fails."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201
    return random.Random(seed)


# -- connections -----------------------------------------------------------------------------------------


def kill_clients(server: Server) -> None:
    """Have the server close all connections."""
    for kind in ("normal", "pubsub"):
        server.execute("CLIENT", "KILL", "TYPE", kind)


def cut_anywhere(proxy: Proxy, flowing: Flowing, times: int) -> None:
    """Cut connections after some bytes, in some direction and way; afterwards all flows."""
    chance = seeded()
    for _ in range(times):
        offset = chance.choice([chance.randrange(100), chance.randrange(3000)])
        proxy.cut_after(offset, chance.choice(["up", "down"]), chance.choice(["fin", "rst"]))
        flowing.lasts(0.1)
    proxy.clear()
    flowing.flows()


def drop_replies(proxy: Proxy, flowing: Flowing, words: Sequence[bytes], times: int) -> None:
    """Have requests that contain one of these executed and not answered; afterwards all flows."""
    chance = seeded()
    for _ in range(times):
        proxy.drop_reply(chance.choice(words), how=chance.choice(["fin", "rst"]))
        flowing.lasts(0.1)
    proxy.clear()
    flowing.flows()


# -- servers ---------------------------------------------------------------------------------------------


def not_serving(server: Server, state: str, seconds: float) -> AbstractContextManager[None]:
    """Have it be there and refuse what it is asked: ``READONLY``, ``MASTERDOWN``, ``LOADING``."""
    if state == "LOADING":
        return loading(server, seconds)
    return replica_of_nobody(server, "yes" if state == "READONLY" else "no")


@contextmanager
def replica_of_nobody(server: Server, stale: str) -> Iterator[None]:
    """Make it a replica whose master is not there."""
    server.execute("CONFIG", "SET", "replica-serve-stale-data", stale)
    server.execute("REPLICAOF", HOST, free_port())
    yield
    server.execute("REPLICAOF", "NO", "ONE")


@contextmanager
def loading(server: Server, seconds: float) -> Iterator[None]:
    """Let it load its own data again, which takes about so long."""
    for name, value in (("key-load-delay", 1000), ("loading-process-events-interval-bytes", 1024)):
        server.execute("CONFIG", "SET", name, value)
    fill = "for i = 1, ARGV[1] do redis.call('SET', 'rt:filling:' .. i, ARGV[2], 'EX', 600) end"
    server.execute("EVAL", fill, 0, int(seconds * 900), "x" * 100)
    thread = threading.Thread(target=server.execute, args=("DEBUG", "RELOAD"))
    thread.start()
    yield
    thread.join(60)


@contextmanager
def full(server: Server) -> Iterator[None]:
    """Leave it no memory for anything new."""
    server.execute("CONFIG", "SET", "maxmemory", "1")
    yield
    server.execute("CONFIG", "SET", "maxmemory", "0")
