"""Durable sends that are given up at any moment: none or one, and the next has its own answer."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from redis_toolkit import App
from redis_toolkit.patterns import ReliableMessaging, TaskQueue
from tests.core.awaiting import awaiting, named, nothing_waits
from tests.e2e.conftest import MakeApp
from tests.faults.troubles import seeded
from tests.kit.faults import Tier
from tests.kit.processes import Process
from tests.kit.servers import Server
from tests.kit.waiting import eventually

INTERRUPTED = """
import os, random, signal, sys, threading, time
from redis_toolkit import App
from redis_toolkit.patterns import ReliableMessaging, TaskQueue

url, seed, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chance, app = random.Random(seed), App(url)
queue, acks = TaskQueue("q", app=app), ReliableMessaging(app=app)
armed, landed, interrupted, wrong = threading.Semaphore(0), threading.Event(), 0, 0

def interrupt():
    for number in range(rounds):
        armed.acquire()
        time.sleep(chance.choice([0, chance.uniform(0, 0.0005), chance.uniform(0, 0.005)]))
        os.kill(os.getpid(), signal.SIGINT)
        while not landed.wait(5):  # it hit a finalizer, where Python ignores it
            os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
CALLS = [
    lambda n: queue.submit("echo", n).result(60) == n,
    lambda n: queue.submit("echo", n, id=f"task-{n}").id == f"task-{n}",
    lambda n: app.publish("orders", n) == 0,
    lambda n: app.publish("orders", n, id=f"order-{n}") == 0,
    lambda n: acks.publish_with_ack("acks", {"number": n}, timeout=60),
    lambda n: queue.stats().dead == 0,
]
for call in CALLS:
    assert call(0)
for number in range(1, rounds + 1):
    landed.clear()
    try:
        armed.release()
        while True:
            wrong += not chance.choice(CALLS)(number)
    except KeyboardInterrupt:
        interrupted += 1
        landed.set()
    for call in CALLS:
        wrong += not call(number)
print(interrupted, wrong, flush=True)
acks.stop()
"""


class Serving:
    """An app that handles all that is sent, and what it has got."""

    def __init__(self, app: App) -> None:
        self.app, self.got = app, dict[str, list[Any]](orders=[], acks=[], tasks=[])
        app.on("orders", group="billing")(self.got["orders"].append)

        @TaskQueue("q", app=app).task(name="echo")
        async def echo(data: Any) -> Any:
            self.got["tasks"].append(data)
            return data

        self.acks = ReliableMessaging(app=app)

    def __enter__(self) -> Serving:
        self.app.start()
        self._subscriber = self.acks.create_ack_subscriber(
            "acks", lambda data: self.got["acks"].append(data["number"])
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._subscriber.stop()
        self.acks.stop()
        self.app.stop()

    def at_rest(self, caller: App) -> None:
        def look() -> bool:
            [group] = caller.groups("orders")
            waiting = (group.lag, group.pending, TaskQueue("q", app=caller).stats().pending)
            return waiting == (0, 0, 0) and self.acks.pending("acks") == 0

        eventually(look, what="nothing held")


@pytest.mark.fault(20, "durable", "tasks")
def test_ctrl_c_at_any_moment_of_a_send(
    own_server: Server, make_app: MakeApp, quickly: dict[str, Any], tmp_path: Path, tier: Tier
) -> None:
    seed, rounds = seeded().randrange(2**32), tier(100, 5_000)
    with Serving(make_app(own_server.url, **quickly)) as serving:
        arguments = (own_server.url, str(seed), str(rounds))
        with Process(directory=tmp_path, source=INTERRUPTED, args=arguments) as program:
            assert program.wait(240) == 0, program.output
            assert program.stdout.split() == [str(rounds), "0"], program.output
        serving.at_rest(make_app(own_server.url))
    for got in serving.got.values():
        assert set(got) == set(range(rounds + 1))


@pytest.mark.fault(20, "durable", "tasks")
def test_a_send_that_is_cancelled_at_every_await(
    own_server: Server, make_app: MakeApp, quickly: dict[str, Any], tier: Tier
) -> None:
    async def cancelled(app: App, number: int) -> None:
        queue, acks = TaskQueue("q", app=app), ReliableMessaging(app=app)
        await app.ahealth_check()
        sends = [
            asyncio.create_task(send)
            for send in (
                app.apublish("orders", number),
                app.apublish("orders", number, id=f"order-{number}"),
                queue.asubmit("echo", number),
                queue.asubmit("echo", number, id=f"task-{number}"),
                acks.apublish_with_ack("acks", {"number": number}, timeout=60),
            )
        ]
        for _ in range(number):
            await asyncio.sleep(0)
        for send in sends:
            send.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*sends)
        await asyncio.gather(*sends, return_exceptions=True)
        assert await (await queue.asubmit("echo", [number])).aresult(60) == [number]
        assert await acks.apublish_with_ack("acks", {"number": [number]}, timeout=60)
        assert await app.apublish("orders", [number]) == 0
        nothing_waits(app)
        await asyncio.to_thread(acks.stop)

    with Serving(make_app(own_server.url, **quickly)) as serving:
        rounds = range(tier(16, 64))
        for number in rounds:
            awaiting(named(own_server.url), lambda app, number=number: cancelled(app, number))  # type: ignore[misc]
        serving.at_rest(make_app(own_server.url))
    for name, got in serving.got.items():
        for number in rounds:
            assert got.count(number) <= (1 if name == "acks" else 2)
            assert got.count([number]) == 1
