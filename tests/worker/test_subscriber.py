"""What all clients of a process hear over one connection, and who is told when that is cut."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from redis_toolkit import App
from redis_toolkit.worker import subscribers
from redis_toolkit.worker.subscriber import Subscriber
from redis_toolkit.worker.subscribers import enter, leave
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.fakes import no_threads_left


class Ear:
    """Notes what it is told."""

    def __init__(self, *channels: str) -> None:
        self.channels = tuple(name.encode() for name in channels)
        self.heard: list[object] = []

    def hear(self, channel: bytes, body: bytes) -> None:
        self.heard.append(body.decode())

    def cut(self, since: float, reason: str) -> None:
        self.heard.append("cut")

    def back(self) -> None:
        self.heard.append("back")


@pytest.fixture
def app(bus: Server) -> Iterator[App]:
    with no_threads_left("rt-"):
        app = App(bus.url, reconnect_cap=0.1)
        yield app
        app.stop()


def come(app: App, *channels: str) -> tuple[Subscriber, Ear]:
    ear = Ear(*channels)
    found, confirmed = enter(app._connections, app.settings, ear)
    confirmed.result(30)
    return found, ear


def test_it_begins_with_the_first_and_ends_with_the_last(app: App, bus: Server) -> None:
    one, first = come(app, "a", "b")
    other, second = come(app, "b", "c")
    assert one is other
    assert one.has(first)
    assert one.has(second)
    for channel in "abc":
        bus.execute("PUBLISH", channel, channel)
    leave(one, first)  # what was published before is heard
    assert first.heard == ["a", "b"]
    assert bus.execute("PUBLISH", "a", "late") == 0
    assert bus.execute("PUBLISH", "b", "late") == 1
    leave(one, second)
    assert second.heard == ["b", "c", "late"]
    assert one.ended
    assert not subscribers._subscribers
    again, third = come(app, "a")
    assert again is not one
    leave(again, third)


def test_who_comes_back_while_a_channel_is_left_hears_it(app: App, bus: Server) -> None:
    found, stays = come(app, "other")
    for _ in range(50):
        _, ear = come(app, "a")
        assert bus.execute("PUBLISH", "a", "x") == 1
        found.drain(ear)
        _, next_ear = come(app, "a")
        leave(found, ear)
        assert bus.execute("PUBLISH", "a", "y") == 1
        leave(found, next_ear)
        assert (ear.heard[0], next_ear.heard) == ("x", ["y"])
    leave(found, stays)


@pytest.mark.fault(14, "chat")
def test_everybody_is_told_of_a_cut_before_what_comes_after_it(app: App, bus: Server) -> None:
    found, first = come(app, "a")
    _, second = come(app, "b")
    bus.execute("CLIENT", "KILL", "TYPE", "pubsub")
    eventually(lambda: "back" in first.heard and "back" in second.heard)
    assert found.has(first)
    bus.execute("PUBLISH", "a", "x")
    leave(found, first)
    leave(found, second)
    assert [one for one in first.heard if one != "cut"] == ["back", "x"]
    assert first.heard[0] == second.heard[0] == "cut"


def test_who_comes_during_a_cut_waits_for_its_end(app: App, own_server: Server) -> None:
    app = App(own_server.url, reconnect_cap=0.1)
    found, first = come(app, "a")
    own_server.kill()
    eventually(lambda: not found.has(first))
    late = Ear("late")
    same, confirmed = enter(app._connections, app.settings, late)
    assert same is found
    assert not confirmed.done()
    own_server.start()
    confirmed.result(30)
    own_server.execute("PUBLISH", "late", "x")
    leave(found, late)
    leave(found, first)
    assert late.heard[-1] == "x"
    app.stop()
