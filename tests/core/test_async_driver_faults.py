"""The driver that coroutines use, when the network and the server fail it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from redis_toolkit import App
from redis_toolkit.errors import OutcomeUnknown, RedisToolkitError, RequestTimeout, ServerUnreachable
from tests.core.awaiting import awaiting, becomes, hub_of, kill_connection, named, nothing_waits
from tests.core.callers import LATE, echo, listens, serving
from tests.kit.proxy import Proxy
from tests.kit.servers import Server


async def waits(server: Server, channel: str, count: int) -> None:
    key = f"rt:c:{{{channel}}}:requests"
    await becomes(lambda: server.execute("LLEN", key) == count, what=f"{count} requests")


class TestCuts:
    @pytest.mark.parametrize("cut", ["inbox", "fin", "rst"])
    @pytest.mark.fault(16, "requests")
    def test_whoever_waits_hears_it_at_once_and_the_next_get_their_replies(
        self, own_server: Server, proxy: Proxy, cut: str
    ) -> None:
        listens(own_server, "silent")

        async def main(app: App) -> None:
            asked = [asyncio.create_task(app.arequest("silent", n, timeout=600)) for n in range(20)]
            await waits(own_server, "silent", 20)
            if cut == "inbox":
                kill_connection(own_server, "blpop")
            else:
                (proxy.fin if cut == "fin" else proxy.rst)()
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {OutcomeUnknown}
            assert len({id(outcome) for outcome in outcomes}) == 20  # tracebacks do not pile up on one
            nothing_waits(app)
            assert await asyncio.gather(*(app.arequest("echo", n) for n in range(20))) == list(range(20))

        with serving(own_server.url, echo=echo):
            awaiting(named(own_server.url if cut == "inbox" else proxy.url), main)

    @pytest.mark.fault(16, "requests")
    def test_without_its_command_connection_the_reply_still_arrives(self, own_server: Server) -> None:
        listens(own_server, "late")

        async def main(app: App) -> None:
            asked = asyncio.create_task(app.arequest("late", 1, timeout=600))
            await waits(own_server, "late", 1)
            kill_connection(own_server, "eval evalsha")
            assert await app.arequest("echo", 2, timeout=60, retries=3) == 2

            def serve() -> None:
                with serving(own_server.url, late=echo):
                    asyncio.run_coroutine_threadsafe(becoming(asked), loop).result(60)

            loop = asyncio.get_running_loop()
            await asyncio.to_thread(serve)
            assert await asked == 1

        async def becoming(task: asyncio.Task[Any]) -> None:
            await asyncio.wait([task])

        with serving(own_server.url, echo=echo):
            awaiting(named(own_server.url), main)

    @pytest.mark.fault(18, "events")
    def test_a_publish_whose_reply_is_lost_is_not_repeated(self, own_server: Server, proxy: Proxy) -> None:
        async def main(app: App) -> None:
            await app.ahealth_check()
            drop = proxy.drop_reply(b"PUBLISH")
            with pytest.raises(OutcomeUnknown):
                await app.apublish("a", 1)
            assert await app.apublish("a", 1) == 0
            assert drop.hits == 1
            drop = proxy.drop_reply(b"PING")
            assert await app.ahealth_check()
            assert drop.hits == 1

        awaiting(proxy.url, main, command_timeout=30)

    @pytest.mark.fault(16, "requests")
    def test_connections_that_were_cut_while_idle_are_replaced(
        self, own_server: Server, proxy: Proxy
    ) -> None:
        async def main(app: App) -> None:
            for cut in (proxy.fin, proxy.rst):
                assert await app.arequest("echo", 1) == 1
                cut()
                await becomes(lambda: hub_of(app)._commands.lost, what="notice of the cut")
                await becomes(lambda: hub_of(app)._inbox.lost, what="notice of the cut")
                assert await app.arequest("echo", 2) == 2

        with serving(own_server.url, echo=echo):
            awaiting(proxy.url, main)

    @pytest.mark.fault(11, "events")
    def test_a_server_that_is_started_again(self, own_server: Server) -> None:
        async def main(app: App) -> None:
            await app.ahealth_check()
            own_server.kill()
            with pytest.raises(ServerUnreachable):
                await app.apublish("a", 1)
            asked = asyncio.create_task(app.ahealth_check())
            await asyncio.to_thread(own_server.start)
            assert await asked

        awaiting(own_server.url, main, command_timeout=0.5)
        awaiting(own_server.url, lambda app: app.apublish("a", 1))


Ask = Callable[[App], Awaitable[Any]]
ASKS: list[Ask] = [
    lambda app: app.arequest("silent", 1, timeout=0.5),
    lambda app: app.arequest_many("silent", [1, 2], timeout=0.5),
    lambda app: app.apublish("silent", 1),
]


async def in_time(asked: Awaitable[Any], timeout: float = 0.5) -> None:
    started = time.monotonic()
    with pytest.raises((RequestTimeout, OutcomeUnknown, ServerUnreachable)):
        async with asyncio.timeout(60):
            await asked
    assert time.monotonic() - started < timeout + LATE


class TestDeadlines:
    @pytest.mark.parametrize("direction", ["up", "down", "both"])
    @pytest.mark.fault(17, "events", "requests")
    def test_a_network_that_swallows_everything(
        self, own_server: Server, proxy: Proxy, direction: Any
    ) -> None:
        listens(own_server, "silent")

        async def main(app: App) -> None:
            await app.ahealth_check()
            proxy.blackhole(direction)
            for ask in ASKS:
                await in_time(ask(app))
            nothing_waits(app)

        awaiting(proxy.url, main, command_timeout=0.5)

    @pytest.mark.fault(17, "requests")
    def test_after_a_network_that_swallowed_everything_requests_arrive_again(
        self, own_server: Server, proxy: Proxy
    ) -> None:
        async def main(app: App) -> None:
            assert await app.arequest("echo", 1) == 1
            proxy.blackhole()
            await in_time(app.arequest("echo", 2, timeout=0.5))
            proxy.heal()
            deadline = time.monotonic() + 30
            while True:
                try:
                    assert await app.arequest("echo", 3, timeout=0.5) == 3
                    return
                except RedisToolkitError:
                    assert time.monotonic() < deadline, "requests on a dead connection for 30 s"

        with serving(own_server.url, echo=echo):
            awaiting(proxy.url, main)

    @pytest.mark.fault(15, "events", "requests")
    def test_a_server_that_stands_still(self, own_server: Server) -> None:
        listens(own_server, "silent")

        async def main(app: App) -> None:
            await app.ahealth_check()
            own_server.pause()
            for ask in ASKS:
                await in_time(ask(app))
            own_server.resume()
            assert await app.apublish("a", 1) == 0
            nothing_waits(app)

        awaiting(own_server.url, main, command_timeout=0.5)

    @pytest.mark.fault(15, "requests")
    def test_big_messages_to_a_server_that_does_not_read(self, own_server: Server) -> None:
        listens(own_server, "silent")

        async def main(app: App) -> None:
            await app.ahealth_check()
            own_server.pause()
            big = "x" * 30_000_000
            first = asyncio.create_task(in_time(app.arequest("silent", big, timeout=0.5)))
            await asyncio.sleep(0.05)
            await in_time(app.arequest("silent", 2, timeout=0.5))  # nothing more goes into the socket
            await first
            own_server.resume()

        awaiting(own_server.url, main, command_timeout=0.5, max_payload=64_000_000)

    def test_a_short_timeout_of_one_caller_harms_no_other(self, own_server: Server, proxy: Proxy) -> None:
        async def main(app: App) -> None:
            await app.ahealth_check()
            proxy.delay(0.1)  # 0.2 s for each of the two round trips of a request that nobody serves
            short = asyncio.create_task(app.arequest("nobody", 1, timeout=0.3))
            others = []
            for _ in range(10):
                await asyncio.sleep(0.05)
                others.append(asyncio.create_task(app.apublish("a", 1)))
            assert await asyncio.gather(*others) == [0] * 10
            with pytest.raises(RequestTimeout):
                await short

        awaiting(proxy.url, main, command_timeout=30)
