"""The timer: chores at their time, whoever asks, and again after failures."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from redis_toolkit._core.connection import Connections
from redis_toolkit._core.flow import Call, Flow
from redis_toolkit._core.sync_driver import LinkDriver
from redis_toolkit.settings import Settings
from redis_toolkit.worker.timer import Chore, Timer
from tests.kit.ports import HOST, free_port
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.fakes import no_threads_left
from tests.worker.holding import running


@pytest.fixture(autouse=True)
def all_threads_end() -> Iterator[None]:
    with no_threads_left("rt-timer"):
        yield


class Noted(Chore):
    """Notes when it ran."""

    def __init__(
        self, again: float | None = None, what: Callable[[LinkDriver], object] | None = None
    ) -> None:
        super().__init__("the chore")
        self.ran: list[float] = []
        self.again = again
        self.what = what

    def run(self, driver: LinkDriver) -> float | None:
        self.ran.append(time.monotonic())
        if self.what is not None:
            self.what(driver)
        return self.again


def ping() -> Flow[bytes]:
    [reply] = yield Call((("ECHO", "here"),))
    said: bytes = reply
    return said


def timer(url: str, *chores: Chore) -> Timer:
    return Timer(chores, Connections(url), Settings(reconnect_cap=0.05, command_timeout=5))


NOWHERE = f"redis://{HOST}:1"


def test_a_chore_runs_when_it_is_asked_for_and_not_before() -> None:
    chore, other = Noted(), Noted()
    with running(timer(NOWHERE, chore, other)):
        at = time.monotonic() + 0.05
        chore.ask(at)
        eventually(lambda: chore.ran)
        assert chore.ran[0] >= at
        chore.ask(0)
        eventually(lambda: len(chore.ran) == 2)
    assert other.ran == []


def test_asking_for_later_does_not_put_it_off() -> None:
    chore = Noted()
    with running(timer(NOWHERE, chore)):
        chore.ask(time.monotonic() + 0.05)
        chore.ask(time.monotonic() + 1000)
        eventually(lambda: chore.ran)


def test_asking_for_earlier_wakes_it() -> None:
    chore = Noted()
    with running(timer(NOWHERE, chore)):
        chore.ask(time.monotonic() + 1000)
        chore.ask(time.monotonic() + 0.01)
        eventually(lambda: chore.ran)
        assert len(chore.ran) == 1


def test_what_was_asked_for_before_it_started_is_done() -> None:
    chore = Noted()
    asked = timer(NOWHERE, chore)
    chore.ask(0)
    with running(asked):
        eventually(lambda: chore.ran)


def test_a_chore_says_when_it_is_due_again() -> None:
    chore = Noted(again=0.01)
    with running(timer(NOWHERE, chore)):
        chore.ask(0)
        eventually(lambda: len(chore.ran) > 3)


def test_what_is_asked_for_while_it_runs_is_done_afterwards() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(_driver: LinkDriver) -> None:
        begun.set()
        assert go_on.wait(30)

    chore = Noted(what=wait)
    with running(timer(NOWHERE, chore)):
        chore.ask(0)
        assert begun.wait(30)
        chore.ask(0)
        go_on.set()
        eventually(lambda: len(chore.ran) == 2)


def test_after_a_failure_it_is_tried_again(own_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    said: list[bytes] = []
    chore = Noted(again=0.01, what=lambda driver: said.append(driver.run(ping())))
    with running(timer(own_server.url, chore)):
        chore.ask(0)
        eventually(lambda: said)
        own_server.kill()
        eventually(lambda: "the chore failed, trying again" in caplog.text)
        tried, before = len(chore.ran), len(said)
        eventually(lambda: len(chore.ran) > tried + 3)
        own_server.start()
        eventually(lambda: len(said) > before)
    assert "the chore works again" in caplog.text


def test_a_chore_that_is_refused_keeps_nothing_from_the_others(bus: Server) -> None:
    bus.execute("SET", "text", "x")

    def refused(driver: LinkDriver) -> None:
        driver.run(wrong())

    def wrong() -> Flow[None]:
        yield Call((("LPUSH", "text", "x"),))

    bad, good = Noted(what=refused), Noted(again=0.001)
    with running(timer(bus.url, bad, good)):
        bad.ask(0)
        good.ask(0)
        eventually(lambda: bad.ran)
        done = len(good.ran)
        eventually(lambda: len(good.ran) > done + 20)
        assert len(bad.ran) <= 2  # once a second at most


def test_it_stops_while_it_sleeps_and_without_a_server() -> None:
    chore = Noted(what=lambda driver: driver.run(ping()))
    asked = timer(f"redis://{HOST}:{free_port()}", chore)
    with running(asked):
        chore.ask(0)
        eventually(lambda: chore.ran)
    timer(NOWHERE).stop()


@pytest.mark.fault(29, "durable", "tasks")
def test_it_goes_on_after_an_answer_that_cannot_be_understood(
    bus: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("redis_toolkit.worker.timer.REFUSED_SECONDS", 0.01)

    def misunderstand(_driver: LinkDriver) -> None:
        if len(chore.ran) == 1:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "garbage")

    chore, other = Noted(what=misunderstand), Noted(again=0.01)
    with running(timer(bus.url, chore, other)):
        chore.ask(0.0)
        other.ask(0.0)
        eventually(lambda: len(chore.ran) == 2 and len(other.ran) > 2, what="another try")
    assert "goes on after an error" in caplog.text
