"""Rooms by iteration, in threads and on loops; where a blocking call is refused; and forks."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from redis_toolkit import App, ConfigurationError
from redis_toolkit._core import loops
from redis_toolkit.patterns import ChatRoom, Membership, UserNotificationClient
from tests.e2e.seats import texts
from tests.kit.servers import Server
from tests.kit.waiting import eventually


@pytest.fixture
def room(app: App) -> ChatRoom:
    return ChatRoom("lobby", app=app)


async def is_left(room: ChatRoom) -> None:
    await asyncio.to_thread(eventually, lambda: not room.members())


def test_iterating_in_a_thread_until_it_is_stopped(room: ChatRoom) -> None:
    got: list[dict[str, Any]] = []
    membership = room.join("ann")

    def take() -> None:
        got.extend(membership)

    taking = threading.Thread(target=take)
    taking.start()
    room.send_message("ben", 1)
    room.send_message("ben", 2)
    eventually(lambda: texts(got) == [1, 2])
    membership.stop()
    taking.join(30)
    assert not taking.is_alive()
    assert list(membership) == []


def test_iterating_on_a_loop_leaves_in_the_end(room: ChatRoom, app: App) -> None:
    async def main() -> list[Any]:
        said = asyncio.Event()

        async def talk() -> None:
            while not said.is_set():
                await room.asend_message("ben", 1)

        talking = asyncio.create_task(talk())
        got = []
        async for message in room.ajoin("ann", history=2):
            got.append(message["text"])
            if len(got) == 5:
                break
        said.set()
        await talking
        await is_left(room)
        await app._async_driver.close()
        return got

    assert asyncio.run(main()) == [1] * 5


def test_the_three_forms_of_joining_on_a_loop(room: ChatRoom, app: App) -> None:
    async def main() -> None:
        got: list[dict[str, Any]] = []

        async def hear(message: dict[str, Any]) -> None:
            got.append(message)

        membership = await room.ajoin("ann", hear)
        async with room.ajoin("ben") as ben:
            await room.asend_message("ann", 1)
            async for message in ben:
                assert message["text"] == 1
                break
            assert len(await room.amembers()) == 2
        assert [one.user for one in await room.amembers()] == ["ann"]
        with pytest.raises(ConfigurationError, match="callback"):
            aiter(membership)
        await asyncio.to_thread(eventually, lambda: len(got) == 3)
        await membership.astop()
        assert await room.amembers() == []
        assert [one["type"] for one in got] == ["join", "message", "leave"]
        await app._async_driver.close()

    asyncio.run(main())


def test_a_blocking_call_on_a_loop_that_runs_handlers_names_the_twin(room: ChatRoom, app: App) -> None:
    async def main() -> None:
        async with app:
            for call in (
                lambda: room.send_message("ann", 1),
                lambda: room.join("ann"),
                room.members,
                room.history,
            ):
                with pytest.raises(
                    ConfigurationError, match=r"await a(send_message|join|members|history)\(\)"
                ):
                    call()

    app.on("x")(lambda data: None)
    asyncio.run(main())


def test_so_does_one_in_a_callback_of_a_room(room: ChatRoom, app: App) -> None:
    errors: list[Exception] = []

    async def hear(message: dict[str, Any]) -> None:
        try:
            room.send_message("ann", 2)
        except ConfigurationError as error:
            errors.append(error)

    async def main() -> None:
        async with room.ajoin("ann", hear), room.ajoin("ann", hear):
            await room.asend_message("ben", 1)
            await asyncio.to_thread(eventually, lambda: len(errors) == 2)
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() not in loops.serving
        await app._async_driver.close()

    asyncio.run(main())
    with room.join("ann", hear):
        room.send_message("ben", 1)
        eventually(lambda: len(errors) == 3)
    assert all("await asend_message()" in str(error) for error in errors)


def test_a_callback_that_waits_holds_up_nobody_on_its_loop(room: ChatRoom, app: App) -> None:
    async def main() -> None:
        go = asyncio.Event()
        got: dict[str, list[dict[str, Any]]] = {user: [] for user in ("ann", "ben", "cay", "dan")}

        def hearing(user: str) -> Any:
            async def hear(message: dict[str, Any]) -> None:
                if user in ("ann", "cay"):
                    await go.wait()
                got[user].append(message)

            return hear

        for user in got:
            await room.ajoin(user, hearing(user))
        said = list(range(100))
        for number in said:
            await room.asend_message("eve", number)
        await asyncio.to_thread(eventually, lambda: texts(got["ben"]) == texts(got["dan"]) == said)
        assert got["ann"] == got["cay"] == []
        go.set()
        await asyncio.to_thread(eventually, lambda: texts(got["ann"]) == texts(got["cay"]) == said)
        await app._async_driver.close()

    asyncio.run(main())


@pytest.mark.parametrize("waits", [False, True])
def test_a_callback_that_cancels_its_task_ends_its_own_membership(
    room: ChatRoom, app: App, waits: bool
) -> None:
    async def main() -> None:
        got: list[dict[str, Any]] = []

        async def cancel(message: dict[str, Any]) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            if waits:
                await asyncio.sleep(0)

        async def hear(message: dict[str, Any]) -> None:
            got.append(message)

        await room.ajoin("ann", hear)
        ben = await room.ajoin("ben")
        cancelling = await room.ajoin("cay", cancel)
        await room.ajoin("dan", hear)
        await room.asend_message("ann", 1)
        await asyncio.to_thread(eventually, lambda: not cancelling.active)
        await asyncio.to_thread(eventually, lambda: len(room.members()) == 3)
        await room.asend_message("ann", 2)
        await asyncio.to_thread(eventually, lambda: len(texts(got)) == 4)
        assert ben.active
        await app._async_driver.close()

    asyncio.run(main())


def test_a_loop_that_ends_leaves(room: ChatRoom) -> None:
    async def main() -> None:
        async def hear(message: dict[str, Any]) -> None: ...

        await room.ajoin("ann", hear)
        await room.ajoin("ben")

    asyncio.run(main())
    eventually(lambda: room.members() == [])


def test_all_of_a_loop_have_three_connections(server: Server) -> None:
    async def main(app: App) -> None:
        some = [
            ChatRoom(f"room {number}", app=app).ajoin(f"user {user}")
            for number in range(10)
            for user in range(5)
        ]
        joined = [await one for one in some]
        room = ChatRoom("room 0", app=app)
        await room.asend_message("ann", 1)
        assert (await anext(joined[0]))["type"] == "join"
        assert len(await ChatRoom.arooms(app)) == 10
        eventually(lambda: len(ours()) == 3, what=f"3 connections of {ours()}")
        for one in joined:
            await one.astop()
        await app.astop()

    def ours() -> set[Any]:
        return {one["id"] for one in watching.client_list()} - before

    watching = server.client()
    before = {one["id"] for one in watching.client_list()}
    asyncio.run(main(App(server.url, lease=0.5)))


def test_a_membership_that_nobody_keeps_lives_on(room: ChatRoom, app: App) -> None:
    async def main() -> None:
        await room.ajoin("ann")
        gc.collect()
        await asyncio.sleep(0)
        assert [one.user for one in await room.amembers()] == ["ann"]
        await room.aleave("ann")
        assert await room.amembers() == []
        await app._async_driver.close()

    asyncio.run(main())


def test_cancelled_joins_leave_nothing_behind(room: ChatRoom, app: App) -> None:
    async def main() -> None:
        for turns in range(40):
            task = asyncio.ensure_future(join())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                membership = await task
            except asyncio.CancelledError:
                continue
            await membership.astop()
        await is_left(room)
        await app._async_driver.close()

    async def join() -> Any:
        return await room.ajoin("ann")

    asyncio.run(main())


@pytest.mark.fault(21, "chat")
def test_a_forked_child_has_no_memberships_and_makes_its_own(room: ChatRoom, server: Server) -> None:
    got: list[dict[str, Any]] = []
    membership = room.join("ann", got.append)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            membership.stop()  # not this process's
            assert not membership.active
            heard: list[dict[str, Any]] = []
            with room.join("child", heard.append):
                room.send_message("child", 1)
                eventually(lambda: texts(heard) == [1])
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    room.send_message("ann", 2)
    eventually(lambda: texts(got) == [1, 2])
    assert membership.active
    membership.stop()


def test_what_is_joined_or_connected_is_awaited_or_entered(room: ChatRoom, app: App) -> None:
    async def hear(message: dict[str, Any]) -> None: ...

    async def main() -> None:
        opening: list[Callable[[], Any]] = [
            lambda: room.ajoin("ann", hear),
            lambda: UserNotificationClient.aconnect("ann", hear, app=app),
        ]
        for call in opening:
            async with call() as one:
                assert await is_open(one)
            assert not await is_open(one)
            async with await call() as one:
                assert await is_open(one)
            pending = call()
            one = await pending
            with pytest.raises(ConfigurationError, match="was awaited before"):
                await pending
            await one.astop()
            assert not await is_open(one)
        await app._async_driver.close()

    async def is_open(one: Any) -> bool:
        return bool(one.active if isinstance(one, Membership) else one.connected)

    asyncio.run(main())


def test_what_is_neither_is_warned_of(room: ChatRoom, app: App) -> None:
    with pytest.warns(RuntimeWarning, match=r"ChatRoom\.ajoin\(\) was never awaited") as said:
        room.ajoin("ann")
    assert said[0].filename == __file__
    with pytest.warns(RuntimeWarning, match=r"UserNotificationClient\.aconnect\(\) was never awaited"):
        UserNotificationClient.aconnect("ann", [].append, app=app)
    with pytest.raises(ConfigurationError):
        room.ajoin("")  # and no word of awaiting
    assert room.members() == []
