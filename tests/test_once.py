"""`Message.once` on a real server: what is done, known to be done, and done again."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from redis_toolkit import App, ConfigurationError, Message, RemoteError, ServerUnreachable
from redis_toolkit._core.flow import Flow
from redis_toolkit.binding import Binding
from redis_toolkit.once import AsyncOnce, Thing
from tests.kit.servers import Server
from tests.kit.waiting import eventually

KEY = "rt:o:{orders}:bill:charge-1"


@pytest.fixture
def app(server: Server) -> Iterator[App]:
    app = App(server.url)
    yield app
    app.stop()


def message_of(app: App, channel: str = "orders", scope: str = "bill") -> Message:
    """Return a message that a handler was given."""

    def bill(message: Message) -> Message:
        return message

    binding = Binding(bill, app)
    binding.scope = scope
    given = binding.call(Message(channel, {"id": 1}))
    assert isinstance(given, Message)
    return given


def keys(server: Server) -> set[str]:
    return set(server.execute("KEYS", "*"))


def test_the_second_delivery_is_told_that_it_is_done(server: Server, app: App) -> None:
    for expected in (True, False, False):
        with message_of(app).once("charge-1", ttl=60) as first:
            assert first is expected
            assert keys(server) == (set() if expected else {KEY})  # noted at the end, never before
    assert keys(server) == {KEY}
    with message_of(app).once("charge-1", ttl=6000):
        """The note of the first stays as it is."""
    assert 50_000 < server.execute("PTTL", KEY) <= 60_000


def test_it_is_not_done_when_the_block_has_raised(server: Server, app: App) -> None:
    for error in (ValueError, KeyboardInterrupt, asyncio.CancelledError):
        with pytest.raises(error), message_of(app).once("charge-1", ttl=60) as first:  # noqa: PT012
            assert first
            raise error
        assert keys(server) == set()
    with message_of(app).once("charge-1", ttl=60) as first:
        assert first


def test_a_later_failure_does_not_undo_it(server: Server, app: App) -> None:
    with message_of(app).once("charge-1", ttl=60):
        pass
    with pytest.raises(ValueError), message_of(app).once("charge-1", ttl=60) as first:  # noqa: PT011, PT012
        assert not first
        raise ValueError
    assert keys(server) == {KEY}


def test_each_handler_channel_and_key_for_itself(server: Server, app: App) -> None:
    for channel, scope, key in (
        ("orders", "bill", "charge-1"),
        ("orders", "ship", "charge-1"),
        ("refunds", "bill", "charge-1"),
        ("orders", "bill", "charge-2"),
    ):
        with message_of(app, channel, scope).once(key, ttl=timedelta(minutes=1)) as first:
            assert first
    assert len(keys(server)) == 4


def test_two_at_the_same_time_are_both_the_first(app: App) -> None:
    """It is no lock: the documentation says so."""
    with message_of(app).once("charge-1", ttl=60) as one, message_of(app).once("charge-1", ttl=60) as other:
        assert (one, other) == (True, True)
    with message_of(app).once("charge-1", ttl=60) as first:
        assert not first


def test_after_its_ttl_it_is_forgotten(server: Server, app: App) -> None:
    with message_of(app).once("charge-1", ttl=0.001):
        pass
    eventually(lambda: not keys(server))


def test_the_async_twin_knows_the_same_things(server: Server, app: App) -> None:
    async def story() -> list[bool]:
        seen = []
        with pytest.raises(ValueError):  # noqa: PT011, PT012
            async with message_of(app).aonce("charge-1", ttl=60) as first:
                seen.append(first)
                raise ValueError
        for _ in range(2):
            async with message_of(app).aonce("charge-1", ttl=60) as first:
                seen.append(first)
        await app.astop()
        return seen

    assert asyncio.run(story()) == [True, True, False]
    with message_of(app).once("charge-1", ttl=60) as first:
        assert not first


def test_what_was_done_is_noted_though_the_coroutine_is_cancelled(server: Server, app: App) -> None:
    async def story() -> None:
        done = asyncio.Event()

        async def handle() -> None:
            async with message_of(app).aonce("charge-1", ttl=60):
                done.set()

        run = asyncio.create_task(handle())
        await done.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await app.astop()

    asyncio.run(story())
    assert keys(server) == {KEY}


def test_a_note_that_takes_long_is_not_given_up_by_cancelling() -> None:
    async def story() -> None:
        noting, go_on, noted = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def run(flow: Flow[Any]) -> Any:
            command = next(flow).commands[0]  # type: ignore[union-attr]
            if isinstance(command, tuple) and command[0] == "SET":
                noting.set()
                await go_on.wait()
                noted.set()
            return False

        async def handle() -> None:
            async with AsyncOnce(Thing("orders", "bill", "charge-1", 60), run):
                """Done."""

        task = asyncio.create_task(handle())
        await noting.wait()
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert noted.is_set()

    asyncio.run(story())


def test_a_note_that_the_server_does_not_take_is_said_and_nothing_is_done_twice_for_it(
    own_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(own_server.url, command_timeout=0.2)
    with message_of(app).once("charge-\n1", ttl=60) as first:
        assert first
        own_server.kill()
    with pytest.raises(ServerUnreachable), message_of(app).once("charge-1", ttl=60):
        raise AssertionError("nobody knows whether it was done")
    [record] = [one for one in caplog.records if "cannot be noted" in one.getMessage()]
    assert (record.levelno, record.getMessage()[:20]) == (logging.WARNING, "charge-\\n1 was done ")
    app.stop()


@pytest.mark.parametrize("key", ["", None, 7, b"x", "x" * 1001, "\ud800"])
def test_a_key_is_text(app: App, key: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"once\("):
        message_of(app).once(key, ttl=1)
    with pytest.raises(ConfigurationError, match=r"once\("):
        message_of(app).aonce(key, ttl=1)


@pytest.mark.parametrize("ttl", [0, -1, None, "60", math.inf, math.nan, True])
def test_a_ttl_is_a_duration(app: App, ttl: Any) -> None:
    with pytest.raises(ConfigurationError, match="ttl="):
        message_of(app).once("k", ttl=ttl)


def test_handlers_of_requests_and_events_have_it(server: Server) -> None:
    app = App(server.url)
    heard: list[bool] = []

    @app.on("orders")
    def bill(order: dict[str, Any], message: Message) -> bool:
        with message.once(f"charge-{order['id']}", ttl=60) as first:
            heard.append(first)
            return first

    @app.on("refunds")
    async def refund(order: dict[str, Any], message: Message) -> bool:
        async with message.aonce(f"refund-{order['id']}", ttl=60) as first:
            return first

    @app.on("wrong")
    async def wrong(message: Message) -> None:
        with message.once("k", ttl=60):
            """Not reached."""

    with app:
        assert [app.request("orders", {"id": 1}, timeout=30) for _ in range(2)] == [True, False]
        assert [app.request("refunds", {"id": 1}, timeout=30) for _ in range(2)] == [True, False]
        app.publish("orders", {"id": 1})
        eventually(lambda: heard[2:] == [False])
        with pytest.raises(RemoteError, match="await aonce"):
            app.request("wrong", 1, timeout=30)
    names = {key.partition("test_handlers")[0] for key in keys(server) if key.startswith("rt:o:")}
    assert names == {"rt:o:{orders}:", "rt:o:{refunds}:"}
