"""The small API inside handlers: it neither refuses nor warns, and never waits for itself."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from redis_toolkit import App, ConfigurationError, Gap, RedisToolkit, RequestTimeout
from redis_toolkit._core import loops
from redis_toolkit.patterns import (
    ChatRoom,
    NotificationSystem,
    ReliableMessaging,
    RequestResponse,
    TaskQueue,
    UserNotificationClient,
)
from tests.core.awaiting import becomes
from tests.kit.servers import Server
from tests.kit.waiting import eventually

DEADLINE = 60.0


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Any:
    yield
    eventually(lambda: not [t.name for t in threading.enumerate() if t.name.startswith("rt-")])


def handler_of(kind: str, function: Any) -> Any:
    """Return a handler of messages that calls a function, as ``def`` or as ``async def``."""
    if kind == "def":
        return lambda channel, data: function(data)

    async def handle(channel: str, data: Any) -> None:
        function(data)
        await asyncio.sleep(0)

    return handle


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_toolkit_cleans_up_inside_its_own_handler(bus: Server, kind: str) -> None:
    outcome: list[int] = []

    def handle(data: Any) -> None:
        toolkit.cleanup()
        outcome.append(toolkit.publisher("end", "again"))

    toolkit = RedisToolkit("end", handler_of(kind, handle), url=bus.url)
    toolkit.publisher("end", 1)
    assert toolkit.wait(DEADLINE)
    eventually(lambda: outcome == [0], what=f"no receivers in {outcome}")
    toolkit.cleanup()


def test_the_handler_that_cleaned_up_gets_to_its_end_before_wait_returns(bus: Server) -> None:
    ended = threading.Event()

    async def handle(channel: str, data: Any) -> None:
        toolkit.cleanup()
        for _ in range(20):
            await asyncio.sleep(0.01)
        ended.set()

    toolkit = RedisToolkit("end", handle, url=bus.url)
    toolkit.publisher("end", 1)
    assert toolkit.wait(DEADLINE)
    assert ended.is_set()


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_server_of_requests_stops_inside_its_own_handler(bus: Server, kind: str) -> None:
    def stop(_item: Any) -> str:
        running.stop()
        return "the last one"

    async def stop_async(item: Any) -> str:
        return stop(item)

    with RequestResponse("bye", url=bus.url) as bye:
        running = bye.serve(stop if kind == "def" else stop_async)
        assert bye.send_request(1, timeout=DEADLINE) == "the last one"
        running.cleanup()


@pytest.mark.parametrize("served", ["by an app", "by a plain subscriber"])
def test_a_request_is_sent_inside_a_coroutine_that_handles(bus: Server, served: str) -> None:
    answers: list[Any] = []

    async def handle(channel: str, data: Any) -> None:
        answers.append(shout.send_request(data, timeout=DEADLINE))
        shout.stop()

    def answer(channel: str, request: Any) -> None:
        RedisToolkit(url=bus.url).publisher(request["response_channel"], request["data"].upper())

    shout = RequestResponse("shout", url=bus.url)
    other = shout.serve(str.upper) if served == "by an app" else RedisToolkit("shout", answer, url=bus.url)
    with other, RedisToolkit("say", handle, url=bus.url) as toolkit:
        toolkit.publisher("say", "hello")
        eventually(lambda: answers == ["HELLO"], what=f"an answer in {answers}")


def test_a_request_to_the_loop_that_it_blocks_ends_with_its_timeout(bus: Server) -> None:
    outcome: list[Any] = []
    app = App(bus.url, block=0.2)

    @app.on("self", events=False)
    async def answer(data: Any) -> Any:
        return data

    @app.on("ask", requests=False)
    async def ask(data: Any) -> None:
        try:
            outcome.append(RequestResponse("self", app=app).send_request(1, timeout=0.3))
        except RequestTimeout as error:
            outcome.append(type(error))

    with app:
        app.publish("ask", 1)
        eventually(lambda: outcome, what="an outcome")
        assert outcome == [RequestTimeout]
        assert app.request("self", 2, timeout=DEADLINE) == 2


def test_the_small_api_does_not_warn_on_a_running_loop(bus: Server) -> None:
    heard: list[Any] = []

    async def main() -> None:
        with (
            RedisToolkit("cell", lambda channel, data: heard.append(data), url=bus.url) as toolkit,
            RequestResponse("cell-requests", url=bus.url) as requests,
            requests.serve(str.upper),
        ):
            assert toolkit.health_check()
            assert toolkit.publisher("cell", 1) == 1
            assert requests.send_request("a", timeout=DEADLINE) == "A"

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
    assert heard == [1]


def _same(data: Any) -> Any:
    return data


REFUSED: dict[str, Callable[[App], Any]] = {
    "publish": lambda app: app.publish("c", 1),
    "request": lambda app: app.request("c", 1),
    "health_check": lambda app: app.health_check(),
    "start": lambda app: app.start(),
    "groups": lambda app: app.groups("c"),
    "submit": lambda app: TaskQueue("q", app=app).submit("add", 1),
    "result": lambda app: TaskQueue("q", app=app).handle("id").result(1),
    "stats": lambda app: TaskQueue("q", app=app).stats(),
    "retry_dead": lambda app: TaskQueue("q", app=app).retry_dead(),
    "gather": lambda app: TaskQueue("q", app=app).gather([]),
    "join": lambda app: ChatRoom("r", app=app).join("ann"),
    "leave": lambda app: ChatRoom("r", app=app).leave("ann"),
    "send_message": lambda app: ChatRoom("r", app=app).send_message("ann", "hello"),
    "pending": lambda app: ReliableMessaging(app=app).pending("c"),
    "requeue": lambda app: ReliableMessaging(app=app).requeue("c"),
    "send_notification": lambda app: NotificationSystem(app=app).send_notification("ann", {}),
    "unread": lambda app: NotificationSystem(app=app).unread("ann"),
    "UserNotificationClient": lambda app: UserNotificationClient("ann", _same, app=app),
}
SILENT: dict[str, Callable[[App], Any]] = {
    "RedisToolkit": lambda app: RedisToolkit("c", lambda channel, data: None, url=app.url).cleanup(),
    "publisher": lambda app: RedisToolkit(url=app.url).publisher("c", 1),
    "serve": lambda app: RequestResponse("c", app=app).serve(_same).stop(),
    "publish_with_ack": lambda app: _stopped(
        ReliableMessaging(app=app), lambda one: one.publish_with_ack("c", 1, 0.01)
    ),
    "create_ack_subscriber": lambda app: ReliableMessaging(app=app).create_ack_subscriber("c", _same).stop(),
    "submit_task": lambda app: TaskQueue("q", app=app).submit_task("add", 1),
    "create_worker": lambda app: TaskQueue("q", app=app).create_worker("w", _same).stop(),
}


def _stopped(one: Any, call: Any) -> None:
    with one:
        call(one)


@pytest.mark.parametrize("name", [*REFUSED, *SILENT])
def test_what_the_page_on_async_says_of_blocking_calls(bus: Server, name: str) -> None:
    app = App(bus.url, block=0.2)
    twin = f"{name}.aconnect" if name[0].isupper() else f"a{name}"

    async def main() -> None:
        loops.serving.add(asyncio.get_running_loop())  # as one that runs handlers
        if name in SILENT:
            SILENT[name](app)
        else:
            with pytest.raises(ConfigurationError, match=rf"^{name}\(\) would block .*: await {twin}\(\)$"):
                REFUSED[name](app)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
    app.stop()


# -- gaps ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["threads", "own loop", "running loop"])
def test_a_coroutine_is_awaited_for_each_gap(bus: Server, kind: str) -> None:
    app = App(bus.url, reconnect_cap=0.1, block=0.2)
    gaps: list[Gap] = []
    loops: list[asyncio.AbstractEventLoop] = []

    def hear(data: Any) -> None:
        pass

    async def hear_async(data: Any) -> None:
        loops.append(asyncio.get_running_loop())

    app.on("news", requests=False)(hear if kind == "threads" else hear_async)

    @app.on_gap
    async def missed(gap: Gap) -> None:
        loops.append(asyncio.get_running_loop())
        await app.apublish("elsewhere", 1)
        gaps.append(gap)

    async def main() -> None:
        async with app:
            await asyncio.to_thread(cut_and_wait)
            await app.apublish("news", 1)
            await becomes(lambda: len(loops) == 2, "the message")
            assert loops == [asyncio.get_running_loop()] * 2

    def cut_and_wait() -> None:
        app.client.client_kill_filter(_type="pubsub")
        eventually(lambda: len(gaps) == 1, what="a gap")
        assert gaps[0].channels == ("news",)

    if kind == "running loop":
        asyncio.run(main())
    else:
        with app:
            cut_and_wait()
            if kind == "own loop":
                app.publish("news", 1)
                eventually(lambda: len(loops) == 2 and loops[0] is loops[1], what="one loop for both")
