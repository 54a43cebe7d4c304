"""A flood of messages from one bare socket, packed beforehand, so that no publisher is the bottleneck.

Rule: the flood leaves room for nobody to be cut off: it stays below the buffers that the servers grant.
"""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

import hiredis

__all__ = ["flood_nats", "flood_redis"]

HOST = "127.0.0.1"


def flood_redis(port: int, channel: str, body: bytes, count: int) -> None:
    """Publish a body ``count`` times on Redis, and wait until the server has taken all of it."""
    publish: tuple[Any, ...] = ("PUBLISH", channel, body)
    packet = hiredis.pack_command(publish)
    with socket.create_connection((HOST, port)) as connection:
        sender = threading.Thread(target=connection.sendall, args=(packet * count,))
        sender.start()  # the replies are read meanwhile: the server stops reading when nobody does
        reader, replies = hiredis.Reader(), 0
        while replies < count:
            reader.feed(connection.recv(1 << 20))
            while reader.gets() is not False:
                replies += 1
        sender.join()


def flood_nats(port: int, channel: str, body: bytes, count: int) -> None:
    """Publish a body ``count`` times on NATS, and wait until the server has taken all of it."""
    packet = b"PUB %b %d\r\n%b\r\n" % (channel.encode(), len(body), body)
    hello = {"verbose": False, "pedantic": False, "lang": "raw", "version": "0"}
    with socket.create_connection((HOST, port)) as connection:
        connection.recv(65536)  # INFO
        connection.sendall(b"CONNECT " + json.dumps(hello).encode() + b"\r\n")
        connection.sendall(packet * count + b"PING\r\n")
        while not connection.recv(65536).endswith(b"PONG\r\n"):
            pass
