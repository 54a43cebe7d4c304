"""Members and senders of rooms that are killed, stopped and told to end: real processes.

Rules: a program joins by four members, with callbacks and iterations, in threads and on a loop; each writes
what it hears into the history.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from redis_toolkit import keys
from redis_toolkit.patterns import ChatRoom
from tests.e2e.conftest import MakeApp
from tests.e2e.seats import Seat, Seats, events
from tests.kit.faults import Tier
from tests.kit.processes import Process
from tests.kit.proxy import Proxy
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.programs import Programs

WAYS = ("threads", "coroutines", "iterating", "awaiting")
PROGRAM = """
import asyncio
from redis_toolkit.patterns import ChatRoom

app = App(os.environ["URL"], lease={lease})
app.on("x")(lambda data: None)
room = ChatRoom("lobby", app=app)
begun = threading.Semaphore(0)

def heard(way, message):
    history.write("heard", way=way, id=message["id"], type=message["type"], text=message["text"])

def hear(message):
    heard("threads", message)
    if message["text"] == "wait": wait_at_gate()

async def hear_later(message):
    heard("coroutines", message)
    if message["text"] == "wait": await asyncio.Event().wait()

def iterate():
    with room.join("iterating") as membership:
        begun.release()
        for message in membership:
            heard("iterating", message)

async def iterate_later():
    async with room.ajoin("awaiting") as membership:
        await room.ajoin("coroutines", hear_later)
        begun.release()
        async for message in membership:
            heard("awaiting", message)

room.join("threads", hear)
threading.Thread(target=iterate, daemon=True).start()
threading.Thread(target=lambda: asyncio.run(iterate_later()), daemon=True).start()
for _ in range(2):
    begun.acquire()
print("joined", flush=True)
{then}
"""
WAIT = "threading.Event().wait()"
SERVE = "app.run(workers=0)"


class Members:
    """Programs with members, and one who watches them."""

    def __init__(self, programs: Programs, seats: Seats) -> None:
        self.programs, self.seats = programs, seats
        self.eve: Seat = seats.join("eve")

    def start(self, then: str = WAIT, lease: float = 1.0) -> Process:
        program = self.programs.start(PROGRAM.format(then=then, lease=lease))
        program.wait_for_line("joined")
        return program

    def send(self, *said: str) -> list[str]:
        return [self.seats.send_message("dan", one) for one in said]

    def hear(self, *said: str) -> None:
        """Wait until each of them has heard these last."""
        eventually(lambda: all(self.heard(way)[-len(said) :] == list(said) for way in WAYS), what=f"{said}")

    def heard(self, way: str) -> list[str]:
        found = self.programs.history.read("heard")
        return [one["text"] for one in found if (one["way"], one["type"]) == (way, "message")]

    def see(self, *happened: str) -> None:
        """Wait until eve has heard this of each of them, in this order; each is heard once."""

        def all_seen() -> bool:
            return all(len(self.seen(way)) >= len(happened) for way in WAYS)

        eventually(all_seen, what=f"{happened}")
        for way in WAYS:
            assert self.seen(way) == list(happened)

    def seen(self, way: str) -> list[str]:
        return [" ".join((kind, *why)) for kind, user, *why in events(self.eve.got) if user == way]

    def are_there(self) -> bool:
        return {one.user for one in self.seats.members()} == {"eve", *WAYS}

    def are_gone(self) -> bool:
        return [one.user for one in self.seats.members()] == ["eve"]


@pytest.fixture
def members(programs: Programs, own_server: Server, make_app: MakeApp) -> Iterator[Members]:
    seats = Seats(make_app(own_server.url, lease=1.0))
    yield Members(programs, seats)
    seats.leave_all()


@pytest.mark.fault(1, "chat")
def test_members_that_are_killed_in_a_callback_are_lost_and_others_go_on(
    members: Members, own_server: Server, tier: Tier
) -> None:
    lease = tier(1.0, 10.0)
    program = members.start(lease=lease)
    members.send("wait")
    members.hear("wait")
    program.kill()
    eventually(members.are_gone, what="members() without them")
    members.see("join", "leave lost")
    members.send("after")
    members.eve.hears("wait", "after")
    assert own_server.execute("KEYS", "rt:r:{lobby}:u:*") == [keys.room_user("lobby", "eve")]


@pytest.mark.fault(4, "chat")
def test_members_that_are_told_to_end_leave_at_once(members: Members) -> None:
    program = members.start(SERVE, lease=60)
    eventually(lambda: members.programs.server.execute("PUBSUB", "NUMSUB", "x")[1], what="its start")
    members.send("last")
    members.hear("last")
    program.terminate()
    members.see("join", "leave")  # long before the lease is over
    assert members.are_gone()
    assert program.wait() == 0, program.output


@pytest.mark.fault(6, "chat")
def test_members_that_stand_still_are_lost_and_join_again_and_miss_nothing(
    members: Members, tier: Tier
) -> None:
    lease, said = tier(1.0, 10.0), ["before"]
    program = members.start(lease=lease)
    members.send("before")
    members.hear("before")
    for turn in range(tier(1, 3)):
        before = ["join", "leave lost"] * (turn + 1)
        program.pause()
        members.see(*before)
        assert members.are_gone()
        said += [f"{turn} {number}" for number in range(50)]
        members.send(*said[-50:])
        program.resume()
        members.see(*before, "join")
        eventually(members.are_there, what="all of them in the room")
        said.append(f"after {turn}")
        members.send(said[-1])
        members.hear(*said)
    for way in WAYS:
        assert members.heard(way) == said


SENDER = """
import asyncio
from redis_toolkit.patterns import ChatRoom

room = ChatRoom("lobby", app=app)

def send():
    for number in range({many}):
        history.write("sent", id=room.send_message("dan", f"called {{number}}", id=f"called {{number}}"))

async def send_later():
    for number in range({many}):
        said = f"awaited {{number}}"
        history.write("sent", id=await room.asend_message("dan", said, id=said))

threads = [threading.Thread(target=send), threading.Thread(target=lambda: asyncio.run(send_later()))]
for one in threads:
    one.start()
for one in threads:
    one.join()
print("done", flush=True)
"""


@pytest.mark.fault(2, "chat")
def test_what_was_said_by_one_that_was_killed_before_it_knew_is_said_again_once(
    programs: Programs, own_server: Server, proxy: Proxy, make_app: MakeApp
) -> None:
    """The server has executed more than the first one was told; the second one says all of it again."""
    room, got = ChatRoom("lobby", app=make_app(own_server.url)), list[dict[str, Any]]()
    with room.join("eve", got.append):
        source, settings = SENDER.format(many=100_000), {"command_timeout": 60}
        first = programs.start(source, url=proxy.url, settings=settings, name="first")
        programs.history.wait_for(lambda sent: len(sent) > 10, event="sent")
        proxy.blackhole("down")
        unknown = "two messages whose sender does not know of them"
        eventually(lambda: len(got) == len(programs.history.read("sent")) + 2, what=unknown)
        first.kill()
        proxy.heal()
        many = max(int(one["text"].split()[1]) for one in got) + 2
        programs.start(SENDER.format(many=many), name="second").wait_for_line("done")
        eventually(lambda: len(got) >= 2 * many, what="all that was said")
    assert sorted(one["text"] for one in got) == sorted(
        f"{way} {number}" for way in ("called", "awaited") for number in range(many)
    )
    ids = [one["id"] for one in programs.history.read("sent")]
    assert set(ids) == {one["id"] for one in got}
