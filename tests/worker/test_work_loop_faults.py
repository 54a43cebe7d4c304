"""The engine of durable work on the loop: lost connections, refusals, forgotten scripts, dead processes."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from redis_toolkit import App, current_task
from redis_toolkit._core import scripts
from tests.core.awaiting import becomes
from tests.kit.processes import Process
from tests.kit.proxy import Proxy
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.gates import Gate, Make, holds
from tests.worker.work import SOURCE, Caller, serve_queue


@pytest.fixture(autouse=True)
def quick_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redis_toolkit.worker.others.RECOVERY", 0.1)
    monkeypatch.setattr("redis_toolkit.worker.others.DISTRUST", 0.3)


@pytest.fixture
def caller(client: App) -> Caller:
    return Caller(client)


def engine_of(app: App) -> Any:
    node = app._service._node
    assert node is not None
    [engine] = node._durable._loops
    return engine


def _counting(app: App) -> Counter[int]:
    """Have an app count how often each task is run."""
    ran: Counter[int] = Counter()

    async def count(number: int) -> int:
        await asyncio.sleep(0)
        ran[number] += 1
        return number

    serve_queue(app, count=count)
    return ran


def _at_rest(app: App, caller: Caller) -> None:
    """Assert that nothing is held or owed any more, and nothing is left anywhere."""
    engine = engine_of(app)
    eventually(lambda: not engine._settler.owed, what="the last answers")
    assert len(engine._consumer.holdings) == 0
    stats = caller.stats()
    assert (stats.running, stats.later, stats.ready) == (0, 0, {"high": 0, "low": 0})


@pytest.mark.fault(14, "tasks")
def test_no_task_is_lost_while_all_connections_are_cut_again_and_again(
    make: Make, caller: Caller, bus: Server
) -> None:
    app = make(block=0.1, lease=0.5)
    ran = _counting(app)
    app.start()
    for part in range(20):
        caller.submit("count", range(part * 100, part * 100 + 100), first=part * 100)
        eventually(lambda part=part: len(ran) > 50 * part, what="tasks that run")  # type: ignore[misc]
        bus.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    caller.ended(2000)
    assert set(ran) == set(range(2000))
    _at_rest(app, caller)


@pytest.mark.fault(7, "tasks")
def test_what_a_blocked_loop_was_sent_is_not_begun_when_its_lease_is_over(make: Make, caller: Caller) -> None:
    """The claim was under way as the handler blocked the loop; another process has run its task meanwhile."""
    ran: list[tuple[str, int]] = []
    blocks, goes_on = threading.Event(), threading.Event()

    def serving(name: str) -> App:
        app = make(block=0.3, lease=1.0)

        async def work(number: int) -> None:
            ran.append((name, number))
            if number == 0:
                engine = engine_of(app)
                await becomes(lambda: engine._claiming and engine._claiming.block, "a claim that waits")
                blocks.set()
                goes_on.wait(60)

        serve_queue(app, work=work)
        app.start()
        return app

    blocked = serving("blocked")
    try:
        caller.submit("work", [0])
        assert blocks.wait(30)
        caller.submit("work", [1], first=1)
        other = serving("other")
        eventually(lambda: ("other", 1) in ran, what="that another takes it")
        other.stop()
    finally:
        goes_on.set()
    caller.submit("work", [2], first=2)
    caller.ended(3)
    assert ran == [("blocked", 0), ("other", 1), ("blocked", 2)]
    _at_rest(blocked, caller)


@pytest.mark.fault(12, "tasks")
def test_scripts_that_the_server_forgets_are_unnoticed(make: Make, caller: Caller, bus: Server) -> None:
    app = make()
    ran = _counting(app)
    app.start()
    for part in range(10):
        bus.execute("SCRIPT", "FLUSH")
        caller.submit("count", range(part * 200, part * 200 + 200), first=part * 200)
        caller.ended(part * 200 + 200)
    assert ran == Counter(range(2000))
    _at_rest(app, caller)


@pytest.mark.fault(18, "tasks")
def test_a_settlement_whose_reply_is_lost_is_sent_again_and_counts_once(
    caller: Caller, bus: Server, gate: Gate
) -> None:
    with Proxy("127.0.0.1", bus.port) as proxy:
        app = App(f"redis://127.0.0.1:{proxy.port}/0", reconnect_cap=0.1, block=300)

        async def work() -> str:
            await gate.wait()
            return "done"

        serve_queue(app, work=work)
        ids = caller.submit("work", range(10))
        app.start()
        try:
            holds(gate, 10)
            proxy.drop_reply(_sha("settle"))
            gate.opened.set()
            caller.ended(10)
            _at_rest(app, caller)
            assert caller.record(ids[0]).state == "done"
            assert app.counters.get("lost", 0) == 0
        finally:
            app.stop()


@pytest.mark.fault(18, "tasks")
def test_what_a_lost_claim_had_is_recovered(caller: Caller, bus: Server) -> None:
    with Proxy("127.0.0.1", bus.port) as proxy:
        app = App(f"redis://127.0.0.1:{proxy.port}/0", reconnect_cap=0.1, block=0.2, lease=0.5)
        ran = _counting(app)
        app.start()
        try:
            proxy.drop_reply(b"XREADGROUP")
            caller.submit("count", range(10))
            caller.ended(10)
            assert ran == Counter(range(10))
            _at_rest(app, caller)
        finally:
            app.stop()


@pytest.mark.fault(34, "tasks")
def test_an_end_that_the_server_refuses_is_kept_until_it_does_not(
    make: Make, caller: Caller, bus: Server, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redis_toolkit.worker.settler.REFUSED_SECONDS", 0.05)
    app = make()

    async def work() -> None:
        await gate.wait()

    serve_queue(app, work=work)
    ids = caller.submit("work", range(3))
    app.start()
    holds(gate, 3)
    bus.execute("SET", SOURCE.records + ids[1], "foreign")
    gate.opened.set()
    caller.ended(2)
    engine = engine_of(app)
    eventually(lambda: engine._settler._again, what="another try")
    assert len(engine._consumer.holdings) == 1
    caller.submit("work", range(3, 6), first=3)
    caller.ended(5)
    bus.execute("DEL", SOURCE.records + ids[1])
    caller.ended(6)
    assert gate.most == 3
    _at_rest(app, caller)


@pytest.mark.fault(34, "tasks")
def test_an_end_that_the_server_refuses_is_kept_while_others_are_settled(
    make: Make, caller: Caller, bus: Server, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redis_toolkit.worker.settler.REFUSED_SECONDS", 0.05)
    app = make()

    async def work() -> None:
        await gate.wait()

    async def other() -> None: ...

    serve_queue(app, work=work, other=other)
    [one] = caller.submit("work", [None])
    app.start()
    holds(gate, 1)
    bus.execute("SET", SOURCE.records + one, "foreign")
    gate.opened.set()
    engine = engine_of(app)
    eventually(lambda: engine._settler._again, what="another try")
    caller.submit("other", range(300), first=1)
    caller.ended(300)
    bus.execute("DEL", SOURCE.records + one)
    caller.ended(301)
    _at_rest(app, caller)


@pytest.mark.fault(34, "tasks")
def test_a_stream_that_is_none_holds_up_no_more_than_its_own_tasks(
    make: Make, caller: Caller, bus: Server, caplog: pytest.LogCaptureFixture
) -> None:
    bus.execute("SET", SOURCE.streams[0], "foreign")
    app = make()
    _counting(app)
    caller.submit("count", range(10))
    app.start()
    eventually(lambda: "is interrupted" in caplog.text, what="a log line")
    before = len(caplog.records)
    bus.execute("DEL", SOURCE.streams[0])
    caller.ended(10)
    assert before <= 2
    _at_rest(app, caller)


def test_a_paused_queue_is_left_alone_until_it_is_resumed(make: Make, caller: Caller, bus: Server) -> None:
    app = make(block=0.2)
    ran = _counting(app)
    app.start()
    caller.pause()
    eventually(lambda: engine_of(app)._later, what="the pause")
    caller.submit("count", range(10))
    assert caller.stats().ready["low"] == 10
    caller.resume()
    caller.ended(10)
    assert ran == Counter(range(10))


def test_tasks_that_are_cancelled_at_any_moment_end_once_and_as_one_or_the_other(
    make: Make, caller: Caller
) -> None:
    rand, app = random.Random(7), make(coroutines=20)

    async def work(steps: int) -> None:
        for step in range(steps):
            await asyncio.sleep(0.001 * (step % 3))

    serve_queue(app, work=work)
    ids = caller.submit("work", [rand.randrange(1, 12) for _ in range(200)])
    app.start()
    node = app._service._node
    assert node is not None
    for one in rand.sample(ids, 120):
        caller.cancel(one)
        node._durable.consumers[0].holdings.cancel([one])
    eventually(lambda: sum(caller.stats().counters.values()) == 200, what="the end of all")
    counters = caller.stats().counters
    assert counters.keys() <= {"done", "cancelled"}, counters
    _at_rest(app, caller)
    caller.submit("work", [1] * 50, first=200)
    caller.ended(counters["done"] + 50)


def test_a_loop_that_stood_still_has_lost_nothing(
    make: Make, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redis_toolkit.worker.others.DISTRUST", 0.05)
    app, blocked = make(), threading.Event()

    async def block() -> None:
        blocked.wait(0.1)

    async def work() -> None: ...

    serve_queue(app, block=block, work=work)
    caller.submit("block", [None])
    caller.submit("work", range(50))
    app.start()
    caller.ended(51)
    _at_rest(app, caller)


DYING = """
import asyncio, sys
from redis_toolkit import App
from tests.worker.work import serve_queue

app = App(sys.argv[1], lease=0.5)

async def work(number):
    if number % 10 == 3:
        print("holds", flush=True)
        await asyncio.Event().wait()

serve_queue(app, work=work)
app.run(workers=0)
"""


@pytest.mark.fault(1, "tasks")
def test_what_a_killed_process_had_is_run_by_another(
    make: Make, caller: Caller, bus: Server, tmp_path: Path
) -> None:
    ids = caller.submit("work", range(500))
    program = Process(directory=tmp_path, source=DYING, args=[bus.url])
    try:
        program.start()
        eventually(lambda: program.stdout.count("holds") == 50, what="tasks that run")
        caller.ended(450)
    finally:
        program.kill()
        program.close()
    app, again = make(block=0.2, lease=0.5), dict[str, int]()

    async def work(number: int) -> None:
        again[current_task().id] = current_task().deliveries

    serve_queue(app, work=work)
    app.start()
    caller.ended(500)
    assert again == {one: 2 for number, one in enumerate(ids) if number % 10 == 3}
    _at_rest(app, caller)


def _sha(name: str) -> bytes:
    script: scripts.Script = getattr(scripts, name.upper())
    return script.sha.encode()
