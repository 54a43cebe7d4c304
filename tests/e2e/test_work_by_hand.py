"""Clients with only a Redis library submit tasks, wait for them and consume groups, as Protocol says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from redis_toolkit import App
from redis_toolkit._core import scripts
from redis_toolkit.patterns import TaskQueue
from tests.e2e.conftest import MakeApp
from tests.kit.servers import Server
from tests.kit.waiting import eventually

Q = "rt:q:{sums}:"


def envelope(name: str, **data: Any) -> str:
    return json.dumps({"id": name, "task": "add", "data": data})


@pytest.fixture
def sums(app: App) -> TaskQueue:
    queue = TaskQueue("sums", app=app)
    queue.task(name="add")(lambda a, b: a + b)
    return queue


def test_a_task_that_is_due_later(server: Server, sums: TaskQueue) -> None:
    client: Any = server.client()
    with sums:
        due = int(client.time()[0]) * 1000 + 50
        with client.pipeline(transaction=True) as pipe:
            pipe.hset(Q + "bodies", "later", "high 1 " + envelope("later", a=1, b=2))
            pipe.zadd(Q + "delayed", {"later": due})
            pipe.publish(Q + "due", due)
            pipe.execute()
        assert sums.handle("later").result(30) == 3
        assert json.loads(client.hget(Q + "task:later", "reply")) == {"id": "later", "data": 3}


def test_waiting_for_a_task_that_another_has_submitted(server: Server, sums: TaskQueue) -> None:
    client: Any = server.client()
    handle = sums.submit("add", {"a": 1, "b": 2})
    assert client.hsetnx(Q + "waiters", handle.id, Q + "reply:me")
    client.pexpire(Q + "waiters", 90_000)
    assert client.hget(Q + f"task:{handle.id}", "state") is None
    with sums:
        _, reply = client.blpop([Q + "reply:me"], timeout=30)
    assert json.loads(reply) == {"id": handle.id, "data": 3}
    assert not client.hexists(Q + "waiters", handle.id)


def test_a_dead_letter_put_back(server: Server, sums: TaskQueue) -> None:
    client: Any = server.client()
    client.xadd(Q + "p:low", {"b": envelope("bad", a=1)})
    with sums:
        eventually(lambda: client.xlen(Q + "dead") == 1)
        [(entry, letter)] = client.xrange(Q + "dead")
        assert (letter["id"], letter["from"], letter["type"]) == ("bad", "low", "add")
        assert letter["reason"] == "mismatched"
        assert set(letter) >= {"b", "error", "traceback", "attempt", "deliveries", "at"}
        client.xadd(Q + f"p:{letter['from']}", {"b": envelope("bad", a=1, b=5)})
        client.xdel(Q + "dead", entry)
        eventually(lambda: client.hget(Q + "task:bad", "state") == "done")
    assert client.xlen(Q + "p:low") == 0


def test_a_group_of_ones_own_beside_another(server: Server, app: App, make_app: MakeApp) -> None:
    client: Any = server.client()
    log, got = "rt:c:{orders}:stream", list[Any]()
    app.on("orders", group="billing")(got.append)
    client.xgroup_create(log, "audit", "$", mkstream=True)
    publisher = make_app(server.url)
    with app:
        publisher.publish("orders", {"id": 7})
        eventually(lambda: got == [{"id": 7}])
        [(_, [(entry, fields)])] = client.xreadgroup("audit", "me", {log: ">"})
        assert fields == {"b": '{"id":7}'}
    trim = (scripts.TRIM.text, 2, log, "rt:c:{orders}:meta", 1000)
    client.eval(*trim)
    assert client.xlen(log) == 1  # one group has not finished it
    assert client.xack(log, "audit", entry) == 1
    client.eval(*trim)
    assert client.xlen(log) == 0
