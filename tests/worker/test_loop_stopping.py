"""The loop engine on a real server: how it stops, and what it does about lost connections."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from redis_toolkit import App, ConfigurationError, RemoteError, keys
from tests.core.awaiting import becomes, kill_connection, named
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.fakes import request_body
from tests.worker.gates import Gate, Make, cut, echoing, engine_of, gated, holds, on_loop
from tests.worker.programs import Programs, nothing_is_left, registered

DEADLINE = 30.0


# -- stopping ----------------------------------------------------------------------------------------


def test_stop_lets_what_runs_and_what_waits_be_answered(
    make: Make, client: App, bus: Server, pool: ThreadPoolExecutor, gate: Gate
) -> None:
    app = gated(make, gate, coroutines=2)
    asked = pool.submit(client.request_many, "slow", range(10), timeout=120)
    holds(gate, 2)
    eventually(lambda: bus.execute("LLEN", keys.requests("slow")) == 8, what="those that wait")
    stopping = pool.submit(app.stop)
    eventually(lambda: registered(bus, "slow") == [], what="end of the registration")
    gate.opened.set()
    stopping.result(DEADLINE)
    assert asked.result(DEADLINE) == list(range(10))
    assert gate.cancelled == 0


def test_what_outlives_the_grace_is_cancelled_and_its_caller_told(
    make: Make, client: App, pool: ThreadPoolExecutor, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    app = make(grace=0.1)

    @app.on("slow")
    async def slow() -> None:
        await gate.wait()

    app.start()
    asked = [pool.submit(client.request, "slow", timeout=120) for _ in range(3)]
    holds(gate, 3)
    app.stop()
    for one in asked:
        with pytest.raises(RemoteError, match="CancelledError"):
            one.result(DEADLINE)
    assert gate.cancelled == 3
    assert "still running after 0.1 s of grace" in caplog.text


def test_an_app_is_started_and_stopped_many_times(make: Make, client: App) -> None:
    app = make()

    @app.on("echo")
    async def echo(data: int) -> int:
        return data

    for number in range(10):
        with app:
            assert client.request("echo", number, timeout=60) == number


def test_an_app_that_was_started_in_threads_is_stopped_from_a_loop(make: Make, client: App) -> None:
    app = echoing(make)
    assert client.request("echo", 1, timeout=60) == 1
    asyncio.run(app.astop())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rt-")]


def test_async_with_runs_handlers_on_the_running_loop(make: Make, bus: Server) -> None:
    async def program() -> None:
        app = make()
        loops, heard = [], []

        @app.on("where")
        async def where() -> int:
            loops.append(asyncio.get_running_loop())
            return await app.arequest("inner", 5)  # type: ignore[no-any-return]

        @app.on("inner")
        async def inner(number: int) -> int:
            return number

        app.on("thread")(lambda: threading.current_thread().name)

        @app.on("news")
        async def hear(data: Any) -> None:
            heard.append((data, asyncio.get_running_loop()))

        async with app:
            assert await app.arequest("where") == 5
            assert await app.arequest("thread") != threading.current_thread().name
            assert await app.apublish("news", 1) == 1
            await becomes(lambda: heard)
            with pytest.raises(ConfigurationError, match="await arequest"):
                app.request("where")
        assert loops == [asyncio.get_running_loop()]
        assert heard == [(1, asyncio.get_running_loop())]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(program())
    assert registered(bus, "where") == []


# -- lost connections --------------------------------------------------------------------------------


def test_after_a_lost_claim_it_claims_again(make: Make, client: App, bus: Server) -> None:
    echoing(make, url=named(bus.url, "serving"))
    for number in range(3):
        assert client.request("echo", number, timeout=60) == number
        kill_connection(bus, "blpop", "serving")
    assert client.request("echo", 3, timeout=60) == 3


def test_the_loss_of_the_reply_connection_leaves_the_claims_alone(
    make: Make, client: App, bus: Server
) -> None:
    app = echoing(make)
    engine = engine_of(app)
    claims = engine._claim_link._link
    for number in range(5):
        cut(bus, engine._reply_link._link)
        assert client.request("echo", number, timeout=60) == number
        assert engine._claim_link._link is claims


def test_a_reply_connection_lost_while_stopping_loses_no_reply(
    make: Make, client: App, bus: Server, pool: ThreadPoolExecutor, gate: Gate
) -> None:
    app = gated(make, gate)
    engine = engine_of(app)
    asked = [pool.submit(client.request, "slow", number, timeout=120) for number in range(5)]
    holds(gate, 5)
    stopping = pool.submit(app.stop)
    eventually(lambda: engine._ended, what="end of the claims")
    cut(bus, engine._reply_link._link)
    gate.opened.set()
    assert [one.result(DEADLINE) for one in asked] == list(range(5))
    stopping.result(DEADLINE)
    assert app.counters == {}


def test_what_is_popped_after_the_deadline_is_not_begun_and_its_caller_told(
    make: Make, client: App, bus: Server
) -> None:
    app, ran = make(), []

    @app.on("echo")
    async def echo(data: int) -> None:
        ran.append(data)

    app.start()
    engine = engine_of(app)
    body = b"0 " + request_body(1, id="x", reply_to=keys.reply("echo", "x"))

    def too_late() -> None:
        engine._draining, engine._ended = 0, True  # as `stop` says at its deadline
        engine._begin(engine._answerers[0], body)

    app._service._node._loop.call_soon_threadsafe(too_late)  # type: ignore[union-attr]
    reply = eventually(lambda: bus.execute("LPOP", keys.reply("echo", "x")), what="the reply")
    assert "CancelledError" in str(reply)
    assert ran == []


@pytest.mark.parametrize("lost", ["claims", "replies"])
def test_what_is_lost_while_all_places_are_taken_is_noticed(
    make: Make, client: App, bus: Server, pool: ThreadPoolExecutor, gate: Gate, lost: str
) -> None:
    app = gated(make, gate, url=named(bus.url, "serving"), coroutines=1)
    engine = engine_of(app)
    asked = pool.submit(client.request, "slow", 1, timeout=120)
    holds(gate, 1)
    link = (engine._claim_link if lost == "claims" else engine._reply_link)._link
    assert link is not None
    cut(bus, link)
    eventually(lambda: link.lost, what="notice of the cut")
    gate.opened.set()
    assert asked.result(DEADLINE) == 1
    assert client.request("slow", 2, timeout=60) == 2
    assert app.counters == {}


def test_slow_handlers_in_all_places_are_no_lost_connection(
    make: Make, client: App, pool: ThreadPoolExecutor, gate: Gate
) -> None:
    app = gated(make, gate, coroutines=1)
    asked = pool.submit(client.request, "slow", 1, timeout=120)
    holds(gate, 1)
    engine = engine_of(app)
    links = [kept._link for kept in (engine._claim_link, engine._reply_link)]

    def much_later() -> None:
        for link in links:
            assert not link._receivers
            link._owing_since -= 1000
        engine._links._watch()

    on_loop(app, much_later)
    gate.opened.set()
    assert asked.result(DEADLINE) == 1
    assert client.request("slow", 2, timeout=60) == 2
    assert [kept._link for kept in (engine._claim_link, engine._reply_link)] == links


def test_a_reply_that_the_server_refuses_is_counted(make: Make, client: App, bus: Server) -> None:
    app = echoing(make)
    bus.execute("SET", keys.reply("echo", "x"), "no list")
    bus.execute(
        "RPUSH", keys.requests("echo"), b"0 " + request_body(1, id="x", reply_to=keys.reply("echo", "x"))
    )
    eventually(lambda: app.counters == {"undelivered": 1}, what="the count")
    assert client.request("echo", 7, timeout=60) == 7


@pytest.mark.fault(34, "requests")
def test_a_foreign_value_in_place_of_the_list_is_no_storm_of_connections(
    make: Make, client: App, bus: Server
) -> None:
    app = make(reconnect_cap=0.5, block=0.05)

    @app.on("echo")
    async def echo(data: int) -> int:
        return data

    bus.execute("SET", keys.requests("echo"), "no list")
    app.start()
    watching, looks = bus.client(), iter(range(20))

    def made() -> int:
        return int(watching.info("stats")["total_connections_received"])

    before = made()
    eventually(lambda: next(looks) == 19)  # a look is a pause of up to 0.05 s
    assert made() - before < 60
    bus.execute("DEL", keys.requests("echo"))
    assert client.request("echo", 7, timeout=60) == 7


# -- in worker processes -----------------------------------------------------------------------------

ASYNC_GATED = """
import asyncio

@app.on("gated", events=False)
async def gated(message: Message):
    history.write("started", id=message.id)
    while not (here / "gate").exists():
        await asyncio.sleep(0.01)
    return os.getpid()

@app.on("thread", events=False)
def thread():
    return os.getpid()
"""


@pytest.mark.fault(4, "requests")
def test_sigterm_lets_coroutines_of_worker_processes_answer(
    programs: Programs, bus: Server, client: App, pool: ThreadPoolExecutor
) -> None:
    program = programs.serving(ASYNC_GATED, "app.run(workers=2)\n", settings={"grace": 300})
    pids = program.children()
    asked = [pool.submit(client.request, "gated", timeout=120) for _ in range(12)]
    programs.history.wait_for(lambda entries: len(entries) == 12, event="started")
    assert client.request("thread", timeout=60) in pids
    program.terminate()
    eventually(lambda: registered(bus, "gated") == [], what="end of the registrations")
    assert not any(one.done() for one in asked)
    programs.open_gate()
    assert {one.result(DEADLINE) for one in asked} <= set(pids)
    assert program.wait() == 0
    nothing_is_left(bus, pids, "gated", "thread")
    assert "Traceback" not in program.output
