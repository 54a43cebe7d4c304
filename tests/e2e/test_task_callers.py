"""The caller's side of queues where nobody works: limits, repeats, and waits that share."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from redis_toolkit import App, OutcomeUnknown, QueueFull, RequestTimeout, StoreFull, TaskCancelled, keys
from redis_toolkit._core.flows import serving
from redis_toolkit._core.flows.work import Ended, Settlement
from redis_toolkit.patterns import TaskHandle, TaskQueue
from redis_toolkit.task_envelope import read_task
from tests.core.awaiting import becomes, hub_of
from tests.e2e.queues import DEADLINE, Queue
from tests.e2e.styles import Background, Style
from tests.kit.proxy import Proxy
from tests.kit.servers import Server
from tests.lua import trips

MakeQueue = Callable[..., TaskQueue]


@pytest.fixture
def queue(app: App) -> TaskQueue:
    return TaskQueue("q", app=app)


def work(queue: TaskQueue, result: Any = "done") -> list[str]:
    """Do what a worker does with what is ready; returns the ids."""
    run, source, wire = queue.app._driver.run, queue._source, queue._wire
    ids = []
    for item in run(trips.claim(source, "me", 100)).items:
        task_id = read_task(wire, item.body or b"").id
        ended = Ended("done", wire.reply(task_id, result), 60_000, "add")
        settled = run(trips.settle(source, "me", [Settlement(item, task_id, ended)]))
        pushes = [(address, ended.reply) for _, addresses in settled.waiters for address in addresses]
        for pair in serving.push_replies(pushes):
            for command in pair:
                queue.app.client.execute_command(*command)
        ids.append(task_id)
    return ids


def waiters(queue: TaskQueue) -> dict[str, str]:
    found = queue.app.client.hgetall(keys.task_waiters(queue.name))
    return {name.decode(): value.decode() for name, value in found.items()}


class TestLimits:
    @pytest.fixture
    def styled(self, app: App, style: Style, background: Background | None) -> Queue:
        return Queue(app, style, background, max_pending=3)

    @pytest.mark.usefixtures("every_style")
    def test_a_full_queue_refuses(self, styled: Queue) -> None:
        for number in range(3):
            styled.submit("add", number, delay=60 if number else None)
        with pytest.raises(QueueFull, match="queue 'q' holds 3 tasks, its max_pending is 3"):
            styled.submit("add", 3)
        with pytest.raises(QueueFull):
            styled.submit_task("add", 3)
        styled.purge()
        assert styled.stats().pending == 0

    @pytest.mark.usefixtures("every_style")
    def test_of_many_those_that_fit_are_in(self, styled: Queue) -> None:
        calls = [styled.real.call("add", number) for number in range(5)]
        done = styled.submit_many(calls, return_exceptions=True)
        assert [type(one) for one in done] == [TaskHandle] * 3 + [QueueFull] * 2
        with pytest.raises(QueueFull, match=r"5 of 5 tasks refused: queue 'q' holds 3"):
            styled.submit_many(calls)


def test_handles_have_no_names_of_their_own(queue: TaskQueue) -> None:
    handle = queue.submit("add", 1)
    assert repr(handle) == f"TaskHandle({handle.id!r} of queue 'q')"
    assert queue.handle(handle.id).status() == "queued"
    assert queue.handle("another").status() == "unknown"


class TestWaitingTogether:
    """Several coroutines that await one task share one wait."""

    @pytest.fixture
    def run(self, server: Server, app: App) -> Callable[[Callable[[TaskQueue], Awaitable[Any]]], Any]:
        def runs(main: Callable[[TaskQueue], Awaitable[Any]]) -> Any:
            async def program() -> Any:
                try:
                    return await main(TaskQueue("q", app=app))
                finally:
                    assert {
                        task for task in asyncio.all_tasks() if task is not asyncio.current_task()
                    } == set()
                    await app.astop()

            return asyncio.run(program())

        return runs

    def test_one_address_for_all(self, run: Any) -> None:
        async def main(queue: TaskQueue) -> None:
            handle = await queue.asubmit("add", 1)
            waits = [asyncio.ensure_future(handle.aresult(DEADLINE)) for _ in range(3)]
            waits += [asyncio.ensure_future(queue.handle(handle.id).aresult(DEADLINE)) for _ in range(3)]
            await becomes(lambda: waiters(queue))
            assert len(waiters(queue)[handle.id].split("\n")) == 1
            work(queue, 5)
            assert await asyncio.gather(*waits) == [5] * 6
            assert hub_of(queue.app)._waiting == {}

        run(main)

    def test_another_one_leads_when_the_first_gives_up(self, run: Any) -> None:
        async def main(queue: TaskQueue) -> None:
            handle = await queue.asubmit("add", 1)
            waits = [asyncio.ensure_future(handle.aresult(DEADLINE)) for _ in range(4)]
            short = asyncio.ensure_future(handle.aresult(0.05))
            await becomes(lambda: waiters(queue))
            waits[0].cancel()
            waits[1].cancel()
            with pytest.raises(RequestTimeout, match=r"0\.05 s"):
                await short
            work(queue, 5)
            outcomes = await asyncio.gather(*waits, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes[:2]] == [asyncio.CancelledError] * 2
            assert outcomes[2:] == [5, 5]
            assert hub_of(queue.app)._waiting == {}

        run(main)

    def test_a_short_wait_that_leads_leaves_the_others_waiting(self, run: Any) -> None:
        async def main(queue: TaskQueue) -> None:
            handle = await queue.asubmit("add", 1)
            short = asyncio.ensure_future(handle.aresult(0.05))
            await asyncio.sleep(0)
            long = asyncio.ensure_future(handle.aresult(DEADLINE))
            with pytest.raises(RequestTimeout):
                await short
            assert not long.done()
            work(queue, 5)
            assert await long == 5

        run(main)

    def test_two_queues_with_one_id(self, run: Any) -> None:
        async def main(queue: TaskQueue) -> None:
            other = TaskQueue("other", app=queue.app)
            handles = [await one.asubmit("add", 1, id="order-7") for one in (queue, other)]
            waits = [asyncio.ensure_future(handle.aresult(DEADLINE)) for handle in handles]
            await becomes(lambda: waiters(queue) and waiters(other))
            await asyncio.to_thread(work, other, "of the other")
            await asyncio.to_thread(work, queue, "of the first")
            assert await asyncio.gather(*waits) == ["of the first", "of the other"]

        run(main)

    def test_a_handle_can_be_awaited(self, run: Any) -> None:
        async def main(queue: TaskQueue) -> None:
            handle = await queue.asubmit("add", 1)
            work(queue, 5)
            assert await handle == 5
            assert await queue.agather([handle, queue.handle(handle.id)]) == [5, 5]

        run(main)

    def test_an_error_is_told_to_each(self, run: Any) -> None:
        async def main(queue: TaskQueue) -> None:
            handle = await queue.asubmit("add", 1)
            waits = [asyncio.ensure_future(queue.handle(handle.id).aresult(DEADLINE)) for _ in range(3)]
            await becomes(lambda: waiters(queue))
            assert await handle.acancel()
            outcomes = await asyncio.gather(*waits, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [TaskCancelled] * 3
            assert len({id(outcome) for outcome in outcomes}) == 3

        run(main)

    def test_nothing_is_kept_of_apps_that_are_gone(self, server: Server) -> None:
        from redis_toolkit.patterns import task_waits

        async def main() -> None:
            app = App(server.url)
            queue = TaskQueue("q", app=app)
            with pytest.raises(RequestTimeout):
                await (await queue.asubmit("add", 1)).aresult(0.01)
            await app.astop()

        asyncio.run(main())
        gc.collect()
        assert not list(task_waits._waits)


class TestFaults:
    @pytest.fixture
    def styled(
        self,
        proxy: Proxy,
        make_app: Any,
        quickly: dict[str, Any],
        style: Style,
        background: Background | None,
    ) -> Queue:
        app = make_app(proxy.url, **quickly)
        return Queue(app, style, background)

    @pytest.mark.fault(18, "tasks")
    @pytest.mark.fault(16, "tasks")
    @pytest.mark.parametrize("how", ["fin", "rst"])
    def test_a_repeat_after_an_unknown_outcome_adds_no_task(
        self, styled: Queue, proxy: Proxy, how: Any
    ) -> None:
        styled.submit("add", 0)
        for number in range(5):
            dropped = proxy.drop_reply(b"rt:q:{q}", how=how)
            assert styled.submit("add", number, id=f"order-{number}").id == f"order-{number}"
            assert dropped.hits == 1
        assert styled.stats().pending == 6

    @pytest.mark.fault(18, "tasks")
    def test_without_an_id_it_is_the_callers_to_decide(self, styled: Queue, proxy: Proxy) -> None:
        styled.submit("add", 0)
        proxy.drop_reply(b"XADD")
        with pytest.raises(OutcomeUnknown):
            styled.submit("add", 1)
        assert styled.stats().pending == 2

    @pytest.mark.fault(14, "tasks")
    def test_a_wait_outlives_its_connections(self, styled: Queue, own_server: Server) -> None:
        handle = styled.submit("add", 1)
        direct = TaskQueue("q", app=App(own_server.url))
        heard: list[Any] = []
        thread = threading.Thread(target=lambda: heard.append(styled.result(handle, 60)))
        thread.start()
        for _ in range(20):
            own_server.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            thread.join(0.05)
        assert thread.is_alive()
        work(direct, 5)
        thread.join(30)
        assert heard == [5]
        direct.app.stop()

    @pytest.mark.fault(25, "tasks")
    def test_a_full_server_refuses(self, styled: Queue, own_server: Server) -> None:
        handle = styled.submit("add", 1)
        own_server.execute("CONFIG", "SET", "maxmemory", "1")
        for options in ({}, {"delay": 60}, {"id": "7"}):
            with pytest.raises(StoreFull):
                styled.submit("add", 2, **options)
        assert styled.do(handle, "cancel")
        own_server.execute("CONFIG", "SET", "maxmemory", "0")
        assert (styled.stats().pending, styled.do(handle, "status")) == (0, "cancelled")


@pytest.mark.fault(20, "tasks")
def test_a_submit_that_is_cancelled_adds_one_task_or_none(server: Server, app: App) -> None:
    async def main() -> None:
        queue = TaskQueue("q", app=app)
        await queue.asubmit("add", 0)
        for turns in range(8):
            before = (await queue.astats()).pending
            task = asyncio.ensure_future(queue.asubmit("add", turns))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert (await queue.astats()).pending - before in (0, 1)
        handle = await queue.asubmit("add", 0)
        waiting = asyncio.ensure_future(handle.aresult())
        for turns in range(8):
            for _ in range(turns):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert hub_of(app)._waiting == {}
            waiting = asyncio.ensure_future(handle.aresult())
        work(queue, "result")
        assert await waiting == "result"
        await app.astop()

    asyncio.run(main())
