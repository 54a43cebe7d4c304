"""The loop engine when a stop and a lost connection meet, and replies cannot be delivered."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from redis_toolkit import App, keys
from tests.core.awaiting import becomes, wait_readable
from tests.kit.ports import HOST
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.gates import Gate, Make, answered, ask, cut, echoing, engine_of, gated, holds, on_loop

DEADLINE = 30.0


# -- stops and lost connections ---------------------------------------------------------------------------


def test_what_waits_is_claimed_when_the_claims_are_cut_while_stopping(
    make: Make, client: App, bus: Server, pool: ThreadPoolExecutor, gate: Gate
) -> None:
    app = gated(make, gate, coroutines=1)
    asked = pool.submit(client.request_many, "slow", range(5), timeout=120, window=5)
    holds(gate, 1)
    eventually(lambda: bus.execute("LLEN", keys.requests("slow")) == 4, what="those that wait")
    engine, may_open, looks = engine_of(app), threading.Event(), list[bool]()
    opening, may_claim = engine._claim_link._open, engine._may_claim

    async def open_later() -> None:
        engine._claim_link._link = None
        await becomes(may_open.is_set)
        await opening()

    def look(waiting: int) -> bool:
        looks.append(engine._claim_link.link is None)
        return bool(may_claim(waiting))

    engine._claim_link._open, engine._may_claim = open_later, look
    cut(bus, engine._claim_link._link)
    eventually(lambda: engine._claim_link._link is None, what="notice of the cut")
    stopping = pool.submit(app.stop)
    eventually(lambda: sum(looks) > 2 or engine._ended, what="looks while it is cut")
    may_open.set()
    gate.opened.set()
    assert asked.result(DEADLINE) == list(range(5))
    stopping.result(DEADLINE)


def test_a_claim_that_was_under_way_is_none_of_those_that_wait(
    make: Make, bus: Server, pool: ThreadPoolExecutor
) -> None:
    app = echoing(make, coroutines=1)
    engine = engine_of(app)
    eventually(lambda: engine._claim_link._link._receivers, what="the claim")

    def stop_while_one_is_on_its_way() -> list[str]:
        asked = [ask(bus, "echo", number) for number in range(3)]
        wait_readable(engine._claim_link._link)
        engine._draining = 2  # as `stop` does, told by the server that two wait
        return asked

    for reply_to in on_loop(app, stop_while_one_is_on_its_way):
        assert answered(bus, reply_to)
    eventually(lambda: engine._ended, what="end of the claims")


def test_a_stop_claims_what_waits_in_many_lists(
    make: Make, client: App, bus: Server, pool: ThreadPoolExecutor, gate: Gate
) -> None:
    app, names = make(coroutines=1), [f"many{number}" for number in range(25)]

    @app.on(*names)
    async def many(number: int) -> int:
        await gate.wait()
        return number

    app.start()
    asked = [pool.submit(client.request, name, place, timeout=120) for place, name in enumerate(names)]
    holds(gate, 1)
    eventually(lambda: sum(bus.execute("LLEN", keys.requests(name)) for name in names) == 24, what="all")
    stopping = pool.submit(app.stop)
    eventually(lambda: engine_of(app)._draining, what="the stop")
    gate.opened.set()
    assert [one.result(DEADLINE) for one in asked] == list(range(25))
    stopping.result(DEADLINE)


def test_a_pause_of_the_claims_ends_with_their_connection(
    make: Make, client: App, bus: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redis_toolkit.worker.claiming.RETRY", 300)
    app = make()

    @app.on("echo")
    async def echo(data: int) -> int:
        return data

    bus.execute("SET", keys.requests("echo"), "no list")
    app.start()
    engine = engine_of(app)
    later = eventually(lambda: engine._later, what="the pause")
    link = engine._claim_link._link
    on_loop(app, link.close)
    eventually(lambda: engine._claim_link._link not in (link, None), what="a new connection")
    assert later.cancelled()


# -- replies that cannot be delivered ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_a_reply_to_a_server_that_does_not_serve_now_is_sent_again(
    make: Make, own_server: Server, gate: Gate, kind: str
) -> None:
    """By the engine in threads as well."""
    options = {"url": own_server.url, "block": 0.1, "grace": 1}
    app = gated(make, gate, **options) if kind == "async def" else make(**options)
    if kind == "def":

        @app.on("slow")
        def slow(number: int) -> int:
            gate.inside += 1
            assert gate.opened.wait(DEADLINE)
            return number

        app.start()
    reply_to, client = ask(own_server, "slow", 1), own_server.client()
    holds(gate, 1)
    own_server.execute("REPLICAOF", HOST, 1)

    def refusals() -> int:
        return int(client.info("errorstats").get("errorstat_READONLY", {"count": 0})["count"])

    gate.opened.set()
    eventually(lambda: refusals() > 2, what="refusals")
    own_server.execute("REPLICAOF", "NO", "ONE")
    assert answered(own_server, reply_to)
    assert "undelivered" not in app.counters


def test_a_reply_that_was_on_its_way_when_the_connection_was_lost_is_sent_again_while_closing(
    make: Make, own_server: Server, gate: Gate
) -> None:
    app = gated(make, gate, url=own_server.url)
    reply_to, engine = ask(own_server, "slow", 1), engine_of(app)
    holds(gate, 1)
    link = engine._reply_link._link
    own_server.execute("CLIENT", "PAUSE", 60_000, "WRITE")
    gate.opened.set()
    eventually(lambda: link._receivers and not link._unsent, what="the reply on its way")
    cut(own_server, link)

    async def end() -> None:
        deadline = time.monotonic() + DEADLINE
        await engine.stop(deadline, 0)
        await engine.close(deadline)

    ending = asyncio.run_coroutine_threadsafe(end(), app._service._node._loop)  # type: ignore[union-attr, arg-type]
    eventually(lambda: link.lost and engine._draining == 0, what="notice of both")
    own_server.execute("CLIENT", "UNPAUSE")
    ending.result(DEADLINE)
    assert answered(own_server, reply_to)
    assert app.counters == {}


def test_replies_that_never_left_are_counted(
    make: Make,
    own_server: Server,
    pool: ThreadPoolExecutor,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("redis_toolkit.worker.loop.LAST_SECONDS", 0.05)
    app = gated(make, gate, url=own_server.url, grace=0.3, command_timeout=0.1)
    for number in range(3):
        ask(own_server, "slow", number)
    holds(gate, 3)
    own_server.stop()
    gate.opened.set()
    pool.submit(app.stop).result(DEADLINE)
    assert app.counters["undelivered"] == 3
    assert "3 replies were not delivered" in caplog.text


def test_the_reply_of_a_handler_that_was_given_up_is_counted(
    make: Make, bus: Server, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redis_toolkit.worker.loop.CANCEL_SECONDS", 0.05)
    app, entered = make(grace=0.05), list[int]()

    @app.on("deaf")
    async def deaf(number: int) -> int:
        entered.append(number)
        while not gate.opened.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue
        return number

    async def main() -> None:
        await app.astart()
        ask(bus, "deaf", 1)
        await becomes(lambda: entered)
        await asyncio.wait_for(app.astop(), DEADLINE)
        assert app.counters == {}
        gate.opened.set()
        await becomes(lambda: app.counters == {"undelivered": 1})

    asyncio.run(main())
