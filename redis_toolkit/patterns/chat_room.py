"""`ChatRoom`: everybody in a room hears what is said there; who comes later reads it.

Rules:

- What is said is published and kept in one step, so that a member misses nothing and gets nothing twice.
- Room messages are JSON, whatever codec the app has.
- Each call exists twice, to wait for and to await.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import wait
from datetime import timedelta
from typing import Any, TypeVar

from redis_toolkit._core import loops
from redis_toolkit._core.flow import Flow
from redis_toolkit._core.flows import rooms
from redis_toolkit._core.flows.rooms import Kept
from redis_toolkit.app import App
from redis_toolkit.errors import ConfigurationError
from redis_toolkit.jobs import seconds_of
from redis_toolkit.message import Gap
from redis_toolkit.misspelt import by_name
from redis_toolkit.patterns.joining import Entrance
from redis_toolkit.patterns.membership import PATIENCE, Joining, Membership
from redis_toolkit.patterns.own_server import on_own_server
from redis_toolkit.patterns.room_calls import MAX_HISTORY, RoomCalls
from redis_toolkit.patterns.room_views import Member, RoomInfo
from redis_toolkit.patterns.running import sibling
from redis_toolkit.patterns.user_name import checked_name, checked_user
from redis_toolkit.room_message import id_of, write_map
from redis_toolkit.settings import check_whole

__all__ = ["ChatRoom"]

T = TypeVar("T")


class ChatRoom:
    """A room of members who hear each other, with its history.

    Args:
        room_id: its name, any text of up to 1,000 characters.
        app: whose server is used; or
        url: the server; see `App`.
        history_count: how many messages are kept. Give all who use the room the same.
        history_age: seconds, or a timedelta, for which they are kept. None: until there are too many; then
            a room that nobody uses any more keeps its history for good.

    Raises:
        ConfigurationError: one of them cannot work.

    Example:
        ```python
        room = ChatRoom("lobby")
        with room.join("ann", lambda message: print(message["user"], message["text"])):
            room.send_message("ann", "hello")
        ```
    """

    @by_name
    def __init__(
        self,
        room_id: str,
        app: App | None = None,
        url: str | None = None,
        history_count: int = 10_000,
        history_age: float | timedelta | None = None,
    ) -> None:
        self.room_id = checked_name(room_id, "room")
        self._app = _app_of(app, url)
        check_whole("history_count", history_count, least=0)
        age_ms = 0 if history_age is None else max(int(seconds_of("history_age", history_age) * 1000), 1)
        self._kept = Kept(history_count, age_ms)
        self._max_payload = self._app.settings.max_payload
        self._calls = RoomCalls(self.room_id, self._kept, self._max_payload)
        self._counters = (self._app if app is None else app)._counters

    def __repr__(self) -> str:
        return f"ChatRoom({self.room_id!r})"

    # -- being there ------------------------------------------------------------------------------

    @by_name
    def join(
        self,
        user: str | int,
        on_message: Callable[..., Any] | None = None,
        *,
        history: int = 0,
        since: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        on_gap: Callable[[Gap], Any] | None = None,
    ) -> Membership:
        """Enter the room; returns once everything is heard that is said from now on.

        The others get a message of type ``join``, if the user was not there by another connection.

        Args:
            user: who, any text of up to 1,000 characters; or a whole number, which is its digits.
            on_message: called with each message, a dict; ``def`` (in a thread) or ``async def`` (on the
                running loop, or on one of its own), parameters as in `App.on`. None: iterate over what is
                returned.
            history: how many of the last messages to begin with, at most.
            since: the id of a message, to begin with all that was said after it; ``"0-0"`` for all there is.
            metadata: said of the user in `members`, as JSON.
            on_gap: called with a `Gap`, in the order of the messages, where the history does not go back far
                enough to tell what was missed.

        Returns:
            The membership; stop it to leave.

        Raises:
            ConfigurationError: a name, a callback or an option cannot work.
            EncodeError: the metadata cannot be written, or is too large.
            RedisToolkitError: the server cannot be reached or refuses.
        """
        loops.check_blocking("join")
        return self._entrance(user, on_message, history, since, metadata, on_gap).enter()

    @by_name
    def ajoin(
        self,
        user: str | int,
        on_message: Callable[..., Any] | None = None,
        *,
        history: int = 0,
        since: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        on_gap: Callable[[Gap], Any] | None = None,
    ) -> Joining:
        """Do what `join` does on an event loop: the same parameters, results and errors.

        Example:
            ```python
            membership = await room.ajoin("ann", on_message)  # until astop()

            async with room.ajoin("ann", history=50) as membership:
                async for message in membership: ...

            async for message in room.ajoin("ann"): ...  # leaves when the loop is left
            ```
        """
        entrance = self._entrance(user, on_message, history, since, metadata, on_gap)
        return Joining(entrance.aenter, "ChatRoom.ajoin()")

    def leave(self, user: str | int) -> None:
        """Stop all memberships that this process has for a user in this room."""
        loops.check_blocking("leave")
        wait(self._entered(user), timeout=PATIENCE)

    async def aleave(self, user: str | int) -> None:
        """Await what `leave` does."""
        ended = [asyncio.wrap_future(one) for one in self._entered(user)]
        if ended:
            await asyncio.wait(ended, timeout=PATIENCE)

    def members(self) -> list[Member]:
        """Return who is in the room, in all processes, by name.

        A member whose process has died is not among them after 10 seconds at most.
        """
        return self._run("members", self._calls.members())

    async def amembers(self) -> list[Member]:
        """Await what `members` does."""
        return await self._arun(self._calls.members())

    # -- saying -----------------------------------------------------------------------------------

    def send_message(self, user: str | int, text: Any, *, id: str | None = None, **extra: Any) -> str:
        """Say something to all members; one need not be one.

        Args:
            user: who says it.
            text: what; usually text, else what JSON has.
            id: an id of the sender's, printable, up to 200 characters, in the message as ``client_id``:
                another message of this user with it is not sent, for 24 hours. With it, a message whose
                outcome is unknown is sent again until the deadline.
            **extra: more fields of the message.

        Returns:
            The id of the message; of the first one, if it was sent before.

        Raises:
            EncodeError: it cannot be written as JSON, or is too large. Nothing was sent.
            StoreFull: the server has no memory for it. Nothing was sent.
            ServerUnreachable: no connection. Nothing was sent.
            OutcomeUnknown: the connection was cut while it was on its way.
        """
        return self._run("send_message", self._calls.send(user, text, id, extra))

    async def asend_message(self, user: str | int, text: Any, *, id: str | None = None, **extra: Any) -> str:
        """Await what `send_message` does: the same parameters, results and errors."""
        return await self._arun(self._calls.send(user, text, id, extra))

    def typing(self, user: str | int) -> None:
        """Say that a user is typing: a message of type ``typing``, which is not kept: its ``id`` is None."""
        self._run("typing", self._calls.typing(user))

    async def atyping(self, user: str | int) -> None:
        """Await what `typing` does."""
        await self._arun(self._calls.typing(user))

    @by_name
    def send_direct(self, user: str | int, to: str | int, text: Any, *, id: str | None = None) -> str:
        """Say something to one user of the room; only these two get it, by all their connections.

        Args:
            user: who says it.
            to: who gets it. Who is not there now finds it in `direct_history`.
            text: what.
            id: as in `send_message`.

        Returns:
            The id of the message.

        Raises:
            RedisToolkitError: as in `send_message`.
        """
        return self._run("send_direct", self._calls.send_direct(user, to, text, id))

    @by_name
    async def asend_direct(self, user: str | int, to: str | int, text: Any, *, id: str | None = None) -> str:
        """Await what `send_direct` does: the same parameters, results and errors."""
        return await self._arun(self._calls.send_direct(user, to, text, id))

    # -- what was said ----------------------------------------------------------------------------

    @by_name
    def history(
        self, limit: int = 50, *, before: str | None = None, after: str | None = None
    ) -> list[dict[str, Any]]:
        """Return messages that were said, the oldest first.

        Args:
            limit: how many at most.
            before: the id of a message: the last ones before it. None: the last ones.
            after: the id of a message: the first ones after it.
        """
        return self._run("history", self._calls.history(limit, before, after))

    @by_name
    async def ahistory(
        self, limit: int = 50, *, before: str | None = None, after: str | None = None
    ) -> list[dict[str, Any]]:
        """Await what `history` does."""
        return await self._arun(self._calls.history(limit, before, after))

    @by_name
    def direct_history(
        self, user: str | int, limit: int = 50, *, before: str | None = None, after: str | None = None
    ) -> list[dict[str, Any]]:
        """Return what a user was told directly, and told others; the parameters are those of `history`."""
        return self._run("direct_history", self._calls.direct_history(user, limit, before, after))

    @by_name
    async def adirect_history(
        self, user: str | int, limit: int = 50, *, before: str | None = None, after: str | None = None
    ) -> list[dict[str, Any]]:
        """Await what `direct_history` does."""
        return await self._arun(self._calls.direct_history(user, limit, before, after))

    # -- about rooms ------------------------------------------------------------------------------

    def metadata(self) -> dict[str, Any]:
        """Return what `set_metadata` has said about the room."""
        return self._run("metadata", self._calls.metadata())

    async def ametadata(self) -> dict[str, Any]:
        """Await what `metadata` does."""
        return await self._arun(self._calls.metadata())

    def set_metadata(self, **fields: Any) -> None:
        """Say something about the room, such as ``topic="tea"``; None takes a field back. It is kept."""
        self._run("set_metadata", self._calls.set_metadata(fields))

    async def aset_metadata(self, **fields: Any) -> None:
        """Await what `set_metadata` does."""
        await self._arun(self._calls.set_metadata(fields))

    @on_own_server
    @staticmethod
    def rooms(app: App | None = None, url: str | None = None) -> list[RoomInfo]:
        """Return the rooms that have members now, by name; ``room.rooms()`` those on the server of a room."""
        found = _app_of(app, url)._run("rooms", rooms.rooms())
        return [RoomInfo(name, count) for name, count in found]

    @on_own_server
    @staticmethod
    async def arooms(app: App | None = None, url: str | None = None) -> list[RoomInfo]:
        """Await what `rooms` does."""
        found = await _app_of(app, url)._async_driver.run(rooms.rooms())
        return [RoomInfo(name, count) for name, count in found]

    # -- how --------------------------------------------------------------------------------------

    def _run(self, name: str, flow: Flow[T]) -> T:
        return self._app._run(name, flow)

    async def _arun(self, flow: Flow[T]) -> T:
        return await self._app._async_driver.run(flow)

    def _entrance(
        self,
        user: str | int,
        on_message: Callable[..., Any] | None,
        history: int,
        since: str | None,
        metadata: Mapping[str, Any] | None,
        on_gap: Callable[[Gap], Any] | None,
    ) -> Entrance:
        check_whole("history", history, least=0)
        given: object = metadata
        if given is not None and not isinstance(given, Mapping):
            raise ConfigurationError(f"metadata={ascii(given)[:80]} must be a map of names and values")
        if since is not None and history:
            raise ConfigurationError("join with history= or since=, not both")
        return Entrance(
            self._app,
            self.room_id,
            self._kept,
            checked_user(user),
            self._counters,
            on_message,
            on_gap,
            history=min(history, MAX_HISTORY),
            since=None if since is None else id_of(since, "since"),
            metadata=write_map(metadata or {}, self._max_payload, "the metadata"),
        )

    def _entered(self, user: str | int) -> list[Any]:
        from redis_toolkit.worker.room_hub import exit_all, lanes_of

        return exit_all(lanes_of(self._app._connections, self.room_id, checked_user(user)))


def _app_of(app: App | None, url: str | None) -> App:
    if app is not None and url is not None:
        raise ConfigurationError("give a room app= or url=, not both")
    given: object = app
    if given is not None and not isinstance(given, App):
        raise ConfigurationError(f"app= is an App, not {ascii(given)[:80]}: for a server, write url=")
    return sibling(app, url)
