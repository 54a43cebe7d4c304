"""The loop engine when a handler blocks its loop or threads, or cancels every task."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from redis_toolkit import App, RemoteError, keys
from tests.core.awaiting import becomes, wait_readable
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.fakes import request_body
from tests.worker.gates import Gate, Make, answered, ask, cut, echoing, engine_of, on_loop

DEADLINE = 30.0


# -- a loop that stood still ---------------------------------------------------------------------------


def test_what_was_claimed_while_the_loop_stood_still_is_not_lost(make: Make, bus: Server) -> None:
    app = echoing(make)
    engine = engine_of(app)
    claims = engine._claim_link._link

    def stand_still() -> str:
        reply_to = ask(bus, "echo", 1)
        wait_readable(claims)
        claims._owing_since -= 1000
        engine._links._watch()
        return reply_to

    eventually(lambda: claims._receivers, what="the claim")
    assert answered(bus, on_loop(app, stand_still))
    assert engine._claim_link._link is claims


@pytest.mark.parametrize("which", ["_claim_link", "_reply_link"])
def test_a_connection_that_says_nothing_is_found_dead(
    make: Make, client: App, bus: Server, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redis_toolkit.worker.loop_links.TICK", 0.01)
    app = echoing(make)
    kept = getattr(engine_of(app), which)
    link = kept._link

    def go_silent() -> None:
        if not link._receivers:
            link._receivers.append(lambda _reply: None)
        link._owing_since -= 1000

    def is_new() -> bool:
        on_loop(app, go_silent)  # again and again, as an answer to the start may still be on its way
        return kept._link not in (link, None)

    eventually(is_new, what="a new connection")
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
        asked = pool.submit(
            client.request_many, "slow", range(50), timeout=60, window=50, return_exceptions=True
        )
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
    monkeypatch.setattr("redis_toolkit.worker.node.STUCK_SECONDS", 3600)  # for loops that do something
    monkeypatch.setattr("redis_toolkit.worker.node.BLOCKED_SECONDS", 0.1)
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


def cut_what_is_kept(bus: Server, kept: Any) -> None:
    link = eventually(lambda: kept.link, what="the connection")
    cut(bus, link)
    eventually(lambda: link.lost, what="notice of the cut")


def comes(heard: list[int], number: int, times: int) -> None:
    eventually(lambda: heard.count(number) == times, what=f"{number} for the {times}. time")


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
            cut_what_is_kept(bus, kept)
        assert client.request("echo", number, timeout=60) == number
        client.publish("echo", number)
        comes(heard, number, times=2)


def test_a_request_whose_task_is_cancelled_before_it_began_is_answered(make: Make, bus: Server) -> None:
    app = echoing(make)
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
