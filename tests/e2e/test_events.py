from __future__ import annotations

import threading
from typing import Any

import pytest

from redis_toolkit import App, ConfigurationError, ExactChannel, Headers, Message
from tests.e2e.conftest import MakeApp
from tests.kit.servers import Server
from tests.kit.waiting import eventually

pytestmark = pytest.mark.usefixtures("every_style")

ORDER = {"id": 1, "lines": ["tea", "Milch, süß"], "paid": None, "price": 3.5}


def received(got: list[Any], expected: list[Any]) -> None:
    eventually(lambda: got == expected, what=f"{expected}")


# -- who hears what ----------------------------------------------------------------------------------


def test_an_event_reaches_its_handler(app: App) -> None:
    got: list[Any] = []
    app.on("orders")(got.append)
    with app:
        assert app.publish("orders", ORDER) == 1
        eventually(lambda: got)
    assert got == [ORDER]


def test_nobody_listens(app: App) -> None:
    assert app.publish("orders", ORDER) == 0
    assert app.publish_many("orders", [1, 2]) == [0, 0]


def test_events_are_handled_one_at_a_time_in_the_order_of_their_publishing(app: App) -> None:
    got: list[int] = []
    running: list[int] = []
    together: list[int] = []

    @app.on("numbers")
    def take(number: int) -> None:
        running.append(number)
        together.append(len(running))
        got.append(number)
        running.remove(number)

    with app:
        for number in range(200):
            app.publish("numbers", number)
        assert app.publish_many("numbers", range(200, 2000)) == [1] * 1800
        eventually(lambda: len(got) == 2000)
    assert got == list(range(2000))
    assert set(together) == {1}


def test_a_glob_hears_what_matches_and_learns_the_channel(app: App) -> None:
    got: list[tuple[str, Any]] = []

    @app.on("user:*", "room:[ab]", "h?llo")
    def take(data: Any, channel: str) -> None:
        got.append((channel, data))

    with app:
        for channel in ("user:1", "users", "room:a", "room:c", "hello", "heello", "user:"):
            app.publish(channel, channel)
        eventually(lambda: len(got) == 4)
    assert got == [(name, name) for name in ("user:1", "room:a", "hello", "user:")]


def test_a_handler_gets_the_headers_the_glob_and_the_app(app: App) -> None:
    got: list[tuple[Any, Headers, Message, App]] = []

    @app.on("orders:*")
    def take(data: Any, headers: Headers, message: Message, own: App) -> None:
        got.append((data, headers, message, own))

    with app:
        app.publish("orders:eu", ORDER, headers={"trace": "äbc", "empty": ""})
        app.publish("orders:eu", ORDER)
        eventually(lambda: len(got) == 2)
    (data, headers, message, own), (_, without, _, _) = got
    assert (data, headers, own) == (ORDER, {"trace": "äbc", "empty": ""}, app)
    assert (message.channel, message.pattern, message.id) == ("orders:eu", "orders:*", None)
    assert without == {}


def test_a_payload_that_looks_like_an_envelope_stays_what_it_is(app: App) -> None:
    got: list[Any] = []
    app.on("odd")(got.append)
    odd = [
        {"rt": 1, "data": 2},
        {"rt": 2},
        {"rt": "x", "data": None},
        {"data": 1},
        {"id": "a", "reply_to": "b"},
    ]
    with app:
        app.publish_many("odd", odd)
        eventually(lambda: len(got) == len(odd))
    assert got == odd


def test_several_handlers_of_one_channel_hear_each_event_once(app: App) -> None:
    first: list[Any] = []
    second: list[Any] = []
    app.on("orders")(first.append)
    app.on("orders", "other")(second.append)
    with app:
        assert app.publish("orders", 1) == 1  # one connection, whatever is behind it
        app.publish("other", 2)
        eventually(lambda: (len(first), len(second)) == (1, 2))
    assert (first, second) == ([1], [1, 2])


def test_two_apps_both_hear_an_event(server: Server, make_app: MakeApp) -> None:
    got: list[list[str]] = [[], []]
    apps = [make_app(server.url), make_app(server.url)]
    for app, heard in zip(apps, got, strict=True):
        app.on("orders")(heard.append)
        app.start()
    assert apps[0].publish("orders", "x") == 2
    eventually(lambda: got == [["x"], ["x"]])


@pytest.mark.fault(38, "events")
def test_overlapping_names_and_globs_deliver_once_per_handler(app: App) -> None:
    overlapping: list[tuple[str, Any]] = []
    globs_only: list[tuple[str, Any]] = []

    @app.on("a:b", "a:*", "*:b", "a:[b]", "a:b")
    def take(data: Any, channel: str) -> None:
        overlapping.append((channel, data))

    @app.on("*", "a:*", "a:?")
    def take_all(data: Any, channel: str) -> None:
        globs_only.append((channel, data))

    sent = [(channel, number) for number in range(50) for channel in ("a:b", "a:c", "x:b")]
    with app:
        for channel, data in sent:
            app.publish(channel, data)
        app.publish("last", None)  # behind all others on the one connection
        eventually(lambda: ("last", None) in globs_only and len(overlapping) >= len(sent))
    assert overlapping == sent
    assert globs_only == [*sent, ("last", None)]


@pytest.mark.fault(38, "events")
def test_exact_channels_with_glob_characters_are_no_patterns(app: App) -> None:
    exact: list[str] = []
    both: list[str] = []

    @app.on(ExactChannel("what?"), ExactChannel("room *"), ExactChannel("[ab]"))
    def take(data: str) -> None:
        exact.append(data)

    @app.on(ExactChannel("what?"), "what?")
    def take_both(data: str, channel: str) -> None:
        both.append(channel)

    with app:
        for channel in ("whats", "what?", "room 1", "room *", "a", "[ab]"):
            app.publish(channel, channel)
        eventually(lambda: len(exact) >= 3 and len(both) >= 2)
    assert exact == ["what?", "room *", "[ab]"]
    assert both == ["whats", "what?"]


def test_names_of_any_text_are_channels(app: App) -> None:
    got: list[str] = []
    names = ["ü", "a b", "{tag}", "100%", "line\r\nbreak", ExactChannel("\x1b[31m"), "a" * 1000, "\\"]

    @app.on(*names)
    def take(channel: str) -> None:
        got.append(channel)

    with app:
        assert [app.publish(name, 1) for name in names] == [1] * len(names)
        eventually(lambda: len(got) == len(names))
    assert got == names


@pytest.mark.parametrize("name", ["", "\ud800", 7, b"bytes", None])
def test_what_cannot_be_a_channel_is_refused(app: App, name: Any) -> None:
    with pytest.raises(ConfigurationError):
        app.on(name)(lambda data: None)
    with pytest.raises(ConfigurationError):
        app.publish(name, 1)


def test_start_returns_when_all_is_subscribed(server: Server, make_app: MakeApp) -> None:
    got: list[Any] = []
    publisher = make_app(server.url)
    for number in range(50):
        app = make_app(server.url)
        app.on("first", "second", "gl?b:*")(got.append)
        with app:
            counts = [publisher.publish(name, number) for name in ("first", "second", "gl0b:1")]
            assert counts == [1, 1, 1]
            received(got, [number] * 3)
        got.clear()


def test_a_thousand_subscriptions_are_confirmed_before_start_returns(app: App) -> None:
    got: list[str] = []

    @app.on(*(f"exact:{number}" for number in range(1000)), *(f"glob:{number}:*" for number in range(600)))
    def take(channel: str) -> None:
        got.append(channel)

    with app:
        assert app.health_check()
        assert app.publish("exact:999", 1) == app.publish("glob:599:x", 1) == 1
        eventually(lambda: got == ["exact:999", "glob:599:x"])


def test_stop_lets_what_has_arrived_be_handled(app: App) -> None:
    got: list[int] = []
    entered, go_on = threading.Event(), threading.Event()

    @app.on("numbers")
    def take(number: int) -> None:
        entered.set()
        go_on.wait(30)
        got.append(number)

    marked = threading.Event()
    app.on("mark")(lambda data: marked.set())
    app.start()
    app.publish_many("numbers", range(100))
    app.publish("mark", None)
    assert entered.wait(30)
    assert marked.wait(30)
    stopping = threading.Thread(target=app.stop)
    stopping.start()
    eventually(lambda: app.publish("numbers", -1) == 0)
    go_on.set()
    stopping.join(30)
    assert got[:100] == list(range(100))
    assert set(got[100:]) <= {-1}  # sent after stop() was called, and before it had unsubscribed


def test_an_app_can_be_started_again(app: App) -> None:
    got: list[int] = []
    app.on("numbers")(got.append)
    for number in range(3):
        with app:
            app.publish("numbers", number)
            received(got, list(range(number + 1)))
        app.stop()
    assert app.publish("numbers", 3) == 0
    assert got == [0, 1, 2]
