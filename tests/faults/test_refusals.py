"""What the server refuses for another reason than memory: missing rights, foreign values, a full disk.

For want of memory a script may push an error in place of a reply (see ``test_server.py``). These refuse
whatever a worker could write there, so the caller has its timeout; that is counted and logged.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from redis_toolkit import App, StoreFull, keys
from tests.e2e.conftest import MakeApp, released
from tests.kit.servers import Server
from tests.kit.waiting import eventually

REPLIES = keys.reply("orders", "r1")
INBOX = "rt:i:{somebody.1}"


def no_right(server: Server) -> None:
    server.execute("ACL", "SETUSER", "worker", "-rpush")


def no_key(server: Server) -> None:
    server.execute(
        "ACL", "SETUSER", "worker", "resetkeys", "~rt:c:{orders}:requests", "~rt:c:{orders}:servers"
    )


def foreign_value(server: Server) -> None:
    for reply_to in (REPLIES, INBOX):
        server.execute("SET", reply_to, "foreign")


def full_disk(server: Server) -> None:
    """A directory in place of the file: nothing can be saved, and the server refuses writes."""
    server.execute("CONFIG", "SET", "save", "3600 1")
    (server.directory / "dump.rdb").mkdir()
    server.execute("BGSAVE")
    asking = server.client()
    eventually(lambda: asking.info("persistence")["rdb_last_bgsave_status"] == "err", what="a failed save")


def room_again(server: Server) -> None:
    (server.directory / "dump.rdb").rmdir()
    server.execute("CONFIG", "SET", "save", "")


REASONS: list[Any] = [
    pytest.param(no_right, "NOPERM", "ACL SETUSER", marks=pytest.mark.fault(35, "requests"), id="right"),
    pytest.param(no_key, "NOPERM", "ACL SETUSER", marks=pytest.mark.fault(35, "requests"), id="key"),
    pytest.param(foreign_value, "WRONGTYPE", "foreign", marks=pytest.mark.fault(34, "requests"), id="type"),
    pytest.param(full_disk, "MISCONF", "disk", marks=pytest.mark.fault(27, "requests"), id="disk"),
]


@pytest.mark.parametrize(("refuse", "code", "way_out"), REASONS)
@pytest.mark.parametrize("handlers", ["def", "async def"])
def test_a_reply_that_cannot_be_sent_is_counted_and_logged(
    own_server: Server,
    make_app: MakeApp,
    quickly: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    refuse: Callable[[Server], None],
    code: str,
    way_out: str,
    handlers: str,
) -> None:
    own_server.execute("ACL", "SETUSER", "worker", "on", ">pw", "~*", "&*", "+@all")
    app = make_app(own_server.url.replace("redis://", "redis://worker:pw@"), **quickly)
    entered, go_on = threading.Semaphore(0), threading.Event()

    def wait(data: int) -> int:
        entered.release()
        assert go_on.wait(60)
        return data

    async def wait_later(data: int) -> int:
        entered.release()
        assert await asyncio.to_thread(go_on.wait, 60)
        return data

    app.on("orders", events=False)(wait if handlers == "def" else wait_later)
    with released(go_on), app:
        for reply_to in (REPLIES, INBOX):
            request = {"id": reply_to, "reply_to": reply_to, "data": 1}
            own_server.execute("RPUSH", keys.requests("orders"), f"0 {json.dumps(request)}")
            assert entered.acquire(timeout=30)
        refuse(own_server)
        go_on.set()
        eventually(lambda: app.counters.get("undelivered") == 2, what="the count")
        for reply_to in (REPLIES, INBOX):
            said = [line for line in caplog.messages if "not delivered" in line and repr(reply_to) in line]
            assert len(said) == 1, caplog.messages
            assert code in said[0]
            assert way_out in said[0]


@pytest.mark.fault(27, "events", "requests")
def test_a_full_disk_refuses_requests_and_passes_events_on(
    own_server: Server, make_app: MakeApp, quickly: dict[str, Any], every_style: None
) -> None:
    app, caller = make_app(own_server.url, **quickly), make_app(own_server.url, **quickly)
    heard: list[int] = []
    app.on("orders")(lambda data: data)
    app.on("news")(heard.append)
    with app:
        full_disk(own_server)
        with pytest.raises(StoreFull, match="disk"):
            caller.request("orders", 1, timeout=60)
        assert caller.publish("news", 7) == 1
        eventually(lambda: heard == [7], what="the event")
        room_again(own_server)
        eventually(lambda: answers(caller), what="an answer")


def answers(caller: App) -> bool:
    [answer] = caller.request_many("orders", [2], timeout=60, return_exceptions=True)
    return bool(answer == 2)
