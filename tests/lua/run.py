"""Running one of our scripts on a server, as a driver would."""

from __future__ import annotations

from typing import Any

from redis_toolkit._core.flow import Arg
from redis_toolkit._core.scripts import Script
from tests.kit.servers import Server

LEASE = 10_000
SOON = 30_000  # ms that a slow machine may take between a script and our look at its traces


def run(server: Server, script: Script, keys: list[str], *args: Arg) -> Any:
    return server.execute("EVAL", script.text, len(keys), *keys, *args)


def server_ms(server: Server) -> int:
    seconds, micros = server.execute("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


def all_keys(server: Server) -> set[str]:
    return set(server.execute("KEYS", "*"))


def expires_within(server: Server, key: str, ms: int) -> bool:
    """Return whether a key has a TTL of `ms`, less the time that has passed since."""
    return ms - SOON <= int(server.execute("PTTL", key)) <= ms
