"""Port numbers for servers that are going to be stopped and started on the same port.

Rule: never from the range that the kernel takes outgoing ports from. While a server is down, a
client that keeps connecting to a port of that range is given it as its own end sooner or later,
is then connected to itself, and the server cannot have its port back.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

HOST = "127.0.0.1"
LOWEST = 20_000
FALLBACK_END = 32_768

_chance = random.SystemRandom()


def _end_of_range() -> int:
    try:
        first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:  # not Linux
        return FALLBACK_END
    return first_ephemeral if first_ephemeral > LOWEST + 1000 else FALLBACK_END


def listen(port: int, backlog: int = 1024) -> socket.socket:
    """Return a non-blocking socket that listens on `port` of the loopback address."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, port))
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def free_port() -> int:
    """Return a port on which nobody listened a moment ago; random, so parallel runs rarely meet."""
    for _ in range(200):
        port = _chance.randrange(LOWEST, _end_of_range())
        try:
            listen(port).close()
        except OSError:
            continue
        return port
    raise RuntimeError(f"no free port from {LOWEST} to {_end_of_range()} on {HOST}")
