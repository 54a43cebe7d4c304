"""The loop engine when a stop, a lost connection, a cancelled task or a loop that stood still meet."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from redis_toolkit import App, RemoteError, keys
from tests.core.awaiting import becomes, named, wait_readable
from tests.kit.ports import HOST
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.fakes import request_body
from tests.worker.gates import Gate, Make, cut, engine_of, holds, making, on_loop

DEADLINE = 30.0


@pytest.fixture
def make(bus: Server) -> Iterator[Make]:
    with making(bus) as make:
        yield make


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(30) as pool:
        yield pool


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


def gated(make: Make, gate: Gate, **options: Any) -> App:
    app = make(**options)

    @app.on("slow")
    async def slow(number: int) -> int:
        await gate.wait()
        return number

    app.start()
    return app


def ask(bus: Server, channel: str, number: int) -> str:
    """Send a request by hand; return the list of its reply."""
    reply_to = keys.reply(channel, str(number))
    body = b"0 " + request_body(number, id=str(number), reply_to=reply_to)
    bus.execute("RPUSH", keys.requests(channel), body)
    return reply_to


def answered(bus: Server, reply_to: str) -> str:
    return str(eventually(lambda: bus.execute("LPOP", reply_to), what=f"an answer in {reply_to}"))


# -- a loop that stood still ---------------------------------------------------------------------------


def test_what_was_claimed_while_the_loop_stood_still_is_not_lost(make: Make, bus: Server) -> None:
    app = make()

    @app.on("echo")
    async def echo(data: int) -> int:
        return data

    app.start()
    engine = engine_of(app)
    claims = engine._claim_link._link

    def stand_still() -> str:
        reply_to = ask(bus, "echo", 1)
        wait_readable(claims)
        claims._owing_since -= 1000
        engine._watchdog._run()
        return reply_to

    eventually(lambda: claims._receivers, what="the claim")
    assert answered(bus, on_loop(app, stand_still))
    assert engine._claim_link._link is claims


@pytest.mark.parametrize("which", ["_claim_link", "_reply_link"])
def test_a_connection_that_says_nothing_is_found_dead(
    make: Make, client: App, bus: Server, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redis_toolkit.worker.loop.TICK", 0.01)
    app = make()

    @app.on("echo")
    async def echo(data: int) -> int:
        return data

    app.start()
    kept = getattr(engine_of(app), which)
    link = kept._link

    def go_silent() -> None:
        if not link._receivers:
            link._receivers.append(lambda _reply: None)
        link._owing_since -= 1000

    on_loop(app, go_silent)
    eventually(lambda: kept._link not in (link, None), what="a new connection")
    assert client.request("echo", 1, timeout=60) == 1


# -- what a handler blocks ------------------------------------------------------------------------------


def test_threads_of_handlers_that_do_not_end_hold_up_no_stop(
    make: Make, client: App, pool: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    app, opened, inside = make(grace=0.1), threading.Event(), list[int]()

    @app.on("slow")
    async def slow(number: int) -> None:
        inside.append(number)
        await asyncio.to_thread(opened.wait)

    app.start()
    asked = pool.submit(client.request_many, "slow", range(50), timeout=60, window=50, return_exceptions=True)
    eventually(lambda: len(inside) == 50, what="50 of them")
    try:
        pool.submit(app.stop).result(DEADLINE)
        assert "threads that handlers use by asyncio.to_thread are left behind" in caplog.text
        assert {type(one) for one in asked.result(DEADLINE)} == {RemoteError}
    finally:
        opened.set()


def test_a_full_executor_of_the_program_holds_up_no_stop(
    make: Make, client: App, pool: ThreadPoolExecutor
) -> None:
    app, opened, inside = make(grace=0.1), threading.Event(), list[int]()
    app.on("thread")(lambda: None)

    @app.on("slow")
    async def slow(number: int) -> None:
        inside.append(number)
        await asyncio.to_thread(opened.wait)

    async def main() -> None:
        await app.astart()
        asked = pool.submit(client.request_many, "slow", range(50), timeout=60, window=50, return_exceptions=True)
        await becomes(lambda: len(inside) == 50)
        try:
            await asyncio.wait_for(app.astop(), DEADLINE)
            assert not app._service.started
            assert {type(one) for one in asked.result(DEADLINE)} == {RemoteError}
        finally:
            opened.set()

    asyncio.run(main())


def test_a_blocked_loop_holds_up_no_stop(
    make: Make,
    client: App,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("redis_toolkit.worker.node.STUCK_SECONDS", 0.1)
    monkeypatch.setattr("redis_toolkit.worker.loop_thread.LAST_SECONDS", 0.1)
    app, opened, inside = make(grace=0.1), threading.Event(), threading.Event()

    @app.on("stuck")
    async def stuck() -> str:
        inside.set()
        opened.wait()
        return "at last"

    app.start()
    asked = pool.submit(client.request, "stuck", timeout=60)
    assert inside.wait(DEADLINE)
    try:
        pool.submit(app.stop).result(DEADLINE)
        assert "a handler blocks the event loop: its thread is left behind" in caplog.text
    finally:
        opened.set()
    assert asked.result(DEADLINE) == "at last"  # what is left of the stop is done when the loop goes on


# -- cancelled tasks -------------------------------------------------------------------------------------


def test_a_handler_that_cancels_every_task_of_its_loop_ends_no_claims(
    make: Make, client: App, bus: Server, pool: ThreadPoolExecutor
) -> None:
    app, heard = make(), list[int]()

    @app.on("cancel")
    async def cancel() -> None:
        for task in asyncio.all_tasks():
            task.cancel()

    @app.on("echo")
    async def echo(data: int) -> int:
        heard.append(data)
        return data

    app.start()
    engine = engine_of(app)
    for number in range(3):
        client.request_many("cancel", [None] * 2, timeout=60, return_exceptions=True)
        for kept in (engine._claim_link, engine._reply_link):
            link = eventually(lambda kept=kept: kept.link, what="the connection")
            cut(bus, link)
            eventually(lambda link=link: link.lost, what="notice of the cut")
        assert client.request("echo", number, timeout=60) == number
        client.publish("echo", number)
        eventually(lambda: len(heard) == 2 * number + 2, what="the event")  # noqa: B023


def test_a_request_whose_task_is_cancelled_before_it_began_is_answered(make: Make, bus: Server) -> None:
    app = make()

    @app.on("echo")
    async def echo(data: int) -> int:
        return data

    app.start()
    engine, reply_to = engine_of(app), keys.reply("echo", "x")

    def begin_and_cancel() -> None:
        engine._begin(engine._answerers[0], b"0 " + request_body(1, id="x", reply_to=reply_to))
        for task in engine._running:
            task.cancel()

    on_loop(app, begin_and_cancel)
    assert "CancelledError" in answered(bus, reply_to)


def test_a_handler_that_cancels_every_task_while_the_app_stops_leaves_nothing(
    make: Make, client: App, bus: Server, pool: ThreadPoolExecutor, gate: Gate
) -> None:
    app, mine = make(), set[asyncio.Task[Any]]()

    @app.on("cancel")
    async def cancel() -> str:
        await gate.wait()
        for task in asyncio.all_tasks() - mine:
            task.cancel()
        return "done"

    async def main() -> None:
        mine.update(asyncio.all_tasks())  # the test goes on
        await app.astart()
        engine = engine_of(app)
        asked = pool.submit(client.request, "cancel", timeout=60)
        await becomes(lambda: gate.inside)
        stopping = asyncio.create_task(app.astop())
        await becomes(lambda: engine._ended)
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        await becomes(asked.done)
        assert asked.result() == "done"
        assert engine._closed
        assert engine._reply_link._link.lost
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


# -- stops and lost connections ---------------------------------------------------------------------------


def test_what_waits_is_claimed_after_the_claims_were_cut_while_stopping(
    make: Make, client: App, bus: Server, pool: ThreadPoolExecutor, gate: Gate
) -> None:
    app = gated(make, gate, coroutines=1)
    asked = pool.submit(client.request_many, "slow", range(5), timeout=120, window=5)
    holds(gate, 1)
    eventually(lambda: bus.execute("LLEN", keys.requests("slow")) == 4, what="those that wait")
    stopping = pool.submit(app.stop)
    engine = engine_of(app)
    eventually(lambda: engine._draining is not None, what="the stop")
    cut(bus, engine._claim_link._link)
    gate.opened.set()
    assert asked.result(DEADLINE) == list(range(5))
    stopping.result(DEADLINE)


def test_a_claim_that_was_under_way_is_none_of_those_that_wait(
    make: Make, bus: Server, pool: ThreadPoolExecutor
) -> None:
    app = make(coroutines=1)

    @app.on("echo")
    async def echo(data: int) -> int:
        return data

    app.start()
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


def test_a_pause_of_the_claims_ends_with_their_connection(make: Make, client: App, bus: Server) -> None:
    app = make()

    @app.on("echo")
    async def echo(data: int) -> int:
        return data

    bus.execute("SET", keys.requests("echo"), "no list")
    app.start()
    engine = engine_of(app)
    eventually(lambda: engine._claims._aside and engine._later, what="the pause")

    def cut_in_a_pause() -> Any:
        later, link = engine._later, engine._claim_link._link
        link.close()
        return later

    later = on_loop(app, cut_in_a_pause)
    eventually(lambda: engine._claim_link._link and engine._claim_link._link.lost is None, what="a new one")
    assert later.cancelled() or later.when() <= time.monotonic()
    bus.execute("DEL", keys.requests("echo"))
    assert client.request("echo", 7, timeout=60) == 7


# -- replies that cannot be delivered ----------------------------------------------------------------------


def test_a_reply_to_a_server_that_does_not_serve_now_is_sent_again(
    make: Make, own_server: Server, gate: Gate
) -> None:
    gated(make, gate, url=own_server.url, block=0.1, grace=1)
    reply_to, client = ask(own_server, "slow", 1), own_server.client()
    holds(gate, 1)
    own_server.execute("REPLICAOF", HOST, 1)

    def refusals() -> int:
        return int(client.info("errorstats").get("errorstat_READONLY", {"count": 0})["count"])

    gate.opened.set()
    eventually(lambda: refusals() > 2, what="refusals")
    own_server.execute("REPLICAOF", "NO", "ONE")
    assert answered(own_server, reply_to)


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
