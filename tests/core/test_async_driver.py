"""The driver that coroutines use: ten thousand at once, cancelled at every await, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from functools import partial
from typing import Any

import pytest

from redis_toolkit import App
from redis_toolkit.errors import EncodeError, NoResponders, PayloadTooLarge, RemoteError, RequestTimeout
from tests.core.awaiting import awaiting, becomes, connected, connections, hub_of, named, nothing_waits
from tests.core.callers import echo, listens, serving
from tests.kit.servers import Server
from tests.kit.threads import in_threads
from tests.kit.waiting import eventually

MANY = 10_000


class TestManyAtOnce:
    def test_ten_thousand_wait_on_two_connections_and_nothing_is_left(self, own_server: Server) -> None:
        listens(own_server, "echo")
        watching = own_server.client()

        def serve(done: threading.Event) -> None:
            with serving(own_server.url, echo=echo):
                assert done.wait(240)

        async def main(app: App) -> None:
            await connected(app)
            assert len(hub_of(app)._waiting) == 0
            before = set(connections(own_server))
            asked = [asyncio.create_task(app.arequest("echo", n, timeout=240)) for n in range(MANY)]
            await becomes(lambda: watching.llen("rt:c:{echo}:requests") == MANY, timeout=120)
            assert len(hub_of(app)._waiting) == MANY
            assert len(before) == 2
            assert set(connections(own_server)) == before
            done = threading.Event()
            served = asyncio.create_task(asyncio.to_thread(serve, done))
            try:
                assert await asyncio.gather(*asked) == list(range(MANY))
            finally:
                done.set()
                await served
            assert set(connections(own_server)) == before
            nothing_waits(app)

        awaiting(named(own_server.url), main)
        own_server.execute("DEL", "rt:c:{echo}:servers")
        for key in watching.scan_iter(count=1000):
            assert watching.pttl(key) != -1, f"{key} would live for ever"
        eventually(lambda: not connections(own_server), what="end of the connections")

    def test_many_of_them_with_a_window(self, server: Server) -> None:
        async def main(app: App) -> None:
            assert await app.arequest_many("echo", range(2000), window=500, timeout=120) == list(range(2000))
            nothing_waits(app)

        with serving(server.url, echo=echo):
            awaiting(server.url, main)

    def test_coroutines_of_several_loops_get_their_own_replies(self, server: Server) -> None:
        app = App(server.url)

        def run(name: int) -> None:
            async def program() -> None:
                questions = [[name, number] for number in range(300)]
                answers = await asyncio.gather(*(app.arequest("echo", one, timeout=120) for one in questions))
                await app.astop()
                assert answers == questions

            asyncio.run(program())

        with serving(server.url, echo=echo):
            in_threads(*(partial(run, name) for name in range(5)))
        assert not app._async_driver._hubs

    def test_one_loop_after_another(self, server: Server) -> None:
        app = App(server.url)

        async def program(number: int) -> Any:
            try:
                return await app.arequest("echo", number)
            finally:
                await app.astop()

        with serving(server.url, echo=echo):
            assert [asyncio.run(program(number)) for number in range(3)] == [0, 1, 2]

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    @pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
    def test_a_loop_that_ended_without_a_stop_is_forgotten(self, own_server: Server) -> None:
        app = App(named(own_server.url))
        for _ in range(5):
            assert asyncio.run(app.apublish("a", 1)) == 0
        assert len(app._async_driver._hubs) <= 1
        eventually(lambda: len(connections(own_server)) <= 2, what="end of the connections of ended loops")
        asyncio.run(app.astop())
        gc.collect()  # the warnings belong here


class TestCancelling:
    @pytest.mark.parametrize("pause", [0.0, 0.0004])
    @pytest.mark.parametrize("warm", [True, False])
    @pytest.mark.fault(20, "requests")
    def test_at_every_await_frees_the_place(self, own_server: Server, warm: bool, pause: float) -> None:
        async def cancelled(app: App, turns: int) -> None:
            if warm:
                await app.ahealth_check()
            task = asyncio.create_task(app.arequest("echo", [turns, "cancelled"], timeout=60))
            bystander = asyncio.create_task(app.arequest("echo", [turns, "bystander"], timeout=60))
            for _ in range(turns):
                await asyncio.sleep(pause)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                assert await task == [turns, "cancelled"]
            assert await app.arequest("echo", turns, timeout=60) == turns
            assert await bystander == [turns, "bystander"]
            nothing_waits(app)

        with serving(own_server.url, echo=echo):
            for turns in range(31):
                awaiting(named(own_server.url), lambda app, turns=turns: cancelled(app, turns))  # type: ignore[misc]
            eventually(lambda: not connections(own_server), what="end of the connections")

    @pytest.mark.fault(20, "requests")
    def test_many_of_many_frees_the_window(self, own_server: Server) -> None:
        listens(own_server, "silent")

        async def main(app: App) -> None:
            task = asyncio.create_task(app.arequest_many("silent", range(500), timeout=600))
            length = ("LLEN", "rt:c:{silent}:requests")
            await becomes(lambda: own_server.execute(*length) == 100, what="a full window")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            nothing_waits(app)
            assert await app.arequest("echo", 1) == 1
            assert own_server.execute(*length) == 100

        with serving(own_server.url, echo=echo):
            awaiting(own_server.url, main)

    def test_a_timeout_around_a_call_is_the_callers(self, server: Server) -> None:
        listens(server, "silent")

        async def main(app: App) -> None:
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(0.05):
                    await app.arequest("silent", 1, timeout=600)
            assert type(caught.value) is TimeoutError
            nothing_waits(app)

        awaiting(server.url, main)


class TestReplies:
    def test_a_late_one_reaches_nobody_else(self, own_server: Server) -> None:
        go_on = threading.Event()

        def slow(data: int) -> int:
            if data == 0:
                assert go_on.wait(60)
            return data

        async def main(app: App) -> None:
            with pytest.raises(RequestTimeout, match="'slow'"):
                await app.arequest("slow", 0, timeout=0.1)
            nothing_waits(app)
            asked = [asyncio.create_task(app.arequest("slow", n, timeout=60)) for n in range(1, 50)]
            go_on.set()
            assert await asyncio.gather(*asked) == list(range(1, 50))

        with serving(own_server.url, slow=slow):
            awaiting(own_server.url, main)

    def test_errors_and_nobody(self, server: Server) -> None:
        def fail(data: Any) -> None:
            raise KeyError(data)

        async def main(app: App) -> None:
            with pytest.raises(RemoteError, match="KeyError: 'x'"):
                await app.arequest("fail", "x")
            started = time.monotonic()
            with pytest.raises(NoResponders, match="'nobody'"):
                await app.arequest("nobody", 1, timeout=600)
            assert time.monotonic() - started < 300
            nothing_waits(app)

        with serving(server.url, fail=fail):
            awaiting(server.url, main)

    @pytest.mark.fault(31, "events", "requests")
    def test_what_cannot_be_sent_is_said_and_leaves_nothing(self, server: Server) -> None:
        listens(server, "echo")

        async def main(app: App) -> None:
            for payload, error in ((object(), EncodeError), ("x" * 1024 * 1024, PayloadTooLarge)):
                with pytest.raises(error):
                    await app.arequest("echo", payload)
                with pytest.raises(error):
                    await app.apublish("echo", payload)
                [outcome] = await app.arequest_many("echo", [payload], return_exceptions=True)
                assert type(outcome) is error
            nothing_waits(app)
            assert server.execute("EXISTS", "rt:c:{echo}:requests") == 0

        awaiting(server.url, main)

    def test_a_server_that_lost_its_scripts_is_told_them_again(self, server: Server) -> None:
        async def main(app: App) -> None:
            for number in range(5):
                server.execute("SCRIPT", "FLUSH")
                assert await app.arequest_many("echo", [number] * 20) == [number] * 20
                server.execute("SCRIPT", "FLUSH")
                with pytest.raises(NoResponders):
                    await app.arequest("nobody")
            nothing_waits(app)

        with serving(server.url, echo=echo):
            awaiting(server.url, main)


class TestBlockingCalls:
    def test_on_a_loop_that_runs_no_handlers_they_warn_once(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("redis_toolkit._core.loops._warned", False)

        async def main(app: App) -> None:
            with pytest.warns(RuntimeWarning, match="await apublish") as caught:
                app.publish("a", 1)
            assert app.publish("a", 1) == 0  # a second warning would be an error
            assert caught[0].filename == __file__

        awaiting(server.url, main)
