"""Members of rooms for tests, in every style: callbacks of both kinds, calls made or awaited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis_toolkit import App, Gap
from redis_toolkit.patterns import ChatRoom, Membership
from tests.e2e.styles import BASE, Background, Style
from tests.kit.waiting import eventually

Messages = list[dict[str, Any]]


def texts(messages: Messages) -> list[Any]:
    """What was said, without joins and leaves."""
    return [message["text"] for message in messages if message["type"] == "message"]


def events(messages: Messages) -> list[tuple[Any, ...]]:
    """Joins and leaves: type, user, and the reason if there is one."""
    kinds = [message for message in messages if message["type"] in ("join", "leave")]
    return [tuple(one[name] for name in ("type", "user", "reason") if name in one) for one in kinds]


class Seat:
    """A member, and what it has heard."""

    def __init__(self, background: Background | None) -> None:
        self.got: Messages = []
        self.gaps: list[Gap] = []
        self.before: Callable[[dict[str, Any]], object] = lambda _message: None
        self._background = background
        self.membership: Membership

    def hear(self, message: dict[str, Any]) -> None:
        self.before(message)
        self.got.append(message)

    async def hear_async(self, message: dict[str, Any]) -> None:
        self.hear(message)

    def stop(self) -> None:
        if self._background is None:
            self.membership.stop()
        else:
            self._background.run(self.membership.astop())

    def hears(self, *said: Any) -> None:
        """Exactly this is heard, in this order."""
        eventually(lambda: len(texts(self.got)) >= len(said), what=f"{said} in {self.got}")
        assert texts(self.got) == list(said)

    def sees(self, *happened: tuple[Any, ...]) -> None:
        """Exactly these joins and leaves are heard, in this order."""
        eventually(lambda: len(events(self.got)) >= len(happened), what=f"{happened} in {self.got}")
        assert events(self.got) == list(happened)


class Seats:
    """One room in a style: makes members, and calls."""

    def __init__(
        self,
        app: App,
        name: str = "lobby",
        style: Style = BASE,
        background: Background | None = None,
        **kept: Any,
    ) -> None:
        self.room = ChatRoom(name, app=app, **kept)
        self._style = style
        self._users: set[str] = set()
        self._background = background if style.calls == "awaited" else None

    def join(self, user: str, **options: Any) -> Seat:
        seat = Seat(self._background)
        self._users.add(user)
        hear = seat.hear_async if self._style.handlers == "async def" else seat.hear
        options.setdefault("on_gap", seat.gaps.append)
        if self._background is None:
            seat.membership = self.room.join(user, hear, **options)
        else:

            async def join() -> Membership:
                return await self.room.ajoin(user, hear, **options)

            seat.membership = self._background.run(join())
        return seat

    def leave_all(self) -> None:
        for user in self._users:
            self.room.leave(user)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if self._background is None:
            call: Callable[..., Any] = getattr(self.room, name)
            return call
        background, awaited = self._background, getattr(self.room, "a" + name)
        return lambda *args, **kwargs: background.run(awaited(*args, **kwargs))
