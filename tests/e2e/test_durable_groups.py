"""Durable groups as a user has them: each event once per group, whatever comes in between."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from redis_toolkit import App, GroupUnknown, Message, Reject, Retry, StreamFull
from tests.e2e.conftest import MakeApp
from tests.kit.servers import Server
from tests.kit.waiting import eventually

pytestmark = pytest.mark.usefixtures("every_style")


def collecting(app: App, group: str, **options: Any) -> list[Any]:
    """Serve a group of "orders" that keeps what it gets."""
    got: list[Any] = []
    app.on("orders", group=group, **options)(got.append)
    return got


def test_each_group_gets_each_event_once_and_listeners_hear_it_live(app: App) -> None:
    heard: list[Any] = []
    app.on("orders")(heard.append)
    billed, shipped = collecting(app, "billing"), collecting(app, "shipping")
    app.start()
    for number in range(50):
        assert app.publish("orders", number) == 1
    eventually(lambda: len(billed) == len(shipped) == len(heard) == 50)
    assert sorted(billed) == sorted(shipped) == heard == list(range(50))


def test_what_came_while_nobody_was_there_is_not_lost(make_app: MakeApp, server: Server) -> None:
    first = make_app(server.url)
    collecting(first, "billing")
    first.start()
    first.stop()
    caller = make_app(server.url)
    caller.publish_many("orders", range(30))
    [info] = caller.groups("orders")
    assert (info.name, info.lag, info.pending) == ("billing", 30, 0)
    assert info.oldest_at == pytest.approx(datetime.now(UTC).timestamp(), abs=600)
    second = make_app(server.url)
    got = collecting(second, "billing")
    second.start()
    eventually(lambda: sorted(got) == list(range(30)))
    eventually(lambda: caller.groups("orders")[0].oldest is None)


def test_two_processes_share_a_group(make_app: MakeApp, server: Server) -> None:
    both = [make_app(server.url), make_app(server.url)]
    got = [collecting(app, "billing", concurrency=1) for app in both]
    for app in both:
        app.start()
    both[0].publish_many("orders", range(200))
    eventually(lambda: len(got[0]) + len(got[1]) == 200)
    assert sorted(got[0] + got[1]) == list(range(200))


def test_a_failure_is_tried_again_and_holds_nothing_up(app: App) -> None:
    attempts: list[int] = []
    done = threading.Event()

    @app.on("orders", group="billing", retries=3, backoff=0.05)
    def bill(data: str, message: Message) -> None:
        if data == "bad":
            attempts.append(message.attempt)
            if message.attempt < 3:
                raise ValueError("not yet")
        elif data == "last":
            done.set()

    app.start()
    app.publish_many("orders", ["bad", *map(str, range(20)), "last"])
    assert done.wait(30)
    eventually(lambda: attempts == [1, 2, 3])
    eventually(lambda: app.groups("orders")[0].oldest is None)
    assert app.dead("orders", "billing") == []


def test_after_the_last_attempt_it_is_a_dead_letter_that_can_be_put_back(app: App) -> None:
    broken = True
    got: list[Any] = []

    @app.on("orders", group="billing", retries=1, backoff=0.02)
    def bill(order: dict[str, int]) -> None:
        if broken:
            raise LookupError("no price")
        got.append(order)

    app.start()
    app.publish("orders", {"id": 7}, headers={"user": "ada"})
    eventually(lambda: app.dead("orders", "billing"))
    [letter] = app.dead("orders", "billing")
    assert (letter.reason, letter.error, letter.attempts) == ("failed", "LookupError: no price", 2)
    assert letter.data == {"id": 7}
    assert "raise LookupError" in letter.traceback
    assert b'"id":7' in letter.body
    broken = False
    assert app.requeue("orders", "billing", [letter]) == 1
    eventually(lambda: got == [{"id": 7}])
    assert app.requeue("orders", "billing", [letter]) == 0
    assert app.dead("orders", "billing") == []


def test_a_group_that_there_is_not(app: App) -> None:
    collecting(app, "billing")
    app.start()
    for call in (app.dead, app.requeue, app.forget_group):
        with pytest.raises(GroupUnknown, match="channel 'orders' has no group 'biling': it has 'billing'"):
            call("orders", "biling")
        with pytest.raises(GroupUnknown, match="channel 'oders' has no group 'billing', nor any other"):
            call("oders", "billing")
    assert app.dead("orders", "billing") == []
    assert app.requeue("orders", "billing") == 0
    assert app.forget_group("orders", "billing") is True


def test_a_handler_decides_itself(app: App) -> None:
    seen: list[tuple[str, int]] = []

    @app.on("orders", group="billing", retries=5)
    def bill(data: str, message: Message) -> None:
        seen.append((data, message.attempt))
        if data == "reject":
            raise Reject("no such customer")
        if message.attempt == 1:
            raise Retry(delay=0.01)

    app.start()
    app.publish_many("orders", ["reject", "later"])
    eventually(lambda: ("later", 2) in seen)
    eventually(lambda: app.dead("orders", "billing"))
    [letter] = app.dead("orders", "billing")
    assert (letter.data, letter.reason) == ("reject", "rejected")
    assert "no such customer" in letter.error


@pytest.mark.parametrize("start", ["beginning", "id", "time"])
def test_a_new_group_replays(make_app: MakeApp, server: Server, start: str) -> None:
    first = make_app(server.url)
    seen: list[tuple[int, str]] = []

    @first.on("orders", group="first", keep=600)
    def keep(data: int, message: Message) -> None:
        seen.append((data, str(message.id)))

    before = datetime.now(UTC) - timedelta(hours=2)
    first.start()
    first.publish_many("orders", [1, 2, 3])
    eventually(lambda: len(seen) == 3)
    ids = dict(seen)
    begin: Any = {"beginning": "beginning", "id": ids[2], "time": before}[start]
    late = make_app(server.url)
    got = collecting(late, "late", start=begin, concurrency=1)
    late.start()
    expected = [2, 3] if start == "id" else [1, 2, 3]
    eventually(lambda: got == expected)


def test_a_group_too_far_behind_stops_publishers_and_is_named(make_app: MakeApp, server: Server) -> None:
    served = make_app(server.url)
    collecting(served, "slow", max_backlog=10)
    served.start()
    served.stop()
    caller = make_app(server.url)
    caller.publish_many("orders", range(10))
    with pytest.raises(StreamFull, match="group 'slow' of channel 'orders'"):
        caller.publish("orders", 10)
    assert caller.groups("orders")[0].lag == 10
    assert caller.forget_group("orders", "slow")
    assert caller.groups("orders") == []
    assert caller.publish("orders", 1) == 0


def test_or_drops_its_oldest(make_app: MakeApp, server: Server) -> None:
    served = make_app(server.url)
    collecting(served, "slow", max_backlog=10, overflow="drop")
    served.start()
    served.stop()
    caller = make_app(server.url)
    for number in range(30):
        caller.publish("orders", number)
    [info] = caller.groups("orders")
    assert info.dropped == 30 - info.lag > 0


def test_one_id_is_published_once(app: App) -> None:
    got = collecting(app, "billing")
    app.start()
    for _ in range(3):
        app.publish("orders", 1, id="order-1")
    app.publish("orders", 2)
    eventually(lambda: {1, 2} <= set(got))
    assert sorted(got) == [1, 2]
