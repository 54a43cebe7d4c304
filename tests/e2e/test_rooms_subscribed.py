"""The one subscribed connection of a process: shared with notification clients, refused in part, cut."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from redis_toolkit import App, PermissionDenied
from redis_toolkit.patterns import ChatRoom, NotificationSystem, UserNotificationClient
from tests.e2e.conftest import MakeApp
from tests.e2e.seats import Seats
from tests.kit.proxy import Proxy
from tests.kit.servers import Server
from tests.kit.waiting import eventually

QUIET = 20
"""Members of a room in which nothing is said."""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def subscribed(server: Server) -> list[dict[str, Any]]:
    return [one for one in server.client().client_list() if int(one["sub"])]


def test_rooms_and_clients_of_a_process_hear_over_one_connection(
    own_server: Server, make_app: MakeApp, stack: ExitStack
) -> None:
    app, other = make_app(own_server.url), make_app(own_server.url, lease=3.0)
    said: list[Any] = []
    noted: list[Any] = []
    client = stack.enter_context(UserNotificationClient("ada", noted.append, app=app))
    members = [
        stack.enter_context(ChatRoom("lobby", app=one).join("ann", said.append)) for one in (app, other)
    ]
    [connection] = subscribed(own_server)
    assert int(connection["sub"]) == 3  # the room, the user in it, and the client
    client.stop()
    eventually(lambda: [one["sub"] for one in subscribed(own_server)] == ["2"])
    client = stack.enter_context(UserNotificationClient("ada", noted.append, app=app))
    for member in members:
        member.stop()
    eventually(lambda: [one["sub"] for one in subscribed(own_server)] == ["1"])
    NotificationSystem(app=app).send_notification("ada", {"text": "hello"})
    eventually(lambda: [one["text"] for one in noted] == ["hello"])
    client.stop()
    eventually(lambda: not subscribed(own_server))


def test_a_room_that_an_acl_refuses_fails_its_own_join_and_is_named(
    own_server: Server, make_app: MakeApp, stack: ExitStack
) -> None:
    rules = "on >pw ~* +@all resetchannels &chat:room:lobby* &rt:r:{lobby}*"
    own_server.execute("ACL", "SETUSER", "bob", *rules.split())
    app = make_app(own_server.url.replace("redis://", "redis://bob:pw@"), reconnect_cap=0.2)
    seats = Seats(app)
    stack.callback(seats.leave_all)
    ann = seats.join("ann")
    with pytest.raises(PermissionDenied, match="chat:room:secret"):
        ChatRoom("secret", app=app).join("ann")
    seats.send_message("ann", 1)
    ann.hears(1)
    assert ann.gaps == []
    own_server.execute("ACL", "SETUSER", "bob", "&*")
    with ChatRoom("secret", app=app).join("ann") as secret:
        ChatRoom("secret", app=app).send_message("ann", 2)
        assert next(iter(secret))["text"] == 2


@pytest.mark.fault(16, "chat")
def test_after_a_cut_only_those_read_who_have_missed_something(
    proxy: Proxy, own_server: Server, make_app: MakeApp, quickly: Any, stack: ExitStack
) -> None:
    app = make_app(proxy.url, **quickly)
    busy, quiet = Seats(app, "busy"), Seats(app, "quiet")
    for seats in (busy, quiet):
        stack.callback(seats.leave_all)
    there = make_app(own_server.url)
    ann, others = busy.join("ann"), [quiet.join(f"user {number}") for number in range(QUIET)]
    before = reads(own_server)
    for number in range(3):
        proxy.refuse()
        proxy.rst()
        ChatRoom("busy", app=there).send_message("dan", number)
        proxy.accept()
        ann.hears(*range(number + 1))
    assert 0 < reads(own_server) - before < QUIET
    ChatRoom("quiet", app=there).send_message("dan", "hello")
    for other in others:
        other.hears("hello")
        assert other.gaps == []


def reads(server: Server) -> int:
    """How often the logs of rooms were read."""
    return int(server.client().info("commandstats").get("cmdstat_xrange", {}).get("calls", 0)) // 2


@pytest.mark.fault(29, "chat")
def test_garbage_is_counted_once_for_each_app(server: Server, make_app: MakeApp) -> None:
    app, other = make_app(server.url), make_app(server.url)
    with ExitStack() as stack:
        seats = [Seats(one) for one in (app, app, other)]
        heard = [one.join("ann") for one in seats]
        for one in seats:
            stack.callback(one.leave_all)
        for body in ("no", "no", "[1]"):
            server.execute("PUBLISH", "chat:room:lobby", body)
        seats[0].send_message("ann", 1)
        for seat in heard:
            seat.hears(1)
        counted(app, 3)
        counted(other, 3)


def counted(app: App, count: int) -> None:
    assert app.counters == {"undecodable": count}
