"""Rooms under faults: what was missed is read, who is lost leaves, and a slow member slows nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from redis_toolkit import App, OutcomeUnknown, RedisToolkitError, StoreFull
from redis_toolkit.patterns import ChatRoom
from redis_toolkit.settings import Settings
from tests.e2e.conftest import MakeApp
from tests.e2e.seats import Seats, events, texts
from tests.e2e.styles import BASE, Background, Style
from tests.kit.processes import Process
from tests.kit.proxy import Proxy
from tests.kit.servers import Server
from tests.kit.waiting import eventually

RoomOf = Callable[..., Seats]
MEMBER = """
import sys, threading
from redis_toolkit import App
from redis_toolkit.patterns import ChatRoom

app = App(sys.argv[1], lease=float(sys.argv[2]))
room = ChatRoom("lobby", app=app)

def hear(message):
    print("heard", message["type"], message["user"], message.get("reason"), message["text"], flush=True)

room.join("pat", hear)
print("joined", flush=True)
threading.Event().wait()
"""
SERVED = """
import sys
from redis_toolkit import App
from redis_toolkit.patterns import ChatRoom

app = App(sys.argv[1])
app.on("x")(lambda data: None)
ChatRoom("lobby", app=app).join("pat", [].append)
print("joined", flush=True)
app.run(workers=0)
"""


@pytest.fixture
def talker(own_server: Server, make_app: MakeApp) -> ChatRoom:
    """The room as others see it, whom nothing happens to."""
    return ChatRoom("lobby", app=make_app(own_server.url))


@pytest.fixture
def room_of(make_app: MakeApp) -> Iterator[RoomOf]:
    """Makes rooms; afterwards nobody is in them."""
    made: list[Seats] = []

    def make(url: str, name: str = "lobby", kept: Any = None, **options: Any) -> Seats:
        made.append(Seats(make_app(url, **options), name, **(kept or {})))
        return made[-1]

    yield make
    for seats in made:
        seats.leave_all()


@pytest.fixture
def cut(
    every_style: None,
    proxy: Proxy,
    make_app: MakeApp,
    quickly: Any,
    style: Style,
    background: Background | None,
) -> Iterator[Seats]:
    """A room behind a network that fails."""
    seats = Seats(make_app(proxy.url, **quickly), style=style, background=background)
    yield seats
    proxy.clear()
    seats.leave_all()


@pytest.fixture
def start(own_server: Server, tmp_path: Path) -> Iterator[Any]:
    with ExitStack() as stack:

        def start(source: str = MEMBER, lease: float = 10) -> Process:
            process = Process(directory=tmp_path / "member", source=source, args=[own_server.url, str(lease)])
            stack.enter_context(process)
            process.wait_for_line("joined")
            return process

        yield start


def another_connection(proxy: Proxy) -> None:
    """The reader tries again."""
    before = proxy.accepted
    eventually(lambda: proxy.accepted > before)


def all_heard(got: list[Any], number: int) -> None:
    eventually(lambda: texts(got) == [number])


class TestTheNetwork:
    @pytest.mark.fault(16, "chat")
    @pytest.mark.parametrize("style", [BASE, Style("async def", "awaited")], ids=str, indirect=True)
    @pytest.mark.parametrize("how", ["fin", "rst"])
    def test_what_is_said_while_it_is_cut_is_read_once_and_in_order(
        self, cut: Seats, proxy: Proxy, talker: ChatRoom, how: str
    ) -> None:
        ann, ben = cut.join("ann"), cut.join("ben")
        for step in range(3):
            talker.send_message("dan", 10 * step)
            proxy.refuse()
            getattr(proxy, how)()
            for number in range(1, 9):
                talker.send_message("dan", 10 * step + number)
            talker.send_direct("dan", "ann", "psst")
            proxy.accept()
            talker.send_message("dan", 10 * step + 9)
        for seat in (ann, ben):
            seat.hears(*range(30))
            assert seat.gaps == []
        assert [one["type"] for one in ann.got].count("direct") == 3
        assert [one["type"] for one in ben.got].count("direct") == 0
        assert [one["id"] for one in ann.got if one["type"] != "join"] == sorted(
            (one["id"] for one in ann.got if one["type"] != "join"),
            key=lambda one: tuple(map(int, one.split("-"))),
        )

    @pytest.mark.fault(17, "chat")
    def test_a_network_that_swallows_everything_is_noticed(
        self, proxy: Proxy, room_of: RoomOf, talker: ChatRoom, quick: Settings
    ) -> None:
        options = {**asdict(quick), "lease": 10.0, "command_timeout": 2.0}
        seats = room_of(proxy.url, **options)
        ann = seats.join("ann")
        for direction in ("down", "up"):
            proxy.blackhole(direction)
            talker.send_message("dan", direction)
            another_connection(proxy)
            proxy.heal()
        ann.hears("down", "up")
        assert ann.gaps == []

    @pytest.mark.fault(18, "chat")
    def test_a_message_with_an_id_is_sent_once_though_its_reply_is_lost(
        self, cut: Seats, proxy: Proxy, talker: ChatRoom
    ) -> None:
        ann = cut.join("ann")
        proxy.drop_reply(b"with id")
        entry = cut.send_message("ann", "with id", id="1")
        proxy.drop_reply(b"without")
        with pytest.raises(OutcomeUnknown):
            cut.send_message("ann", "without")
        ann.hears("with id", "without")
        assert [one["id"] for one in talker.history() if one["text"] == "with id"] == [entry]

    @pytest.mark.fault(19, "chat")
    def test_slices_of_a_byte(self, cut: Seats, proxy: Proxy, talker: ChatRoom) -> None:
        proxy.slice(1)
        proxy.delay(0.002, jitter=0.002)
        ann = cut.join("ann", since="0-0")
        for number in range(20):
            talker.send_message("dan", number)
        ann.hears(*range(20))

    @pytest.mark.fault(14, "chat")
    def test_connections_are_killed_again_and_again(
        self, own_server: Server, room_of: RoomOf, quickly: Any, talker: ChatRoom
    ) -> None:
        seats = room_of(own_server.url, **quickly)
        ann = seats.join("ann")
        for number in range(60):
            talker.send_message("dan", number, id=str(number))
            if number % 6 == 0:
                own_server.execute("CLIENT", "KILL", "TYPE", "pubsub")
                own_server.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        ann.hears(*range(60))
        assert ann.gaps == []
        assert [one.user for one in talker.members()] == ["ann"]


class TestTheServer:
    @pytest.fixture
    def own_server(self, tmp_path: Path) -> Iterator[Server]:
        with Server(directory=tmp_path / "server", persistence="always") as server:
            yield server

    @pytest.mark.fault(9, "chat")
    def test_a_restart_with_everything_on_disk_loses_nothing(
        self, own_server: Server, room_of: RoomOf, quickly: Any
    ) -> None:
        seats = room_of(own_server.url, **{**quickly, "command_timeout": 30.0})
        ann = seats.join("ann")
        for number in range(3):
            seats.send_message("ann", number)
        own_server.kill()
        own_server.start()
        seats.send_message("ann", 3, id="3")
        ann.hears(0, 1, 2, 3)
        assert ann.gaps == []
        assert texts(seats.history()) == [0, 1, 2, 3]


@pytest.mark.fault(11, "chat")
def test_after_everything_was_lost_it_is_reported_and_presence_is_back(
    own_server: Server, room_of: RoomOf, quickly: Any
) -> None:
    seats = room_of(own_server.url, **{**quickly, "lease": 3.0})
    ann, ben = seats.join("ann"), seats.join("ben")
    seats.send_message("ann", 1)
    own_server.execute("FLUSHALL")
    eventually(lambda: [one.user for one in seats.members()] == ["ann", "ben"])
    eventually(lambda: ann.gaps and ben.gaps)
    seats.send_message("ann", 2)
    for seat in (ann, ben):
        seat.hears(1, 2)
        assert len(seat.gaps) == 1


@pytest.mark.fault(25, "chat")
def test_without_memory_a_message_is_refused_whole(own_server: Server, room_of: RoomOf) -> None:
    seats = room_of(own_server.url)
    ann = seats.join("ann")
    own_server.execute("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(StoreFull):
        seats.send_message("ann", 1, id="1")
    with pytest.raises(StoreFull):
        seats.send_direct("ann", "ben", 1)
    seats.join("ben").stop()
    ann.sees(("join", "ben"), ("leave", "ben"))
    assert texts(seats.history()) == []
    assert seats.direct_history("ann") == []
    own_server.execute("CONFIG", "SET", "maxmemory", 0)
    seats.send_message("ann", 2, id="1")
    ann.hears(2)
    assert [one.user for one in seats.members()] == ["ann"]


class TestProcesses:
    @pytest.mark.fault(1, "chat")
    def test_a_killed_member_is_lost(self, own_server: Server, room_of: RoomOf, start: Any) -> None:
        seats = room_of(own_server.url, lease=1.0)
        ann = seats.join("ann")
        with seats.room.join("cid", [].append):  # of the several who look after the room one says it
            process = start(lease=1.0)
            process.kill()
            eventually(lambda: [one.user for one in seats.members()] == ["ann", "cid"])
            ann.sees(("join", "cid"), ("join", "pat"), ("leave", "pat", "lost"))
            assert own_server.execute("KEYS", "*:u:pat") == []

    @pytest.mark.fault(6, "chat")
    def test_one_that_stood_still_joins_again_and_reads_what_it_missed(
        self, own_server: Server, room_of: RoomOf, start: Any
    ) -> None:
        seats = room_of(own_server.url, lease=1.0)
        ann = seats.join("ann")
        process = start(lease=1.0)
        process.pause()
        ann.sees(("join", "pat"), ("leave", "pat", "lost"))
        seats.send_message("ann", "missed")
        process.resume()
        ann.sees(("join", "pat"), ("leave", "pat", "lost"), ("join", "pat"))
        process.wait_for_line("heard message ann None missed")
        assert process.stdout.count("missed") == 1

    @pytest.mark.fault(4, "chat")
    def test_one_that_serves_leaves_at_once_at_sigterm(
        self, own_server: Server, room_of: RoomOf, start: Any
    ) -> None:
        seats = room_of(own_server.url)
        ann = seats.join("ann")
        process = start(SERVED)
        eventually(lambda: own_server.execute("PUBSUB", "NUMSUB", "x")[1])
        process.terminate()
        ann.sees(("join", "pat"), ("leave", "pat"))
        assert process.wait() == 0


class TestScale:
    def test_a_thousand_rooms_with_ten_members_each_have_three_connections(self, bus: Server) -> None:
        app = App(bus.url)
        heard: dict[tuple[int, int], list[Any]] = {}
        with ExitStack() as stack:
            for number in range(1000):
                room = ChatRoom(f"room {number}", app=app)
                for user in range(10):
                    got = heard[number, user] = []
                    stack.callback(room.join(f"user {user}", got.append)._drop)
            for number in range(0, 1000, 100):
                ChatRoom(f"room {number}", app=app).send_message("dan", number)
            for number in range(0, 1000, 100):
                for user in range(10):
                    got = heard[number, user]
                    all_heard(got, number)
            clients = bus.client().client_list()
            assert len([one for one in clients if one["name"] != "test" and one["cmd"] != "client|list"]) <= 3
            assert len(ChatRoom.rooms(app)) == 1000
            assert threading.active_count() < 20
        eventually(lambda: ChatRoom.rooms(app) == [])
        app.stop()

    @pytest.mark.fault(32, "chat")
    def test_a_slow_member_slows_nobody_and_reads_what_it_could_not_hold(
        self, server: Server, room_of: RoomOf
    ) -> None:
        slow_room, other_room = (room_of(server.url, name, lane_messages=20) for name in ("lobby", "other"))
        slow, ann, other = slow_room.join("slow"), slow_room.join("ann"), other_room.join("ann")
        go_on = threading.Event()
        slow.before = lambda _message: go_on.wait(60)
        for number in range(300):
            slow_room.send_message("ann", number)
            other_room.send_message("ann", number)
        ann.hears(*range(300))
        other.hears(*range(300))
        assert texts(slow.got) == []
        go_on.set()
        slow.hears(*range(300))
        assert slow.gaps == []

    def test_what_is_not_kept_long_enough_for_a_slow_member_is_one_gap(
        self, bus: Server, room_of: RoomOf
    ) -> None:
        seats = room_of(bus.url, lane_messages=20, kept={"history_count": 50})
        slow, go_on, waits = seats.join("slow"), threading.Event(), threading.Event()

        def wait(_message: dict[str, Any]) -> None:
            waits.set()
            go_on.wait(60)

        slow.before = wait
        seats.send_message("ann", 0)
        assert waits.wait(30)
        for number in range(1, 300):
            seats.send_message("ann", number)
        go_on.set()
        slow.hears(0, *range(250, 300))
        [gap] = slow.gaps
        assert gap.channels == ("chat:room:lobby",)
        assert gap.started <= gap.ended

    def test_callbacks_that_wait_keep_nobody_waiting(self, bus: Server, room_of: RoomOf) -> None:
        seats, go_on = room_of(bus.url), threading.Event()
        waiting = [seats.join(f"slow {number}") for number in range(20)]
        for seat in waiting:
            seat.before = lambda _message: go_on.wait(60)
        ann = seats.join("ann")
        seats.send_message("ann", 1)
        ann.hears(1)
        go_on.set()
        for seat in waiting:
            seat.hears(1)
            seat.stop()


def test_a_join_that_cannot_reach_the_server_leaves_nothing(own_server: Server, make_app: MakeApp) -> None:
    room = ChatRoom("lobby", app=make_app(own_server.url, connect_timeout=1.0))
    own_server.stop()
    with pytest.raises(RedisToolkitError):
        room.join("ann")
    own_server.start()
    with room.join("ann") as membership:
        room.send_message("ann", 1)
        assert next(iter(membership))["text"] == 1
    assert events(room.history())[-1] == ("leave", "ann")
