"""Cancelling, and failing halfway: whatever is done to an app on a running loop, it leaves nothing behind.

Tests that are expected to fail say what is still to be mended.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from redis_toolkit import App, RedisToolkit
from redis_toolkit.errors import OutcomeUnknown, RedisToolkitError, RequestTimeout, ServerUnreachable
from redis_toolkit.worker.loop import RequestLoop
from tests.core.awaiting import awaiting, connections, named
from tests.core.callers import Scripted, listens
from tests.e2e.conftest import MakeApp
from tests.kit.ports import HOST
from tests.kit.servers import Server
from tests.kit.waiting import eventually

DEADLINE = 30.0
PAUSES = [0, 0.001, 0.005, 0.02]
"""Seconds until a call is cancelled: in one of its first awaits, and in later ones."""


def serving(server: Server, make_app: MakeApp) -> App:
    """Return an app whose handlers need all that an app can start."""
    app = make_app(named(server.url), block=0.2)

    @app.on("awaited")
    async def awaited(number: int) -> int:
        return number

    @app.on("called")
    def called(number: int) -> int:
        return number

    return app


def nothing_runs(server: Server) -> None:
    """Assert that the app neither runs nor is known as a server of its channels."""
    assert [one.name for one in threading.enumerate() if one.name.startswith("rt-")] == []
    assert server.execute("ZCARD", "rt:c:{awaited}:servers") == 0
    eventually(lambda: not connections(server), what="end of its connections")


async def cancelled_after(pause: float, call: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(call)
    await asyncio.sleep(pause)
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("pause", PAUSES)
def test_a_cancelled_start_leaves_nothing_and_may_be_repeated(
    own_server: Server, make_app: MakeApp, pause: float
) -> None:
    app = serving(own_server, make_app)

    async def main() -> None:
        await cancelled_after(pause, app.astart())
        await app.astop()
        nothing_runs(own_server)
        async with app:
            assert await app.arequest("awaited", 1, timeout=DEADLINE) == 1

    asyncio.run(main())


@pytest.mark.parametrize("pause", PAUSES)
def test_a_cancelled_stop_stops_all_the_same(own_server: Server, make_app: MakeApp, pause: float) -> None:
    app = serving(own_server, make_app)

    async def main() -> None:
        await app.astart()
        assert await app.arequest("awaited", 1, timeout=DEADLINE) == 1
        await cancelled_after(pause, app.astop())
        nothing_runs(own_server)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


@pytest.mark.parametrize("awaited", [False, True])
def test_a_start_that_fails_in_its_last_step_leaves_nothing(
    own_server: Server, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, awaited: bool
) -> None:
    app = serving(own_server, make_app)

    async def fail(_self: RequestLoop) -> None:
        raise ServerUnreachable("gone meanwhile")

    monkeypatch.setattr(RequestLoop, "start", fail)
    start: Callable[[], object] = (lambda: asyncio.run(app.astart())) if awaited else app.start
    with pytest.raises(ServerUnreachable, match="gone meanwhile"):
        start()
    assert not app._service.started
    app._connections.close()  # what the pool keeps
    nothing_runs(own_server)


# -- a server that refuses ----------------------------------------------------------------------------


@pytest.fixture
def loading() -> Iterator[Scripted]:
    server = Scripted(b"-LOADING Redis is loading the dataset in memory\r\n")
    yield server
    server.close()


@pytest.mark.parametrize("call", ["apublish", "apublish_many"])
def test_a_server_that_loads_its_data_does_not_serve_now(loading: Scripted, call: str) -> None:
    async def main(app: App) -> None:
        with pytest.raises(ServerUnreachable, match="LOADING"):
            await (app.apublish("a", 1) if call == "apublish" else app.apublish_many("a", [1, 2]))

    awaiting(loading.url, main, command_timeout=2.0)


def test_a_server_that_loads_its_data_is_not_healthy(loading: Scripted) -> None:
    async def main(app: App) -> None:
        assert not await app.ahealth_check()

    awaiting(loading.url, main, command_timeout=2.0)


@pytest.mark.parametrize("answer", [b":1\r\n", b"*1\r\n:1\r\n", b"*2\r\n$1\r\nk\r\n:7\r\n"])
def test_an_inbox_that_answers_nonsense_is_an_unknown_outcome(answer: bytes) -> None:
    class Nonsense(Scripted):
        def _reply(self, words: list[bytes]) -> bytes:
            return answer if words[0] in (b"BLPOP", b"LPOP") else b":1\r\n"

    server = Nonsense(b":1\r\n")

    async def main(app: App) -> None:
        with pytest.raises((OutcomeUnknown, ServerUnreachable, RequestTimeout)):
            await app.arequest("a", 1, timeout=2)

    try:
        awaiting(server.url, main)
    finally:
        server.close()


def test_an_inbox_that_may_not_be_read_is_no_timeout(own_server: Server) -> None:
    own_server.execute("ACL", "SETUSER", "half", "on", ">secret", "~*", "&*", "+@all", "-lpop")
    listens(own_server, "silent")

    async def main(app: App) -> None:
        with pytest.raises(RedisToolkitError) as caught:
            await app.arequest("silent", 1, timeout=4)
        assert not isinstance(caught.value, RequestTimeout)

    awaiting(f"redis://half:secret@{HOST}:{own_server.port}/0", main)


@pytest.fixture
def tls(own_server: Server) -> Iterator[str]:
    """A TLS door to the server, by a cipher that needs no certificate; its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AECDH-AES256-SHA:@SECLEVEL=0")
    loop, ports = asyncio.new_event_loop(), []
    open_writers: list[asyncio.StreamWriter] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.append(writer)
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except OSError:
            return
        finally:
            writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner = await asyncio.open_connection(HOST, own_server.port)
        await asyncio.gather(carry(reader, inner), carry(inner_reader, writer))

    async def listen() -> asyncio.Server:
        door = await asyncio.start_server(connect, HOST, 0, ssl=context)
        ports.append(door.sockets[0].getsockname()[1])
        return door

    async def close(door: asyncio.Server) -> None:
        door.close()
        for writer in open_writers:
            writer.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=DEADLINE)

    door = loop.run_until_complete(listen())
    thread = threading.Thread(target=loop.run_forever, name="door")
    thread.start()
    options = "ssl_cert_reqs=none&ssl_check_hostname=false&ssl_ciphers=AECDH-AES256-SHA:@SECLEVEL%3D0"
    yield f"rediss://{HOST}:{ports[0]}/0?{options}"
    asyncio.run_coroutine_threadsafe(close(door), loop).result(DEADLINE)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(DEADLINE)
    loop.close()


def test_a_blocking_call_through_tls(tls: str, make_app: MakeApp) -> None:
    assert make_app(tls).publish("a", 1) == 0


def test_an_awaited_call_through_tls(tls: str) -> None:
    async def main(app: App) -> None:
        assert await app.apublish("a", "x" * 900_000) == 0

    awaiting(tls, main)


def test_an_async_message_handler_cleans_up_its_toolkit(own_server: Server) -> None:
    outcome: list[BaseException | None] = []

    async def handle(channel: str, data: Any) -> None:
        try:
            toolkit.cleanup()
            outcome.append(None)
        except BaseException as error:
            outcome.append(error)

    toolkit = RedisToolkit(["end"], handle, url=own_server.url)
    try:
        toolkit.publisher("end", 1)
        eventually(lambda: outcome, what="end of the handler")
        assert outcome == [None]
    finally:
        toolkit.cleanup()
