"""Rooms under what somebody does on purpose, or by mistake: to ids, to loops, to members who come and go."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from redis_toolkit import App, RedisToolkitError
from redis_toolkit.patterns import ChatRoom, Membership
from tests.e2e.conftest import MakeApp
from tests.e2e.seats import events, texts
from tests.kit.servers import Server
from tests.kit.waiting import eventually

LAST_ID = f"{2**64 - 1}-{2**64 - 1}"


@pytest.fixture
def room(client: App) -> ChatRoom:
    return ChatRoom("lobby", app=client)


@pytest.mark.parametrize("since", ["9999999999999-0", LAST_ID])
def test_an_id_from_a_time_to_come_is_a_gap_and_then_all_is_heard(room: ChatRoom, since: str) -> None:
    got: list[dict[str, Any]] = []
    gaps: list[Any] = []
    room.send_message("ben", "before")
    with room.join("ann", got.append, since=since, on_gap=gaps.append):
        for number in range(5):
            room.send_message("ben", number)
        eventually(lambda: len(texts(got)) >= 5)
    assert texts(got) == [0, 1, 2, 3, 4]
    assert len(gaps) == 1


def test_there_is_nothing_before_the_first_id_and_after_the_last(room: ChatRoom) -> None:
    room.send_message("ben", 1)
    assert room.history(before="0-0") == []
    assert room.history(after=LAST_ID) == []
    assert len(room.history(after="0-0", before=LAST_ID)) == 1


def test_more_history_than_a_member_may_hold_is_no_gap(room: ChatRoom) -> None:
    for number in range(1100):
        room.send_message("ben", number)
    gaps: list[Any] = []
    with room.join("ann", history=2000, on_gap=gaps.append) as membership:
        room.send_message("ben", 1100)
        got = [next(membership)["text"] for _ in range(1101)]
    assert got == list(range(1101))
    assert gaps == []


def test_a_loop_that_was_closed_under_a_member_takes_nobody_with_it(room: ChatRoom, client: App) -> None:
    async def hear(message: dict[str, Any]) -> None:
        pass

    async def join() -> Membership:
        return await room.ajoin("ann", hear)

    got: list[dict[str, Any]] = []
    with room.join("ben", got.append):
        loop = asyncio.new_event_loop()
        membership = loop.run_until_complete(join())
        loop.run_until_complete(client._async_driver.close())
        loop.close()
        for number in range(3):
            room.send_message("cid", number)
        eventually(lambda: texts(got) == [0, 1, 2])
        eventually(lambda: [one.user for one in room.members()] == ["ben"])
        assert not membership.active
    with room.join("dan"):
        assert [one.user for one in room.members()] == ["dan"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_a_callback_that_exits_ends_no_other(room: ChatRoom, error: BaseException) -> None:
    got: list[dict[str, Any]] = []

    async def bad(message: dict[str, Any]) -> None:
        raise error

    async def good(message: dict[str, Any]) -> None:
        got.append(message)

    with room.join("bad", bad) as one, room.join("good", good):
        for number in range(3):
            room.send_message("ben", number)
        eventually(lambda: texts(got) == [0, 1, 2])
        assert one.active
    with room.join("late", good):
        room.send_message("ben", 3)
        eventually(lambda: texts(got) == [0, 1, 2, 3])


def test_a_callback_that_leaves_goes_on_to_its_end(room: ChatRoom) -> None:
    done = threading.Event()

    async def hear(message: dict[str, Any]) -> None:
        await room.aleave("ann")
        await asyncio.sleep(0.01)
        done.set()

    room.join("ann", hear)
    room.send_message("ben", 1)
    assert done.wait(30)
    assert room.members() == []


def test_one_user_who_comes_and_goes_in_many_threads_is_announced_in_turn(room: ChatRoom) -> None:
    def come_and_go(number: int) -> None:
        for step in range(20):
            try:
                membership = room.join("ann", [].append)
            except ConnectionError:  # another thread has left in its name
                continue
            if (number + step) % 3:
                membership.stop()
            else:
                room.leave("ann")

    threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    eventually(lambda: not room.members())
    said = [kind for kind, *_ in events(room.history(1000))]
    assert said == ["join", "leave"] * (len(said) // 2)
    assert all("reason" not in one for one in room.history(1000))


def test_those_who_never_stop_joining_find_a_server_that_is_back(
    own_server: Server, make_app: MakeApp
) -> None:
    room = ChatRoom("lobby", app=make_app(own_server.url, connect_timeout=0.2))
    own_server.stop()
    joined, over = threading.Event(), threading.Event()
    refused: list[RedisToolkitError] = []

    def try_on() -> None:
        while not over.is_set():
            try:
                room.join("ann").stop()
                joined.set()
            except RedisToolkitError as error:
                refused.append(error)

    threads = [threading.Thread(target=try_on) for _ in range(20)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(refused) > 200)
    own_server.start()
    try:
        assert joined.wait(20)
    finally:
        over.set()
        for thread in threads:
            thread.join(30)
