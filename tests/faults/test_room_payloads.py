"""Garbage, bombs and too much in the channels, logs and keys of a room: skipped, and the next is heard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from redis_toolkit import PayloadTooLarge, keys
from redis_toolkit.patterns import ChatRoom
from tests.e2e.conftest import MakeApp
from tests.e2e.seats import Seats, events, texts
from tests.e2e.styles import Background, Style
from tests.faults.test_bombs import JSON_BOMBS
from tests.faults.test_work_payloads import BODIES, FOREIGN
from tests.faults.troubles import kill_clients
from tests.kit.faults import Tier
from tests.kit.servers import Server
from tests.kit.waiting import eventually

CAP = 1024 * 1024
ROOM = "lobby"
CHANNELS = (keys.room_channel(ROOM), keys.room_user_channel(ROOM, "ann"))
LOGS = (keys.room_log(ROOM), keys.room_direct(ROOM, "ann"))


@pytest.fixture
def seats(
    every_style: None,
    own_server: Server,
    make_app: MakeApp,
    quickly: dict[str, Any],
    style: Style,
    background: Background | None,
) -> Iterator[Seats]:
    seats = Seats(make_app(own_server.url, **{**quickly, "lease": 1.0}), ROOM, style, background)
    yield seats
    seats.leave_all()


def is_skipped(server: Server, seats: Seats, bodies: list[bytes]) -> None:
    """Put bodies where they can be heard and read; who is there, and who comes, gets all the others."""
    ann, said = seats.join("ann"), list[int]()

    def say() -> None:
        said.append(len(said))
        seats.send_message("ben", said[-1])

    say()
    for number, body in enumerate(bodies):
        for channel in CHANNELS:
            server.execute("PUBLISH", channel, body)
        for log in LOGS:
            server.execute("XADD", log, "*", "b", body)
        if number % 4 == 0:
            say()
        if number % 8 == 0:
            kill_clients(server)  # the log is read
            say_again(seats, said)
    for fields in FOREIGN:
        for log in LOGS:
            server.execute("XADD", log, "*", *fields)
    kill_clients(server)
    say_again(seats, said)
    cid = seats.join("cid", since="0-0")
    say_again(seats, said)
    for seat in (ann, cid):
        seat.hears(*said)
        assert seat.gaps == []
    assert texts(seats.history(500)) == said


def say_again(seats: Seats, said: list[int]) -> None:
    """Say one more, by a connection that may have been cut."""
    said.append(len(said))
    seats.send_message("ben", said[-1], id=f"once {said[-1]}")


@pytest.mark.fault(29, "chat")
def test_garbage_in_channels_and_logs_is_skipped(own_server: Server, seats: Seats) -> None:
    is_skipped(own_server, seats, [body for body in BODIES if body != b'{"id":1}'])  # that is a message


@pytest.mark.fault(30, "chat")
def test_bombs_in_channels_and_logs_are_skipped(own_server: Server, seats: Seats, tier: Tier) -> None:
    is_skipped(own_server, seats, list(JSON_BOMBS.values())[:: tier(4, 1)])


@pytest.mark.fault(29, "chat")
def test_garbage_about_who_is_there_stops_nothing(
    own_server: Server, seats: Seats, make_app: MakeApp
) -> None:
    ann, ben = seats.join("ann", metadata={"a": 1}), seats.join("ben")
    foreign: list[tuple[str | bytes | float, ...]] = []
    for number, value in enumerate((b"", b"\xff\xfe", b"garbage", b"-1 x {", b"\r\n\x1b[31m", b"1" * 400)):
        foreign += [
            ("ZADD", keys.room_members(ROOM), number, value),
            ("ZADD", keys.room_members(ROOM), "1e300", b"future " + value),
            ("HSET", keys.room_user(ROOM, "ann"), f"c{number}", value),
            ("HSET", keys.room_users(ROOM).encode() + b"future " + value, "c", value),
            ("HSET", keys.room_meta(ROOM), value, value),
            ("ZADD", keys.rooms(), number, value),
            ("ZADD", keys.rooms(), 9e12, value),
        ]
    for command in foreign:
        own_server.execute(*command)
    eventually(lambda: own_server.execute("ZCARD", keys.room_members(ROOM)) == 8, what="a sweep")
    there = {one.user: one for one in seats.members() if not one.user.startswith("future")}
    assert {user: (one.connections, one.metadata) for user, one in there.items()} == {
        "ann": (1, {"a": 1}),
        "ben": (1, {}),
    }
    assert min((one.name, one.members) for one in ChatRoom.rooms(make_app(own_server.url))) >= (ROOM, 2)
    seats.metadata()
    ben.stop()
    seats.send_message("ben", 1)
    ann.hears(1)
    assert [one for one in events(ann.got) if one[1] == "ben"] == [("join", "ben"), ("leave", "ben")]
    ann.stop()
    assert not {"ann", "ben"} & {one.user for one in seats.members()}


@pytest.mark.fault(31, "chat")
def test_a_message_over_the_cap(own_server: Server, seats: Seats, tier: Tier) -> None:
    ann, big = seats.join("ann"), "x" * tier(4 * CAP, 100 * CAP)
    own_server.execute("CONFIG", "SET", "proto-max-bulk-len", "512mb")
    refused: list[Callable[[], object]] = [
        lambda: seats.send_message("ann", big),
        lambda: seats.send_message("ann", "", id="1", more=big),
        lambda: seats.send_direct("ben", "ann", big),
        lambda: seats.set_metadata(topic=big),
        lambda: seats.join("ben", metadata={"a": big}),
    ]
    for call in refused:
        with pytest.raises(PayloadTooLarge, match="max_payload"):
            call()
    body = json.dumps({"type": "message", "user": "ben", "text": big})
    for channel in CHANNELS:
        own_server.execute("PUBLISH", channel, body)
    for log in LOGS:
        own_server.execute("XADD", log, "*", "b", body)
    kill_clients(own_server)
    seats.send_message("ben", "next", id="next")
    ann.hears("next")
    assert ann.gaps == []
    assert texts(seats.history()) == ["next"]
    assert seats.direct_history("ann") == []
