"""The connections of the driver that coroutines use: how they are opened, lost and found dead."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from redis_toolkit import App
from redis_toolkit._core import async_hub
from redis_toolkit._core.async_hub import AsyncHub
from redis_toolkit._core.connection import Connections
from redis_toolkit._core.flow import ScriptCall
from redis_toolkit._core.recovery import Failed, Fate
from redis_toolkit._core.scripts import REQUEST
from redis_toolkit.errors import OutcomeUnknown, PermissionDenied, RequestTimeout, ServerUnreachable
from tests.core.awaiting import awaiting, becomes, connected, hub_of, named, nothing_waits, wait_readable
from tests.core.callers import LATE, echo, listens, serving
from tests.core.tls_front import TlsFront
from tests.kit.ports import HOST, listen
from tests.kit.proxy import Proxy
from tests.kit.servers import Server


class TestWhatHasNotLeft:
    """A connection that was lost before anything was written to it: it is sent again, not "unknown"."""

    @pytest.mark.parametrize("which", ["_commands", "_inbox"])
    def test_is_sent_on_the_next_connection(self, own_server: Server, which: str) -> None:
        async def main(app: App) -> None:
            await connected(app)
            for number in range(3):
                getattr(hub_of(app), which)._transport.abort()
                assert await app.arequest("echo", number, timeout=60) == number
                getattr(hub_of(app), which)._transport.abort()
                assert await app.apublish("a", number) == 0
            nothing_waits(app)

        with serving(own_server.url, echo=echo):
            awaiting(own_server.url, main, command_timeout=60)

    def test_is_not_sent_again_when_no_reply_may_be_waited_for(self, server: Server) -> None:
        listens(server, "silent")

        async def main(app: App) -> None:
            await connected(app)
            asked = asyncio.create_task(app.arequest("silent", 1, timeout=60))
            told = asyncio.create_task(app.apublish("a", 1))
            await asyncio.sleep(0)
            hub = hub_of(app)
            hub._inbox_lost(hub._inbox, redis.exceptions.NoPermissionError("no permissions to run 'blpop'"))
            with pytest.raises(PermissionDenied, match="blpop"):
                await asked
            assert await told == 0
            assert server.execute("LLEN", "rt:c:{silent}:requests") == 0

        awaiting(server.url, main, command_timeout=60)

    def test_what_has_left_stays_unknown(self, own_server: Server) -> None:
        listens(own_server, "silent")

        async def main(app: App) -> None:
            await connected(app)
            asked = asyncio.create_task(app.arequest("silent", 1, timeout=60))
            length = ("LLEN", "rt:c:{silent}:requests")
            await becomes(lambda: own_server.execute(*length) == 1, what="a request")
            hub_of(app)._inbox._transport.abort()
            with pytest.raises(OutcomeUnknown):
                await asked
            assert own_server.execute(*length) == 1

        awaiting(own_server.url, main)

    def test_a_server_that_is_loading_is_not_an_answer(self) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            hub: Any = AsyncHub(Connections("redis://127.0.0.1:1"), loop)
            done = loop.create_future()
            hub._accepted(
                None, done, ScriptCall(REQUEST, ("list",), ()), redis.BusyLoadingError("LOADING the dataset")
            )
            failure = done.exception()
            assert isinstance(failure, Failed)
            assert failure.fate is Fate.NOT_EXECUTED

        asyncio.run(main())


class TestOpening:
    def test_needs_no_place_in_the_default_executor(self, server: Server) -> None:
        go_on = threading.Event()

        async def main(app: App) -> None:
            loop = asyncio.get_running_loop()
            loop.set_default_executor(ThreadPoolExecutor(1))
            filling = loop.run_in_executor(None, go_on.wait, 120)
            try:
                assert await app.apublish("a", 1) == 0
            finally:
                go_on.set()
                await filling

        awaiting(server.url, main, command_timeout=30)

    @pytest.mark.parametrize("login", ["", "?client_name=asker"])
    def test_a_server_that_accepts_and_never_answers(self, login: str) -> None:
        listener = listen(0)

        async def main(app: App) -> None:
            for asked in (
                app.arequest("echo", 1, timeout=0.2),
                app.apublish("a", 1),
                app.arequest_many("echo", [1, 2], timeout=0.2),
            ):
                started = time.monotonic()
                with pytest.raises((RequestTimeout, OutcomeUnknown, ServerUnreachable)):
                    await asked
                assert time.monotonic() - started < 0.2 + LATE

        try:
            awaiting(f"redis://{HOST}:{listener.getsockname()[1]}/0{login}", main, command_timeout=0.2)
        finally:
            listener.close()

    def test_a_connection_whose_caller_has_gone_is_closed(self, own_server: Server, proxy: Proxy) -> None:
        async def main(app: App) -> None:
            proxy.delay(0.1)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await app.apublish("a", 1)
            proxy.delay(0)
            await becomes(lambda: proxy.accepted and not proxy.connections, what="its end")

        awaiting(named(proxy.url), main)  # a name is one round trip of the login


class TestDeadPeers:
    def test_are_found_while_a_patient_caller_waits(
        self, own_server: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(async_hub, "PATIENCE", 0.5)
        monkeypatch.setattr(async_hub, "INBOX_BLOCK", 0.1)
        monkeypatch.setattr(async_hub, "TICK", 0.05)
        listens(own_server, "silent")

        async def main(app: App) -> None:
            await app.ahealth_check()
            proxy.blackhole()
            with pytest.raises(OutcomeUnknown):
                await asyncio.wait_for(app.arequest("silent", 1, timeout=600), 60)
            proxy.heal()

            async def answered() -> bool:
                try:
                    return bool(await app.arequest("echo", 2, timeout=600) == 2)
                except (OutcomeUnknown, RequestTimeout, ServerUnreachable):
                    return False  # the other connection was found dead only now

            async with asyncio.timeout(60):
                while not await answered():
                    pass

        with serving(own_server.url, echo=echo):
            awaiting(proxy.url, main)

    def test_a_peer_that_takes_what_it_is_sent_is_not_dead(self, own_server: Server, proxy: Proxy) -> None:
        async def main(app: App) -> None:
            await app.ahealth_check()
            link = hub_of(app)._commands
            taken = iter([300, 200, 100, 100, 100])
            transport = link._transport
            link._transport = type(
                "Slow",
                (),
                {
                    "get_write_buffer_size": lambda _: next(taken),
                    "abort": lambda _: transport.abort(),
                },
            )()
            link._receivers.append(lambda _reply: None)
            link._left = 400
            for _ in range(3):
                link._owing_since = 0.0
                link.suspect()
                assert not link._suspected
            link._owing_since = 0.0
            link.suspect()
            await becomes(lambda: link.lost)

        awaiting(proxy.url, main)

    def test_a_peer_that_has_answered_while_the_loop_stood_still_is_not_dead(
        self, own_server: Server
    ) -> None:
        async def main(app: App) -> None:
            await app.ahealth_check()
            link, replies = hub_of(app)._commands, list[Any]()
            link.send([("PING",)], [replies.append])
            link.flush()
            wait_readable(link)
            link._owing_since -= 1000
            link.suspect()
            await becomes(lambda: replies)
            assert replies == [b"PONG"]
            assert link.lost is None
            assert not link._suspected

        awaiting(own_server.url, main)


class TestTls:
    def test_big_and_many_messages_arrive_both_ways(self, own_server: Server, tmp_path: Path) -> None:
        async def main(app: App) -> None:
            for size in (1, 16_000, 900_000):
                assert await app.arequest("echo", "x" * size, timeout=60) == "x" * size
            payloads = [[number, "y" * 50_000] for number in range(40)]
            assert (
                await asyncio.gather(*(app.arequest("echo", one, timeout=60) for one in payloads)) == payloads
            )
            front.cut()
            await becomes(lambda: hub_of(app)._commands.lost and hub_of(app)._inbox.lost, what="notice")
            assert await app.arequest("echo", 1, timeout=60) == 1
            nothing_waits(app)

        with TlsFront(own_server.port, tmp_path) as front, serving(own_server.url, echo=echo):
            awaiting(front.url, main, command_timeout=60)
