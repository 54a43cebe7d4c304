"""Rooms: everybody hears what is said, once and in order; who is there; what was said before."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from redis_toolkit import App, ConfigurationError, EncodeError, PayloadTooLarge, ServerUnreachable
from redis_toolkit.patterns import ChatRoom, RoomInfo
from tests.e2e.seats import Seat, Seats, events, texts
from tests.e2e.styles import Background, Style
from tests.kit.servers import Server
from tests.kit.waiting import eventually


@pytest.fixture
def seats(every_style: None, app: App, style: Style, background: Background | None) -> Iterator[Seats]:
    seats = Seats(app, style=style, background=background)
    yield seats
    seats.leave_all()


class TestSaying:
    def test_every_member_hears_it_once_and_in_order(self, seats: Seats) -> None:
        ann, ben = seats.join("ann"), seats.join("ben")
        ids = [seats.send_message("ann", number) for number in range(100)]
        for seat in (ann, ben):
            seat.hears(*range(100))
            assert [one["id"] for one in seat.got if one["type"] == "message"] == ids
        assert ids == sorted(ids, key=lambda one: tuple(map(int, one.split("-"))))

    def test_a_message_is_a_dict_with_the_time_of_the_server(self, seats: Seats, server: Server) -> None:
        ann = seats.join("ann")
        entry = seats.send_message("ben", "hi", mood="fine", to_all=[1, {"a": None}])
        ann.hears("hi")
        [message] = ann.got
        assert message == {
            "id": entry,
            "timestamp": int(entry.partition("-")[0]) / 1000,
            "type": "message",
            "user": "ben",
            "text": "hi",
            "mood": "fine",
            "to_all": [1, {"a": None}],
        }
        assert seats.history(1) == [message]

    def test_a_sent_id_counts_once_for_each_user(self, seats: Seats) -> None:
        ann = seats.join("ann")
        first = seats.send_message("ann", "one", id="x")
        assert seats.send_message("ann", "again", id="x") == first
        assert seats.send_message("ben", "two", id="x") != first
        ann.hears("one", "two")
        assert ann.got[0]["client_id"] == "x"

    def test_typing_is_heard_and_not_kept(self, seats: Seats) -> None:
        ann = seats.join("ann")
        seats.typing("ben")
        eventually(lambda: ann.got)
        [message] = ann.got
        assert (message["type"], message["user"], message["id"]) == ("typing", "ben", None)
        assert abs(message["timestamp"] - datetime.now(UTC).timestamp()) < 600
        assert [one["type"] for one in seats.history()] == ["join"]

    def test_what_a_user_does_without_a_word_the_user_does_not_hear(self, seats: Seats) -> None:
        first = seats.send_message("ben", 0)
        seats.join("ann").stop()
        ann, ben = seats.join("ann", since=first), seats.join("ben", history=9)
        phone = seats.join("ann", since="0-0")
        for user in ("ann", "ben"):
            seats.typing(user)
        seats.send_message("ann", 1)
        for seat, said in ((ann, [1]), (ben, [0, 1]), (phone, [0, 1])):
            seat.hears(*said)
        rest = [
            [(one["type"], one["user"]) for one in seat.got if one["type"] != "message"]
            for seat in (ann, phone)
        ]
        assert [sorted(one) for one in rest] == [[("join", "ben"), ("typing", "ben")]] * 2
        come_and_go = [("join", "ann"), ("leave", "ann"), ("join", "ann")]
        assert events(ben.got) == come_and_go
        assert events(seats.history()) == [*come_and_go, ("join", "ben")]

    def test_a_callback_takes_fields_by_name(self, app: App) -> None:
        room, got = ChatRoom("lobby", app=app), list[Any]()

        def hear(user: str, text: str, mood: str = "fine") -> None:
            got.append((user, text, mood))

        async def hear_later(text: str, mood: str = "", *, type: str) -> None:
            got.append((text, type))

        with room.join("ann", hear), room.join("ann", hear_later):
            room.send_message("ben", "hi", id="1", mood="well")
            room.send_direct("ben", "ann", "psst")
            eventually(lambda: len(got) == 4)
        assert sorted(got) == [
            ("ben", "hi", "well"),
            ("ben", "psst", "fine"),
            ("hi", "message"),
            ("psst", "direct"),
        ]

    def test_a_whole_number_is_a_user(self, app: App) -> None:
        room, got = ChatRoom("lobby", app=app), list[Any]()
        with room.join(7, got.append) as seven:
            room.send_message(7, "me")
            room.send_direct(8, 7, "psst")
            room.typing(8)
            eventually(lambda: len(got) == 3)
            assert ([one.user for one in room.members()], seven.user) == (["7"], "7")
            room.leave(7)
        assert [one["user"] for one in got] == ["7", "8", "8"]
        assert room.direct_history(8) == room.direct_history("7") == [got[1]]

    def test_what_is_direct_only_the_two_get_by_all_their_connections(self, seats: Seats) -> None:
        ann, ben, cid, phone = (seats.join(user) for user in ("ann", "ben", "cid", "ben"))
        first = seats.send_direct("ann", "ben", "psst", id="1")
        assert seats.send_direct("ann", "ben", "psst", id="1") == first
        seats.send_direct("ann", "ann", "note")
        seats.send_message("ann", "done")
        for seat in (ann, ben, cid, phone):
            seat.hears("done")
        heard = [
            [one["text"] for one in seat.got if one["type"] == "direct"] for seat in (ann, ben, cid, phone)
        ]
        assert heard == [["psst", "note"], ["psst"], [], ["psst"]]
        direct = [one for one in ann.got if one["type"] == "direct"]
        assert (direct[0]["user"], direct[0]["to"], direct[0]["id"]) == ("ann", "ben", first)
        assert seats.direct_history("ann") == direct
        assert seats.direct_history("ben", 1) == direct[:1]
        assert seats.direct_history("cid") == []

    def test_what_was_published_by_hand_is_heard_and_garbage_is_not(
        self, seats: Seats, server: Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        ann = seats.join("ann")
        ahead = json.dumps(
            {"id": "99999999999999-0", "timestamp": 1, "type": "message", "text": 0}, separators=(",", ":")
        )
        for body in (b"\xff\xfe", "[1]", "no", "{", ahead, '{"type": "message", "text": 1}'):
            server.execute("PUBLISH", "chat:room:lobby", body)
        seats.send_message("ben", 2)
        ann.hears(0, 1, 2)
        assert "dropped 1 message on 'chat:room:lobby'" in caplog.text


class TestBeingThere:
    def test_joins_and_leaves_are_announced_once(self, seats: Seats) -> None:
        ann = seats.join("ann")
        ben, phone = seats.join("ben"), seats.join("ben")
        phone.stop()
        ben.stop()
        ben.stop()
        seats.join("cid")
        ann.sees(("join", "ben"), ("leave", "ben"), ("join", "cid"))
        assert ben.got == []
        assert not ben.membership.active

    def test_who_is_there_since_when_with_what(self, seats: Seats) -> None:
        seats.join("ben", metadata={"color": "red"})
        seats.join("ann")
        seats.join("ben", metadata={"color": "blue"})
        ann, ben = seats.members()
        assert (ann.user, ann.connections, ann.metadata) == ("ann", 1, {})
        assert (ben.user, ben.connections, ben.metadata) == ("ben", 2, {"color": "blue"})
        assert abs(ben.since - datetime.now(UTC)) < timedelta(minutes=10)
        seats.leave("ben")
        assert [one.user for one in seats.members()] == ["ann"]

    def test_after_stopping_nothing_is_heard(self, seats: Seats) -> None:
        ann, ben = seats.join("ann"), seats.join("ben")
        ben.stop()
        seats.send_message("ann", 1)
        ann.hears(1)
        assert texts(ben.got) == []

    def test_a_callback_may_stop_its_membership(self, seats: Seats, style: Style) -> None:
        ann, ben = seats.join("ann"), seats.join("ben")
        stop = ann.membership.stop
        if style.handlers == "async def":  # there nothing may be waited for
            stop = ann.membership._drop

        def only_one(message: dict[str, Any]) -> None:
            if message["type"] == "message":
                stop()

        ann.before = only_one
        for number in range(3):
            seats.send_message("ben", number)
        ben.hears(0, 1, 2)
        eventually(lambda: [one.user for one in seats.members()] == ["ben"])
        ann.hears(0)

    def test_what_a_callback_raises_is_logged_and_the_next_is_heard(
        self, seats: Seats, caplog: pytest.LogCaptureFixture
    ) -> None:
        ann = seats.join("ann")

        def fail(message: dict[str, Any]) -> None:
            if message["text"] == 1:
                raise ValueError("one")

        ann.before = fail
        for number in range(3):
            seats.send_message("ann", number)
        ann.hears(0, 2)
        assert "ValueError: one" in caplog.text

    def test_the_rooms_that_have_members(self, app: App, seats: Seats) -> None:
        assert ChatRoom.rooms(app) == []
        seats.join("ann")
        seats.join("ann")
        seats.join("ben")
        with ChatRoom("a*{b}", app=app).join("ann", [].append):
            assert ChatRoom.rooms(app) == [RoomInfo("a*{b}", 1), RoomInfo("lobby", 2)]
            assert asyncio.run(ChatRoom.arooms(app)) == ChatRoom.rooms(app)
        assert ChatRoom.rooms(app) == [RoomInfo("lobby", 2)]
        assert seats.rooms() == ChatRoom("other", app=app).rooms()
        assert seats.rooms() == ChatRoom.rooms(app)

    def test_what_is_said_of_a_room(self, seats: Seats) -> None:
        assert seats.metadata() == {}
        seats.set_metadata(topic="tea", open=True, old=None)
        seats.set_metadata(open=None, names=["a"])
        assert seats.metadata() == {"topic": "tea", "names": ["a"]}


def ends_with(seat: Seat, text: Any) -> None:
    eventually(lambda: texts(seat.got)[-1:] == [text])


class TestHistory:
    def test_pages_of_it(self, seats: Seats) -> None:
        ids = [seats.send_message("ann", number) for number in range(10)]
        assert texts(seats.history()) == list(range(10))
        assert texts(seats.history(3)) == [7, 8, 9]
        assert texts(seats.history(3, before=ids[7])) == [4, 5, 6]
        assert texts(seats.history(3, after=ids[2])) == [3, 4, 5]
        assert texts(seats.history(after=ids[2], before=ids[5])) == [3, 4]
        assert [one["id"] for one in seats.history()] == ids

    def test_a_joiner_begins_with_the_last_ones_and_gets_no_own_join(self, seats: Seats) -> None:
        for number in range(5):
            seats.send_message("ben", number)
        seats.send_direct("ben", "ann", "psst")
        ann = seats.join("ann", history=3)
        seats.send_message("ben", 5)
        ann.hears(3, 4, 5)
        assert [one["type"] for one in ann.got] == ["message", "message", "direct", "message"]
        times = [one["timestamp"] for one in ann.got]
        assert times[2] <= ann.membership.joined_at <= times[3]

    def test_or_with_all_since_an_id(self, seats: Seats) -> None:
        ids = [seats.send_message("ben", number) for number in range(500)]
        seats.send_direct("ben", "ann", "psst")
        ann = seats.join("ann", since=ids[9])
        seats.send_message("ben", 500)
        ann.hears(*range(10, 501))
        assert [one["type"] for one in ann.got if one["type"] != "message"] == ["direct"]
        assert ann.gaps == []

    def test_no_gap_and_no_duplicate_while_messages_arrive(self, seats: Seats, app: App) -> None:
        said: list[int] = []
        stop = threading.Event()
        sender = ChatRoom("lobby", app=app)

        def has_more(count: int) -> bool:
            return eventually(lambda: len(said) > count)

        def talk() -> None:
            while not stop.is_set() or len(said) < 300:
                sender.send_message("dan", len(said))
                said.append(len(said))

        talking = threading.Thread(target=talk)
        talking.start()
        joined = []
        for user in ("ann", "ben", "cid"):
            has_more(len(said) + 20)
            joined.append(seats.join(user, history=10))
            joined.append(seats.join(user, since="0-0"))
        stop.set()
        talking.join()
        for seat in joined:
            ends_with(seat, said[-1])
            heard = texts(seat.got)
            assert heard == list(range(heard[0], said[-1] + 1))
            assert seat.gaps == []
        assert texts(joined[1].got)[0] == 0

    def test_garbage_in_it_is_left_out(self, seats: Seats, server: Server) -> None:
        first = seats.send_message("ann", {"a": [1]}, more=[1])
        for fields in (
            ("b", b"\xff"),
            ("b", "[]"),
            ("x", "{}"),
            ("b", '{"id":"9","timestamp":"x","text":2}'),
        ):
            server.execute("XADD", "rt:r:{lobby}:log", "*", *fields)
        server.execute("HSET", "rt:r:{lobby}:meta", "mine", "{", b"\xff", "1")
        assert seats.metadata() == {"\\xff": 1}
        message, last = seats.history()
        assert (message["id"], message["text"], last["text"]) == (first, {"a": [1]}, 2)
        assert last["id"] != "9"
        ann, ben = seats.join("ann", history=9), seats.join("ben", since="0-0")
        eventually(lambda: len(ann.got) >= 2 and len(ben.got) >= 2)
        assert [one["text"] for one in ann.got[:2]] == [{"a": [1]}, 2]
        assert ann.got[:2] == ben.got[:2] == [message, last]
        ann.got[0]["more"].append(2)
        assert ben.got[0]["more"] == [1]

    def test_it_is_kept_by_count_and_by_age(self, app: App, server: Server) -> None:
        counted = ChatRoom("counted", app=app, history_count=3)
        for number in range(10):
            counted.send_message("ann", number)
        assert texts(counted.history()) == [7, 8, 9]
        aged = ChatRoom("aged", app=app, history_age=timedelta(milliseconds=300))
        aged.send_message("ann", 0)
        assert 0 < server.execute("PTTL", "rt:r:{aged}:log") <= 300
        eventually(lambda: aged.history() == [])
        none = ChatRoom("none", app=app, history_count=0)
        got: list[dict[str, Any]] = []
        with none.join("ann", got.append):
            none.send_message("ann", 1)
            eventually(lambda: texts(got) == [1])
        assert none.history() == []


AWKWARD = [
    "*",
    "a?[b]",
    "two words",
    "🎈",
    "line\nbreak\r\x1b[31m",
    "x" * 500,
    "{a}%",
    "lobby:user:ann",
    "é:u:",
]


@pytest.mark.fault(38, "chat")
@pytest.mark.parametrize("name", AWKWARD, ids=ascii)
def test_any_name_is_just_a_name(app: App, server: Server, name: str) -> None:
    got: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    room, other = ChatRoom(name, app=app), ChatRoom("abc", app=app)
    with room.join(name, got.append), other.join("ann", others.append):
        room.send_message(name, 1)
        other.send_message("x", 2)
        room.send_direct("ben", name, 3)
        eventually(lambda: len(got) == 2 and len(others) == 1)
        assert [one.user for one in room.members()] == [name]
        assert {one.name for one in ChatRoom.rooms(app)} == {name, "abc"}
        assert events(room.history()) == [("join", name)]
    assert events(room.history()) == [("join", name), ("leave", name)]


@pytest.mark.parametrize(
    "call",
    [
        lambda room: ChatRoom(""),
        lambda room: ChatRoom("x" * 1001),
        lambda room: ChatRoom(7),  # type: ignore[arg-type]
        lambda room: ChatRoom("a", app=App(), url="redis://localhost"),
        lambda room: ChatRoom("a", app="redis://localhost"),  # type: ignore[arg-type]
        lambda room: ChatRoom("a", history_count=-1),
        lambda room: ChatRoom("a", history_age=0),
        lambda room: room.join(""),
        lambda room: room.join("\ud800"),
        lambda room: room.join("ann", history=-1),
        lambda room: room.join("ann", history=1, since="1-0"),
        lambda room: room.join("ann", since="yesterday"),
        lambda room: room.join("ann", lambda: None, on_gap=None, metadata=7),
        lambda room: room.send_message("ann", "x", id=""),
        lambda room: room.send_message("ann", "x", timestamp=7),
        lambda room: room.send_message("ann", "x", ID="1"),
        lambda room: room.send_message("ann", "x", id_="1"),
        lambda room: room.send_message("ann", "x", Type="1"),
        lambda room: room.send_message(True, "x"),
        lambda room: room.join(b"ann"),
        lambda room: room.send_message(None, "x"),
        lambda room: room.send_direct("ann", "", "x"),
        lambda room: room.history(0),
        lambda room: room.history(before=7),
        lambda room: room.history(after="1-99999999999999999999"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(
    app: App, call: Callable[[ChatRoom], object]
) -> None:
    with pytest.raises(ConfigurationError):
        call(ChatRoom("lobby", app=app))


def test_what_cannot_be_written_is_refused(app: App, server: Server) -> None:
    room = ChatRoom("lobby", app=app)
    with pytest.raises(EncodeError):
        room.send_message("ann", object())
    with pytest.raises(PayloadTooLarge):
        room.send_message("ann", "x" * 1024 * 1024)
    with pytest.raises(EncodeError):
        room.join("ann", metadata={"a": object()})
    assert server.execute("KEYS", "*") == []


def test_options_that_are_misspelt(app: App) -> None:
    make: Any = ChatRoom
    room = make("lobby", app=app)
    calls: dict[str, Callable[[], object]] = {
        r"ChatRoom\(\) has no option history_cnt=: did you mean history_count=": lambda: make(
            "a", history_cnt=1
        ),
        r"join\(\) has no option histroy=: did you mean history=": lambda: room.join("ann", histroy=1),
        r"ajoin\(\) has no option histroy=: did you mean history=": lambda: room.ajoin("ann", histroy=1),
        r"history\(\) has no option count=: it has limit, before, after": lambda: room.history(count=1),
        r"send_direct\(\) has no option ID=": lambda: room.send_direct("ann", "ben", "x", ID="1"),
        "a message has 'id' already: did you mean that": lambda: room.send_message("ann", "x", ID="1"),
    }
    for text, call in calls.items():
        with pytest.raises(ConfigurationError, match=text):
            call()


def test_who_could_not_join_is_not_said_to_stay(caplog: pytest.LogCaptureFixture) -> None:
    room = ChatRoom("lobby", app=App("redis://127.0.0.1:1/0", connect_timeout=0.1, command_timeout=0.1))
    with pytest.raises(ServerUnreachable):
        room.join("ann")
    eventually(lambda: "rt-room-presence" not in [one.name for one in threading.enumerate()])
    assert "stay in their rooms" not in caplog.text
