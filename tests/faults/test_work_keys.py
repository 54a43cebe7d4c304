"""Somebody deletes the keys of durable work, its groups or consumers, or puts a foreign value there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from redis_toolkit import App, KeyConflict, keys
from redis_toolkit.patterns import ReliableMessaging, TaskQueue
from tests.e2e.conftest import MakeApp, released
from tests.faults.conftest import StartWork
from tests.faults.troubles import seeded
from tests.kit.faults import Tier
from tests.kit.servers import Server
from tests.kit.waiting import eventually

# -- deleted ---------------------------------------------------------------------------------------------


@pytest.mark.fault(13, "durable", "tasks")
@pytest.mark.parametrize("how", ["keys", "groups", "consumers"])
def test_what_is_deleted_again_and_again_is_made_again(
    own_server: Server, work: StartWork, tier: Tier, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("redis_toolkit.worker.janitor.CLEAN", 0.1)
    chance = seeded()

    def delete() -> None:
        names = [str(name) for name in own_server.execute("KEYS", "rt:*")]
        if how == "keys":
            own_server.execute("DEL", chance.choice(names))
            return
        client = own_server.client()
        streams = [name for name in names if client.type(name) == "stream"]
        groups = [(name, group["name"]) for name in streams for group in client.xinfo_groups(name)]
        stream, group = chance.choice(groups)
        if how == "groups":
            client.xgroup_destroy(stream, group)
            return
        for one in client.xinfo_consumers(stream, group):
            client.xgroup_delconsumer(stream, group, one["name"])

    with work(whole=False) as flowing:
        flowing.lasts(tier(1.0, 20.0), delete)
        flowing.flows()


@pytest.mark.fault(13, "durable", "tasks")
def test_what_a_deleted_consumer_had_is_reported_and_tasks_are_put_back(
    own_server: Server,
    make_app: MakeApp,
    quickly: dict[str, Any],
    every_style: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("redis_toolkit.worker.janitor.CLEAN", 0.1)
    app, caller = make_app(own_server.url, **quickly), make_app(own_server.url, **quickly)
    began, ended, go_on = threading.Semaphore(0), list[Any](), threading.Event()

    def take(data: Any) -> None:
        began.release()
        assert go_on.wait(60)
        ended.append(data)

    app.on("orders", group="billing")(take)
    TaskQueue("q", app=app).task(name="take")(take)
    queue = TaskQueue("q", app=caller)
    with released(go_on), app:
        caller.publish("orders", "event")
        queue.submit("take", "task")
        for _ in range(2):
            assert began.acquire(timeout=60)
        client = own_server.client()
        for stream, group in (
            (keys.stream("orders"), "billing"),
            (keys.task_ready("q", "normal"), "workers"),
        ):
            for one in client.xinfo_consumers(stream, group):
                client.xgroup_delconsumer(stream, group, one["name"])
        eventually(lambda: app.counters.get("orphans"), what="the report of the task")
        go_on.set()
        eventually(lambda: ended.count("task") == 2 and "event" in ended, what="the task again")
        eventually(lambda: app.counters.get("lost", 0) >= 2, what="the report of what had run")
        eventually(lambda: queue.stats().pending == 0)
        assert queue.stats().done == 1


# -- foreign values --------------------------------------------------------------------------------------


def calls(caller: App) -> dict[str, tuple[str, Callable[[], object]]]:
    queue, acks = TaskQueue("q", app=caller), ReliableMessaging(app=caller)
    log = keys.stream("rt:ack:acks")
    return {
        "log": (keys.stream("orders"), lambda: caller.publish("orders", 1)),
        "log, by id": (keys.stream("orders"), lambda: caller.publish("orders", 1, id="7")),
        "log of acks": (log, lambda: _acknowledged(acks)),
        "ready": (keys.task_ready("q", "normal"), lambda: queue.submit("take", 1)),
        "ready, by id": (keys.task_ready("q", "normal"), lambda: queue.submit("take", 1, id="7")),
        "delayed": (keys.task_delayed("q"), lambda: queue.submit("take", 1, delay=60)),
        "bodies": (keys.task_bodies("q"), lambda: queue.submit("take", 1, delay=60)),
    }


def _acknowledged(acks: ReliableMessaging) -> None:
    with acks:
        acks.publish_with_ack("acks", {"number": 1}, timeout=20)


@pytest.mark.fault(34, "durable", "tasks")
@pytest.mark.parametrize("place", list(calls(App())))
def test_a_foreign_value_is_an_error_for_the_caller_without_half_an_effect(
    own_server: Server, make_app: MakeApp, quickly: dict[str, Any], place: str
) -> None:
    caller = make_app(own_server.url, **quickly)
    key, call = calls(caller)[place]
    own_server.execute("SET", key, "foreign")
    before = own_server.execute("DEBUG", "DIGEST")
    started = time.monotonic()
    with pytest.raises(KeyConflict, match="WRONGTYPE"):
        call()
    assert time.monotonic() - started < 10  # and not with some deadline
    assert own_server.execute("DEBUG", "DIGEST") == before


WORKERS = {
    "log": keys.stream("orders"),
    "again": keys.group_again("orders", "billing"),
    "delayed events": keys.group_delayed("orders", "billing"),
    "bodies of events": keys.group_bodies("orders", "billing"),
    "ready": keys.task_ready("q", "normal"),
    "another priority": keys.task_ready("q", "low"),
    "delayed tasks": keys.task_delayed("q"),
    "bodies of tasks": keys.task_bodies("q"),
    "cancelled": keys.task_cancelled("q"),
    "counters": keys.task_counters("q"),
}


@pytest.mark.fault(34, "durable", "tasks")
@pytest.mark.parametrize("place", list(WORKERS))
def test_a_foreign_value_holds_up_no_more_than_its_own_and_is_tried_once_a_second(
    own_server: Server, make_app: MakeApp, quickly: dict[str, Any], place: str
) -> None:
    app, caller = make_app(own_server.url, **quickly), make_app(own_server.url, **quickly)
    ran: list[Any] = []

    async def take(data: Any) -> None:
        ran.append(data)

    for name, handler in (("billing", ran.append), ("other", take)):
        app.on("orders", group=name)(handler)
        app.on(f"healthy {name}", group=name)(handler)
    for name, handler in (("q", ran.append), ("healthy", take)):
        TaskQueue(name, app=app).task(name="take")(handler)
    queue, healthy = TaskQueue("q", app=caller), TaskQueue("healthy", app=caller)

    def all_run(mark: str) -> bool:
        caller.publish("orders", f"{mark} 1")
        queue.submit("take", f"{mark} 2")
        eventually(lambda: ran.count(f"{mark} 1") == 2 and f"{mark} 2" in ran, what=mark)
        return True

    with app:
        assert all_run("before")
        own_server.execute("CONFIG", "RESETSTAT")
        started = time.monotonic()
        own_server.execute("DEL", WORKERS[place])
        own_server.execute("SET", WORKERS[place], "foreign")
        caller.publish("healthy billing", "event 1")
        caller.publish("healthy other", "event 2")
        healthy.submit("take", "task")
        eventually(lambda: {"event 1", "event 2", "task"} <= set(ran), what="the others")
        for _ in range(10):  # there is time for a loop to spin
            healthy.submit("take", 1).result(30)
        assert own_server.execute("GET", WORKERS[place]) == "foreign"
        errors = own_server.execute("INFO", "errorstats").get("errorstat_WRONGTYPE", {}).get("count", 0)
        assert errors <= 10 * (time.monotonic() - started + 1)
        own_server.execute("DEL", WORKERS[place])
        eventually(lambda: len(caller.groups("orders")) == 2, what="the groups, made again")
        assert all_run("after")
