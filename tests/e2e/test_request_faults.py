"""FAULTS.md for requests: one outcome for each call, never another call's reply, never run twice unasked."""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from redis_toolkit import App, NoResponders, OutcomeUnknown, RequestTimeout, ServerUnreachable
from tests.e2e.conftest import MakeApp, check_keys
from tests.kit.proxy import Cut, Direction, Proxy
from tests.kit.servers import Server
from tests.kit.waiting import eventually

DIRECTIONS: tuple[Direction, ...] = ("up", "down")
POP = b"$5\r\nBLPOP\r\n"
"""The command itself: the text of the script that goes before it names it too."""


class Serving:
    """An app that answers, directly on the server, and keeps account of what it ran."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.ran: Counter[Any] = Counter()
        self.entered, self.go_on = threading.Event(), threading.Event()
        app.on("echo")(self.echo)
        app.on("slow")(self.slow)

    def echo(self, data: Any) -> Any:
        self.ran[data] += 1
        return {"echo": data}

    def slow(self, data: Any) -> Any:
        self.entered.set()
        self.go_on.wait(30)
        return self.echo(data)


@pytest.fixture
def serving(own_server: Server, make_app: MakeApp, quickly: dict[str, Any]) -> Iterator[Serving]:
    serving = Serving(make_app(own_server.url, **quickly))
    with serving.app:
        yield serving
        serving.go_on.set()
    check_keys(own_server)


@pytest.fixture
def caller(proxy: Proxy, make_app: MakeApp, quickly: dict[str, Any]) -> App:
    """An app that asks, through the network."""
    return make_app(proxy.url, **quickly)


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.fault(16, "requests")
def test_a_cut_while_waiting_is_an_unknown_outcome(
    proxy: Proxy, serving: Serving, caller: App, how: str
) -> None:
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(caller.request, "slow", "cut", timeout=60)
        assert serving.entered.wait(30)
        proxy.fin() if how == "fin" else proxy.rst()
        with pytest.raises(OutcomeUnknown):
            call.result(30)
        serving.go_on.set()
    for number in range(20):
        assert caller.request("echo", number) == {"echo": number}
    eventually(lambda: serving.ran["cut"] == 1)


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("offset", [0, 1, 3, 4, 5, 30, 60, 61, 62, 80])
@pytest.mark.fault(16, "requests")
@pytest.mark.fault(19, "requests")
def test_a_cut_in_the_middle_of_a_reply_is_an_unknown_outcome(
    proxy: Proxy, serving: Serving, caller: App, how: Any, offset: int
) -> None:
    assert caller.request("echo", "warm") == {"echo": "warm"}
    proxy.cut_after(offset, "down", how)
    with pytest.raises(OutcomeUnknown):
        caller.request("echo", "x" * 50, timeout=60)
    for number in range(5):
        assert caller.request("echo", number) == {"echo": number}
    eventually(lambda: serving.ran["x" * 50] == 1)
    assert set(serving.ran.values()) == {1}


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.fault(18, "requests")
def test_executed_and_the_reply_dropped(proxy: Proxy, serving: Serving, caller: App, how: Any) -> None:
    caller.request("echo", "warm")
    for number in range(10):
        dropped = proxy.drop_reply(POP if number % 2 else b"EVAL", how=how)
        with pytest.raises(OutcomeUnknown):
            caller.request("echo", number, timeout=60)
        assert dropped.hits == 1
        assert caller.request("echo", -1 - number) == {"echo": -1 - number}
    eventually(lambda: len(serving.ran) == 21)
    assert set(serving.ran.values()) == {1}


@pytest.mark.fault(18, "requests")
def test_a_dropped_reply_is_asked_for_again_only_with_retries(
    proxy: Proxy, serving: Serving, caller: App
) -> None:
    caller.request("echo", "warm")
    proxy.drop_reply(POP)
    assert caller.request("echo", "twice", timeout=30, retries=3) == {"echo": "twice"}
    assert serving.ran["twice"] == 2


@pytest.mark.fault(16, "requests")
def test_many_requests_on_a_connection_that_is_cut(proxy: Proxy, serving: Serving, caller: App) -> None:
    caller.request("echo", "warm")
    proxy.cut_after(3000, "down", "rst")
    answers = caller.request_many("echo", range(500), window=50, timeout=60, return_exceptions=True)
    unknown = [answer for answer in answers if isinstance(answer, OutcomeUnknown)]
    assert 0 < len(unknown) <= 50
    for number, answer in enumerate(answers):
        assert isinstance(answer, OutcomeUnknown) or answer == {"echo": number}
    eventually(lambda: max(serving.ran.values()) == 1)


@pytest.mark.fault(17, "requests")
def test_a_dead_network_is_a_timeout_at_the_deadline(proxy: Proxy, serving: Serving, caller: App) -> None:
    caller.request("echo", "warm")
    proxy.blackhole("down")
    with pytest.raises(RequestTimeout):
        caller.request("echo", "lost", timeout=0.5)
    with pytest.raises((RequestTimeout, ServerUnreachable)):
        caller.request("echo", "not sent", timeout=0.5)  # it cannot even connect
    answers = caller.request_many("echo", [1, 2], timeout=0.5, return_exceptions=True)
    assert all(isinstance(answer, (RequestTimeout, ServerUnreachable)) for answer in answers)
    proxy.heal()
    assert caller.request("echo", "healed", timeout=30) == {"echo": "healed"}


@pytest.mark.fault(11, "requests")
def test_a_request_waits_for_a_server_that_comes_back(
    own_server: Server, serving: Serving, caller: App
) -> None:
    caller.request("echo", "warm")
    own_server.kill()
    with pytest.raises(ServerUnreachable):
        caller.request("echo", "down", timeout=0.5)
    own_server.start()

    def answered() -> bool:
        try:
            return bool(caller.request("echo", "up", timeout=30) == {"echo": "up"})
        except NoResponders:
            return False  # the worker has not come back yet

    eventually(answered)
    assert caller.request_many("echo", range(100), timeout=30) == [{"echo": n} for n in range(100)]
    assert "down" not in serving.ran


@pytest.mark.fault(11, "requests")
def test_a_worker_serves_again_after_kill_and_restart(
    own_server: Server, serving: Serving, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "redis_toolkit")
    caller = make_app(own_server.url)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(caller.request, "slow", "cut", timeout=60)
        assert serving.entered.wait(30)
        own_server.restart()
        with pytest.raises(OutcomeUnknown):
            call.result(30)
        serving.go_on.set()

        def answered() -> bool:
            try:
                return bool(caller.request("echo", "again", timeout=30) == {"echo": "again"})
            except (NoResponders, OutcomeUnknown):
                return False

        eventually(answered)
        assert caller.request("slow", "after", timeout=30) == {"echo": "after"}
    assert serving.ran["cut"] == serving.ran["after"] == 1


@pytest.mark.parametrize("behind", ["caller", "worker", "both"])
@pytest.mark.fault(16, "requests")
@pytest.mark.fault(18, "requests")
@pytest.mark.fault(19, "requests")
def test_random_cuts_never_mix_answers_up(
    own_server: Server,
    proxy: Proxy,
    make_app: MakeApp,
    quickly: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    behind: str,
) -> None:
    caplog.set_level(logging.CRITICAL, "redis_toolkit")
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    chance = random.Random(seed)
    serving = Serving(make_app(own_server.url if behind == "caller" else proxy.url, **quickly))
    caller = make_app(own_server.url if behind == "worker" else proxy.url, **quickly)
    outcomes: Counter[str] = Counter()
    lock = threading.Lock()
    enough = threading.Event()

    def ask(name: int) -> None:
        number = 0
        while not enough.is_set():
            questions = [f"{name}.{number}.{place}" * (1 + place) for place in range(4)]
            number += 1
            try:
                answers = [caller.request("echo", questions[0], timeout=1)]
            except (OutcomeUnknown, RequestTimeout, ServerUnreachable) as error:
                answers = [error]
            answers += caller.request_many("echo", questions[1:], timeout=1, return_exceptions=True)
            for question, answer in zip(questions, answers, strict=True):
                if not isinstance(answer, (OutcomeUnknown, RequestTimeout, ServerUnreachable)):
                    assert answer == {"echo": question}
                with lock:
                    outcomes[type(answer).__name__] += 1

    def answered_since(before: int) -> None:
        eventually(lambda: outcomes["dict"] >= before + 10)

    with serving.app:
        with ThreadPoolExecutor(6) as pool:
            askers = [pool.submit(ask, name) for name in range(6)]
            try:
                for _ in range(40):
                    fault(proxy, chance)
                    answered_since(outcomes["dict"])
            finally:
                enough.set()
            for asker in askers:
                asker.result(60)
        proxy.clear()
    assert max(serving.ran.values()) == 1
    check_keys(own_server)


def fault(proxy: Proxy, chance: random.Random) -> None:
    how: Cut = chance.choice(("fin", "rst"))
    which = chance.randrange(4)
    if which == 0:
        proxy.fin() if how == "fin" else proxy.rst()
    elif which == 1:
        proxy.cut_after(chance.randrange(600), chance.choice(DIRECTIONS), how)
    elif which == 2:
        proxy.drop_reply(chance.choice([POP, b"EVAL", b"RPUSH"]), how=how)
    else:
        proxy.slice(chance.choice([0, 1, 7]))
