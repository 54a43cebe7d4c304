"""The floors of tasks and durable events, by redis-py: bodies that are ready, nothing but the commands.

- ``submitter``: one ``XADD`` for each round trip, or a thousand in a pipeline.
- ``worker``: ``XREADGROUP`` of a hundred entries, then one ``XACK`` in the same packet with the next read.
- ``reading_worker``: the same by ``xreadgroup`` and ``xack``, and each body is parsed.
"""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import redis

from benchmarks.actors.conversation import converse, play
from benchmarks.actors.tally import Tally
from benchmarks.actors.timing import one_by_one
from benchmarks.payload import ORDER_JSON

BATCH = 100
AT_ONCE = 1000
GROUP = "floor"


def submitter(url: str, queue: str) -> None:
    """Add entries to a stream."""
    client = redis.Redis.from_url(url, protocol=2)
    connection: Any = client.connection_pool.get_connection()

    def submit(count: int) -> dict[str, float]:
        begun = time.perf_counter()
        for first in range(0, count, AT_ONCE):
            pipeline = client.pipeline(transaction=False)
            for _ in range(min(AT_ONCE, count - first)):
                pipeline.xadd(queue, {"m": ORDER_JSON})
            pipeline.execute()
        return {"calls": count, "per_second": count / (time.perf_counter() - begun)}

    def low_level() -> None:
        connection.send_packed_command(connection.pack_command("XADD", queue, "*", "m", ORDER_JSON))
        connection.read_response()

    converse(submit=submit, one_by_one=lambda count: one_by_one(low_level, count))


def worker(url: str, queue: str, tally: str) -> None:
    """Read entries and acknowledge them."""
    client = redis.Redis.from_url(url, protocol=2)
    connection: Any = client.connection_pool.get_connection()
    client.xgroup_create(queue, GROUP, "0", mkstream=True)
    arrived = Tally(tally).arrived
    read = ("XREADGROUP", "GROUP", GROUP, "one", "COUNT", BATCH, "BLOCK", 1000, "STREAMS", queue, ">")

    def serve() -> None:
        connection.send_packed_command(connection.pack_commands([read]))
        while True:
            found = connection.read_response(timeout=None)
            entries = found[0][1] if found else []
            for _ in entries:
                arrived()
            ids = [entry[0] for entry in entries]
            connection.send_packed_command(
                connection.pack_commands([("XACK", queue, GROUP, *ids), read] if ids else [read])
            )
            if ids:
                connection.read_response()

    threading.Thread(target=serve, daemon=True).start()
    converse()


def reading_worker(url: str, queue: str, tally: str) -> None:
    """Read entries and acknowledge them, as redis-py is commonly used."""
    client: Any = redis.Redis.from_url(url, protocol=2)
    client.xgroup_create(queue, GROUP, "0", mkstream=True)
    arrived = Tally(tally).arrived

    def serve() -> None:
        while True:
            for _, entries in client.xreadgroup(GROUP, "one", {queue: ">"}, count=BATCH, block=1000):
                for _, fields in entries:
                    json.loads(fields[b"m"])
                    arrived()
                client.xack(queue, GROUP, *(entry for entry, _ in entries))

    threading.Thread(target=serve, daemon=True).start()
    converse()


if __name__ == "__main__":
    play(submitter, worker, reading_worker)
