"""`ReliableMessaging`: True once it was handled, and nothing lost if it was not."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from redis_toolkit import App, ConfigurationError, GroupUnknown, Message, Reject
from redis_toolkit._core.flow import Call, Flow
from redis_toolkit._core.flows import durable
from redis_toolkit.patterns import ReliableMessaging
from tests.kit.servers import Server
from tests.kit.waiting import eventually

Make = Callable[[], ReliableMessaging]


@pytest.fixture
def make(server: Server) -> Iterator[Make]:
    with ExitStack() as stack:
        app = App(server.url)
        stack.callback(app.stop)
        yield lambda: stack.enter_context(ReliableMessaging(app=app))


def test_true_once_a_handler_has_finished(make: Make) -> None:
    got: list[Any] = []
    message = {"amount": 3}
    with make().create_ack_subscriber("payments", got.append):
        assert make().publish_with_ack("payments", message, timeout=30)
        assert got == [{"amount": 3}]
        assert message == {"amount": 3}
        assert make().publish_with_ack("payments", "text", timeout=30)
        assert got[1:] == ["text"]
        eventually(lambda: make().pending("payments") == 0)


def test_awaited_and_with_an_async_handler(make: Make) -> None:
    got: list[Any] = []

    async def book(amount: int, currency: str = "EUR") -> None:
        got.append((amount, currency))

    async def main() -> None:
        messaging = make()
        with messaging.create_ack_subscriber("payments", book):
            assert await messaging.apublish_with_ack("payments", {"amount": 3}, timeout=30)
            assert got == [(3, "EUR")]
            assert await messaging.apending("payments") == 0
            assert await messaging.adead("payments") == []
        assert not await messaging.apublish_with_ack("payments", 1, timeout=0.05)

    asyncio.run(main())


def test_false_when_nobody_is_there_and_kept_for_who_comes(make: Make) -> None:
    messaging = make()
    assert not messaging.publish_with_ack("payments", {"amount": 3}, timeout=0.05)
    assert messaging.pending("payments") == 1
    got: list[Any] = []
    with messaging.create_ack_subscriber("payments", got.append):
        eventually(lambda: got == [{"amount": 3}])
        eventually(lambda: messaging.pending("payments") == 0)


def test_a_handler_that_raises_is_retried_then_buried(make: Make) -> None:
    messaging = make()
    attempts: list[int] = []
    broken = True

    def book(message: dict[str, int]) -> None:
        attempts.append(message["amount"])
        if broken:
            raise ValueError("closed")

    with messaging.create_ack_subscriber("payments", book, retries=2, backoff=0.01):
        assert not messaging.publish_with_ack("payments", {"amount": 3}, timeout=0.2)
        eventually(lambda: messaging.dead("payments"))
        assert attempts == [3, 3, 3]
        [letter] = messaging.dead("payments")
        assert (letter.error, letter.data) == ("ValueError: closed", {"amount": 3})
        assert b"_msg_id" in letter.body
        broken = False
        assert messaging.requeue("payments") == 1
        eventually(lambda: attempts == [3, 3, 3, 3])
        eventually(lambda: messaging.pending("payments") == 0)


@pytest.mark.parametrize("calls", ["called", "awaited"])
@pytest.mark.parametrize("error", [ValueError("closed"), Reject("never")], ids=repr)
def test_false_at_once_when_it_is_a_dead_letter(make: Make, calls: str, error: Exception) -> None:
    messaging, began = make(), time.monotonic()

    def book(message: dict[str, int]) -> None:
        message.clear()  # what was published says who is told, whatever becomes of it here
        raise error

    with messaging.create_ack_subscriber("payments", book, retries=1, backoff=0.01):
        if calls == "called":
            handled = messaging.publish_with_ack("payments", {"amount": 3}, timeout=90)
        else:
            handled = asyncio.run(messaging.apublish_with_ack("payments", {"amount": 3}, timeout=90))
        assert not handled
        assert time.monotonic() - began < 60
        assert [letter.data for letter in messaging.dead("payments")] == [{"amount": 3}]
        assert messaging.pending("payments") == 0


def test_two_subscribers_share(make: Make) -> None:
    got: list[Any] = []
    messaging = make()
    with (
        messaging.create_ack_subscriber("payments", got.append),
        messaging.create_ack_subscriber("payments", got.append),
    ):
        for number in range(20):
            assert messaging.publish_with_ack("payments", {"n": number}, timeout=30)
    assert sorted(one["n"] for one in got) == list(range(20))


def test_its_end_is_that_of_what_it_has_created(make: Make, server: Server) -> None:
    other = make()
    with ReliableMessaging(url=server.url) as messaging:
        running = messaging.create_ack_subscriber("payments", lambda data: None)
        assert other.publish_with_ack("payments", 1, timeout=30)
        assert repr(running).startswith("<subscriber of 'payments' on App(")
        assert repr(running).endswith(", running>")
    assert repr(running).endswith(", not running>")
    assert not other.publish_with_ack("payments", 1, timeout=0.05)
    running.stop()


def test_its_end_may_be_awaited(make: Make, server: Server) -> None:
    async def main() -> bool:
        async with ReliableMessaging(url=server.url) as messaging:
            messaging.create_ack_subscriber("payments", lambda data: None)
            return await messaging.apublish_with_ack("payments", 1, timeout=30)

    assert asyncio.run(main())
    assert not make().publish_with_ack("payments", 1, timeout=0.05)


def test_an_app_that_starts_here_leaves_its_subscribers_where_they_are(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    app, got = App(server.url), list[Any]()
    messaging = ReliableMessaging(app=app)
    with messaging.create_ack_subscriber("payments", got.append), app:
        assert messaging.publish_with_ack("payments", 1, timeout=30)
        assert caplog.text == ""
    with app:
        assert not messaging.publish_with_ack("payments", 2, timeout=0.05)
    assert got == [1]
    messaging.stop()
    assert "no handlers" in caplog.text  # said when it had none any more


def test_what_worker_processes_take_over_ends_here(server: Server) -> None:
    app = App(server.url)
    messaging = ReliableMessaging(app=app)
    first, second = (messaging.create_ack_subscriber("payments", lambda data: None) for _ in range(2))
    with pytest.raises(ConfigurationError, match=r"two subscribers of .payments., acknowledged messages"):
        app._router.take_over()
    second.stop()
    app._router.take_over()
    assert repr(first).endswith(", not running>")
    assert [one.channel for one in app._router.durables] == ["rt:ack:payments"]
    first.stop()
    assert app._router.durables == []
    messaging.stop()


def test_a_channel_that_nobody_has_used(make: Make) -> None:
    messaging = make()
    assert messaging.dead("paymets") == []
    assert messaging.pending("paymets") == 0
    with pytest.raises(GroupUnknown, match="nothing was published on 'paymets' to be acknowledged"):
        messaging.requeue("paymets")


def test_users_see_the_name_that_they_gave(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    messaging, seen = make(), set[str]()

    def book(data: Any, channel: str, message: Message) -> None:
        with message.once("book", ttl=60) as first:
            seen.add(f"{channel} {message.channel} {first}")
        raise Reject("closed")

    with caplog.at_level("DEBUG", "redis_toolkit"), messaging.create_ack_subscriber("payments", book):
        assert not messaging.publish_with_ack("payments", 3, timeout=0.05)
        eventually(lambda: messaging.dead("payments"))
    assert seen == {"payments payments True"}
    assert "of 'payments', acknowledged messages: Reject: closed" in caplog.text
    assert "rt:ack" not in caplog.text


def test_a_plain_subscriber_may_acknowledge(make: Make, server: Server) -> None:
    messaging = make()
    answered = threading.Event()

    def plain() -> None:
        with server.client() as client, client.pubsub() as heard:
            heard.subscribe("payments")
            heard.get_message(timeout=30)
            ready.set()
            while (message := heard.get_message(timeout=30)) is None:
                pass
            seen = json.loads(message["data"])
            assert seen["amount"] == 3
            assert seen["_ack_channel"] == f"ack:{seen['_msg_id']}"
            client.publish(
                seen["_ack_channel"], json.dumps({"msg_id": seen["_msg_id"], "status": "acknowledged"})
            )
            answered.set()

    ready = threading.Event()
    thread = threading.Thread(target=plain)
    thread.start()
    assert ready.wait(30)
    assert messaging.publish_with_ack("payments", {"amount": 3}, timeout=30)
    thread.join()
    assert answered.is_set()
    assert messaging.pending("payments") == 0


def test_subscribers_of_the_channel_hear_what_is_acknowledged(make: Make, server: Server) -> None:
    messaging = make()
    heard: list[Any] = []
    listener = App(server.url)
    listener.on("ack:*")(heard.append)
    with listener, messaging.create_ack_subscriber("payments", lambda data: None):
        assert messaging.publish_with_ack("payments", {"amount": 3}, timeout=30)
        eventually(lambda: heard)
    [said] = heard
    assert set(said) == {"msg_id", "status"}
    assert said["status"] == "acknowledged"


@pytest.mark.parametrize(
    "message",
    [
        {}, None, [1, {"a": 2}], {"data": 1}, {"_bare": True}, {"_msg_id": "own"},
        {"_ack_channel": "own", "data": 2, "_bare": False},
    ],
    ids=str,
)  # fmt: skip
def test_the_handler_gets_what_was_published(make: Make, message: Any) -> None:
    got: list[Any] = []
    messaging = make()
    with messaging.create_ack_subscriber("c", got.append):
        assert messaging.publish_with_ack("c", message, timeout=30)
    assert got == [message]


@pytest.mark.parametrize("way", ["sync", "awaited"])
def test_one_that_was_handled_counts_though_it_cannot_be_taken_out(
    make: Make, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Flow[None]:
        yield Call((("NOSUCHCOMMAND",),), repeatable=True)

    monkeypatch.setattr(durable, "drop", refuse)
    messaging = make()
    with messaging.create_ack_subscriber("c", lambda message: None):
        if way == "sync":
            assert messaging.publish_with_ack("c", 1, timeout=30)
        else:
            assert asyncio.run(messaging.apublish_with_ack("c", 1, timeout=30))
