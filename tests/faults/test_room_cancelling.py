"""Rooms that are given up at any moment: said once or not at all, nobody left in them, nothing lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from redis_toolkit import App, keys
from redis_toolkit.patterns import ChatRoom
from tests.core.awaiting import awaiting, becomes, named, nothing_waits
from tests.e2e.conftest import MakeApp
from tests.faults.talk import LONG, Heard, said_in
from tests.faults.troubles import seeded
from tests.kit.faults import Tier
from tests.kit.processes import Process
from tests.kit.proxy import Proxy
from tests.kit.servers import Server
from tests.kit.waiting import eventually

INTERRUPTED = """
import os, random, signal, sys, threading, time
from redis_toolkit import App
from redis_toolkit.patterns import ChatRoom

url, seed, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chance, app = random.Random(seed), App(url)
room = ChatRoom("lobby", app=app, history_count=10**6)
armed, landed, interrupted, wrong = threading.Semaphore(0), threading.Event(), 0, 0

def interrupt():
    for number in range(rounds):
        armed.acquire()
        time.sleep(chance.choice([0, chance.uniform(0, 0.0005), chance.uniform(0, 0.005)]))
        os.kill(os.getpid(), signal.SIGINT)
        while not landed.wait(5):  # it hit a finalizer, where Python ignores it
            os.kill(os.getpid(), signal.SIGINT)

def is_said(entry, text):
    return any((one["id"], one["text"]) == (entry, text) for one in room.history(20))

def visit(n):
    with room.join("pat", history=1) as membership:
        entry = room.send_message("pat", ["visit", n])
        return any(message["id"] == entry for message in membership)

threading.Thread(target=interrupt, daemon=True).start()
CALLS = [
    lambda n: is_said(room.send_message("dan", ["plain", n]), ["plain", n]),
    lambda n: len({room.send_message("dan", ["id", n], id=f"{n}") for _ in range(2)}) == 1,
    lambda n: "eve" in [one.user for one in room.members()],
    visit,
]
for call in CALLS:
    assert call(0)
for number in range(1, rounds + 1):
    landed.clear()
    try:
        armed.release()
        while True:
            wrong += not chance.choice(CALLS)(number)
    except KeyboardInterrupt:
        interrupted += 1
        landed.set()
    for call in CALLS:
        wrong += not call(number)
room.leave("pat")  # one that was interrupted on its way into its with
until = time.monotonic() + 60  # a join that was on its way when it was given up is there for a lease
while [one.user for one in room.members()] != ["eve"] and time.monotonic() < until:
    time.sleep(0.05)
wrong += [one.user for one in room.members()] != ["eve"]
print(interrupted, wrong, flush=True)
"""


def moves(log: dict[Any, dict[str, Any]], user: str) -> list[str]:
    """Return when a user joined and left, in order."""
    return [one["type"] for one in log.values() if one["user"] == user and one["type"] != "message"]


def by_turns(log: dict[Any, dict[str, Any]], user: str) -> None:
    """Assert that a user joined and left by turns, and has left."""
    kinds = moves(log, user)
    assert kinds == ["join", "leave"] * (len(kinds) // 2), kinds


@pytest.mark.fault(20, "chat")
def test_ctrl_c_at_any_moment(own_server: Server, make_app: MakeApp, tmp_path: Path, tier: Tier) -> None:
    seed, rounds = seeded().randrange(2**32), tier(60, 1_000)
    room, eve = ChatRoom("lobby", app=make_app(own_server.url), history_count=10**6), Heard("eve")
    with room.join("eve", eve.hear, on_gap=eve.hear_gap):
        arguments = (own_server.url, str(seed), str(rounds))
        with Process(directory=tmp_path, source=INTERRUPTED, args=arguments) as program:
            assert program.wait(240) == 0, program.output
            assert program.stdout.split() == [str(rounds), "0"], program.output
        key = keys.room_log("lobby")
        # A join that was given up while it was on its way may come behind the leave, and is then lost.
        eventually(lambda: moves(said_in(own_server, key), "pat")[-1] == "leave", LONG, what="the last leave")
        log = said_in(own_server, key)
        eventually(lambda: eve.ids == list(log)[1:], what="all that was said")
    assert not eve.gaps
    by_turns(log, "pat")
    said = Counter(tuple(one["text"]) for one in log.values() if one["text"])
    for number in range(rounds + 1):
        assert said["id", number] == 1
        assert said["plain", number] >= 1


async def cancelled(call: Coroutine[Any, Any, Any], after: int) -> Any:
    """Cancel a call after so many steps of the loop; returns what came of it all the same."""
    task = asyncio.ensure_future(call)
    for _ in range(after):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        return await task
    return None


async def join(room: ChatRoom, user: str) -> None:
    await room.ajoin(user)


async def come_and_go(room: ChatRoom, user: str) -> None:
    async with room.ajoin(user) as membership:
        async for _message in membership:
            break


@pytest.mark.fault(20, "chat")
def test_a_call_that_is_cancelled_at_every_await(
    own_server: Server, make_app: MakeApp, quickly: dict[str, Any], tier: Tier
) -> None:
    async def give_up(app: App, number: int) -> None:
        room = ChatRoom("lobby", app=app)
        membership = await room.ajoin("ben")
        calls = [
            room.asend_message("dan", f"plain {number}"),
            room.asend_message("dan", f"id {number}", id=str(number)),
            room.asend_direct("dan", "ben", number, id=f"direct {number}"),
            room.amembers(),
            join(room, "pat"),
            come_and_go(room, "sue"),
            room.aleave("ben"),
        ]
        await asyncio.gather(*(cancelled(call, number) for call in calls))
        entry = await room.asend_message("dan", f"id {number}", id=str(number))
        assert [one["id"] for one in await room.ahistory(99) if one["text"] == f"id {number}"] == [entry]
        async with room.ajoin("ann", history=1) as ann:
            after = await room.asend_message("ann", f"after {number}")
            async for message in ann:
                if message["id"] == after:
                    break
        for user in ("ben", "pat", "sue"):
            await room.aleave(user)
        assert not membership.active
        assert [one.user for one in await room.amembers()] == ["eve"]
        nothing_waits(app)

    room, eve = ChatRoom("lobby", app=make_app(own_server.url, **quickly)), Heard("eve")
    rounds = range(tier(24, 96))
    with room.join("eve", eve.hear, on_gap=eve.hear_gap):
        for number in rounds:
            awaiting(named(own_server.url), lambda app, number=number: give_up(app, number))  # type: ignore[misc]
        log = said_in(own_server, keys.room_log("lobby"))
        eventually(lambda: eve.ids == list(log)[1:], what="all that was said")
    for user in ("ann", "ben", "pat", "sue"):
        by_turns(log, user)
    said = Counter(one["text"] for one in log.values())
    for number in rounds:
        assert said[f"plain {number}"] <= 1
        assert said[f"id {number}"] == said[f"after {number}"] == 1


@pytest.mark.fault(20, "chat")
def test_an_iteration_that_is_cancelled_at_every_await_and_begun_again_loses_nothing(
    own_server: Server, proxy: Proxy, make_app: MakeApp, quickly: dict[str, Any], tier: Tier
) -> None:
    """Connections are cut meanwhile, so that it is cancelled while it reads the log, too."""
    rounds = tier(60, 1_000)
    room = ChatRoom("lobby", app=make_app(own_server.url, **quickly))
    said: list[int] = []

    def say() -> None:
        said.append(len(said))
        room.send_message("dan", said[-1])

    async def iterate(app: App) -> list[Any]:
        got: list[Any] = []
        async with ChatRoom("lobby", app=app).ajoin("ann") as membership:

            async def take() -> None:
                async for message in membership:
                    got.append(message["text"])

            for number in range(rounds):
                if number % 4 == 0:
                    await asyncio.to_thread(proxy.fin)
                for _ in range(2):
                    await asyncio.to_thread(say)
                await cancelled(take(), number % 20)
            last = asyncio.ensure_future(take())
            await becomes(lambda: len(got) >= len(said), what="all that was said")
        await last
        return got

    assert awaiting(proxy.url, iterate, **quickly) == said
