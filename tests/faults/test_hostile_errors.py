"""Exceptions whose own code raises, from handlers of every kind: each is a failure, and nothing else.

Rules: no worker ends, nothing is lost or run for ever, and the next message is handled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from redis_toolkit import App, Reject, RemoteError, Retry
from redis_toolkit.errors import PayloadMismatch
from redis_toolkit.patterns import TaskQueue
from tests.kit.servers import Server
from tests.kit.waiting import eventually


def bad(*_: Any, **__: Any) -> Any:
    raise SystemExit("from inside an exception")


class Metaclass(type):
    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError(name)

    def __hash__(cls) -> int:
        raise RuntimeError("hash")

    __eq__ = __instancecheck__ = __subclasscheck__ = __repr__ = bad


class OfItsMetaclass(Exception, metaclass=Metaclass):
    """Its class tells nothing."""


class Unhashable(type):
    __hash__ = bad


class OfAnUnhashableClass(Exception, metaclass=Unhashable):
    """Its class is no key."""


class Lying(Exception):
    """It has all classes."""

    __class__ = property(bad)


class Pretending(Exception):
    """It says that it is another one."""

    pretended: type = Retry
    __class__ = property(lambda self: self.pretended)


class PretendingRemote(Pretending):
    pretended = RemoteError


class PretendingMismatch(Pretending):
    pretended = PayloadMismatch


class PretendingCancelled(Pretending):
    pretended = asyncio.CancelledError


class PretendingExit(Pretending):
    pretended = GeneratorExit


class Mute(Exception):
    __str__ = __repr__ = __format__ = __reduce__ = bad
    __hash__ = __eq__ = bad


class Closed(BaseException):
    __getattribute__ = bad


class Text(str):
    encode = isascii = isprintable = __str__ = __len__ = __getitem__ = bad


class OfTexts(Exception):
    def __str__(self) -> str:
        return Text("text")


class Noted(Exception):
    __notes__ = property(bad)
    __cause__ = property(bad)
    __traceback__ = property(bad)


class Unmade(Retry):
    def __init__(self) -> None:
        """Without what it should have."""


class Timeless(Retry):
    def __init__(self) -> None:
        self.delay = Text("soon")  # type: ignore[assignment]


class Causeless(Reject):
    reason = property(bad)

    def __init__(self) -> None:
        """Without a reason."""


Nameless = type("a\nb", (Exception,), {})
KINDS: dict[str, Callable[[], BaseException]] = {
    "metaclass": OfItsMetaclass, "unhashable": OfAnUnhashableClass, "class": Lying, "retry": Pretending,
    "remote": PretendingRemote, "mismatch": PretendingMismatch, "cancelled": PretendingCancelled,
    "exit": PretendingExit, "mute": Mute, "closed": Closed, "text": OfTexts, "notes": Noted, "unmade": Unmade,
    "timeless": Timeless, "reject": Causeless, "name": Nameless, "stop": StopIteration,
}  # fmt: skip
NAMES = [f"{name} of a {way}" for name in KINDS for way in ("raise", "cause", "group")]


def throw(name: str) -> None:
    kind, _, way = name.partition(" of a ")
    error = KINDS[kind]()
    if way == "cause":
        raise ValueError(kind) from error
    if way == "group":
        raise BaseExceptionGroup(kind, [error])
    raise error


class Served:
    """An app with handlers of all kinds on one engine, which throw what they are asked to."""

    def __init__(self, app: App, engine: str) -> None:
        self.app = app
        self.handled: list[tuple[str, str]] = []
        self.queue = TaskQueue("jobs", app=app)
        kinds: dict[str, Callable[[Any], Any]] = {
            "event": app.on("live", requests=False),
            "request": app.on("asked", events=False),
            "group": app.on("kept", group="g", retries={ValueError: 1}, backoff=0),
            "task": self.queue.task(name="task", retries={ValueError: 1}, backoff=0, timeout=60),
        }
        for what, register in kinds.items():
            register(self.handler(what) if engine == "threads" else self.coroutine(what))

    def handler(self, what: str) -> Callable[[str], str]:
        def handle(data: str) -> str:
            self.handled.append((what, data))
            if data != "fine":
                throw(data)
            return data

        return handle

    def coroutine(self, what: str) -> Any:
        handle = self.handler(what)

        async def handle_async(data: str) -> str:
            await asyncio.sleep(0)
            return handle(data)

        return handle_async

    def wait_for(self, what: str, number: int) -> None:
        eventually(lambda: self.handled.count((what, "fine")) == number, what=f"{what} {number}")


@pytest.fixture(params=["threads", "loop"])
def served(request: pytest.FixtureRequest, bus: Server) -> Iterator[Served]:
    app = App(bus.url, send_tracebacks=True)
    served = Served(app, request.param)
    with app:
        yield served


def test_they_are_failures_and_no_more(served: Served) -> None:
    app, queue = served.app, served.queue
    for number, name in enumerate(NAMES, 1):
        handles = [queue.submit("task", one) for one in (name, "fine")]
        for one in (name, "fine"):
            app.publish("kept", one)
            app.publish("live", one)
        with pytest.raises(RemoteError):
            app.request("asked", name, timeout=30)
        assert app.request("asked", "fine", timeout=30) == "fine"
        with pytest.raises(RemoteError):
            handles[0].result(timeout=30)
        assert handles[1].result(timeout=30) == "fine"
        for what in ("group", "event"):
            served.wait_for(what, number)
    eventually(lambda: queue.stats().pending == 0)
    assert queue.stats().dead == len(NAMES)
    eventually(lambda: app.groups("kept")[0].dead == len(NAMES))
