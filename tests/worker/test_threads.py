"""The thread engine on a real server: who claims, who waits for whom, and how it stops."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from redis_toolkit import App, keys
from tests.kit.ports import HOST
from tests.kit.proxy import Proxy
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.crews import ThreadGate
from tests.worker.gates import Make

DEADLINE = 30.0


@pytest.fixture
def gate() -> Iterator[ThreadGate]:
    gate = ThreadGate()
    yield gate
    gate.event.set()


def push(server: Server, channel: str, *payloads: Any) -> None:
    """Send requests in one command, so that they are one backlog; replies are at `replied`."""
    items = [
        b"0 "
        + json.dumps({"id": str(data), "reply_to": keys.reply(channel, str(data)), "data": data}).encode()
        for data in payloads
    ]
    server.execute("RPUSH", keys.requests(channel), *items)


def replied(server: Server, channel: str, payloads: range) -> list[int]:
    """Return which of the payloads that were pushed have a reply."""
    return [data for data in payloads if server.execute("EXISTS", keys.reply(channel, str(data)))]


def test_as_many_handlers_run_at_once_as_there_are_threads(
    make: Make, client: App, pool: ThreadPoolExecutor
) -> None:
    app = make(concurrency=4)
    together = threading.Barrier(4)
    running: list[int] = []
    most: list[int] = []

    @app.on("meet")
    def meet() -> None:
        running.append(1)
        most.append(len(running))
        together.wait(DEADLINE)
        running.pop()

    app.start()
    for future in [pool.submit(client.request, "meet", timeout=60) for _ in range(12)]:
        future.result(DEADLINE)
    assert max(most) <= 4 + 3  # those that leave the barrier may still be counted


def test_a_handler_with_its_own_concurrency_holds_nobody_back(
    make: Make, client: App, pool: ThreadPoolExecutor, gate: ThreadGate
) -> None:
    app = make(concurrency=1)
    app.on("slow", concurrency=1)(gate.wait)
    app.on("fast")(lambda: "fast")
    app.start()
    asked = pool.submit(client.request, "slow", timeout=60)
    gate.wait_entered()
    assert client.request("fast", timeout=60) == "fast"
    gate.event.set()
    assert asked.result(DEADLINE) is None


def train(client: App, channel: str) -> None:
    """Let the engine learn that a handler is quick."""
    client.request_many(channel, [-1] * 200, timeout=60)


@pytest.mark.parametrize("stuck", [{0}, {10}, {39}, {3, 7, 20}], ids=str)
def test_quick_handlers_that_get_stuck_hold_back_nothing_of_their_batch(
    make: Make, client: App, bus: Server, gate: ThreadGate, stuck: set[int]
) -> None:
    app = make(concurrency=len(stuck) + 1)

    @app.on("quick")
    def quick(number: int) -> int:
        if number in stuck:
            gate.wait()
        return number

    app.start()
    train(client, "quick")
    payloads = range(40)
    push(bus, "quick", *payloads)
    gate.wait_entered(len(stuck))
    others = [number for number in payloads if number not in stuck]
    eventually(lambda: replied(bus, "quick", payloads) == others, what="the replies of all others")
    assert client.request("quick", -2, timeout=60) == -2
    gate.event.set()
    eventually(lambda: replied(bus, "quick", payloads) == list(payloads), what="the replies of the stuck")
    assert {bus.execute("LLEN", keys.reply("quick", str(number))) for number in payloads} == {1}


def test_of_many_lists_none_starves(make: Make, bus: Server) -> None:
    app = make(concurrency=1)
    order: list[str] = []
    for number in range(20):

        @app.on(f"list {number}")
        def note(data: Any, channel: str) -> None:
            order.append(channel)

    push(bus, "list 0", *range(3000))
    for number in range(1, 20):
        push(bus, f"list {number}", 0)
    app.start()
    eventually(lambda: len(order) == 3019, what="all requests")
    assert {order.index(f"list {number}") for number in range(1, 20)} <= set(range(2500))


def test_stop_ends_a_blocking_claim_at_once(make: Make, client: App) -> None:
    app = make()
    app.on("add")(lambda a, b: a + b)
    app.on("own", concurrency=1)(lambda: None)
    for _ in range(3):
        app.start()
        assert client.request("add", a=1, b=2) == 3
        started = time.monotonic()
        app.stop()
        assert time.monotonic() - started < 100  # a claim blocks for 300 s


def test_stop_answers_what_waits_in_the_list(
    make: Make, bus: Server, pool: ThreadPoolExecutor, gate: ThreadGate
) -> None:
    app = make(concurrency=1)

    @app.on("slow")
    def slow(number: int) -> int:
        if number == 0:
            gate.wait()
        return number

    app.start()
    push(bus, "slow", *range(30))
    gate.wait_entered()
    stopping = pool.submit(app.stop)
    eventually(lambda: bus.execute("EXISTS", keys.servers("slow")) == 0, what="end of the registration")
    gate.event.set()
    stopping.result(DEADLINE)
    assert replied(bus, "slow", range(30)) == list(range(30))


def test_stop_gives_a_stuck_handler_the_grace_and_its_reply_still_arrives(
    make: Make, client: App, pool: ThreadPoolExecutor, gate: ThreadGate
) -> None:
    app = make(grace=0.1)
    app.on("slow")(gate.wait)
    app.start()
    asked = pool.submit(client.request, "slow", timeout=60)
    gate.wait_entered()
    app.stop()
    assert not asked.done()
    gate.event.set()
    assert asked.result(DEADLINE) is None


def test_a_handler_may_ask_another_one(make: Make, client: App) -> None:
    app = make(concurrency=2)
    app.on("inner")(lambda: "inner")
    app.on("outer")(lambda: app.request("inner", timeout=60) + "!")
    app.start()
    assert client.request("outer", timeout=60) == "inner!"


def test_after_lost_connections_it_claims_again(make: Make, bus: Server, client: App) -> None:
    with Proxy(HOST, bus.port) as proxy:
        app = make(url=proxy.url, reconnect_cap=0.1)
        app.on("add")(lambda a, b: a + b)
        app.start()
        for _ in range(3):
            assert client.request("add", a=1, b=2, timeout=20, retries=2) == 3
            proxy.rst()
        assert client.request("add", a=1, b=2, timeout=20, retries=2) == 3
        app.stop()


def test_a_reply_whose_connection_is_lost_is_sent_again(
    make: Make, bus: Server, client: App, pool: ThreadPoolExecutor, gate: ThreadGate
) -> None:
    with Proxy(HOST, bus.port) as proxy:
        app = make(url=proxy.url, reconnect_cap=0.1)
        app.on("slow")(gate.wait)
        app.start()
        asked = pool.submit(client.request, "slow", timeout=60)
        gate.wait_entered()
        proxy.rst()
        gate.event.set()
        assert asked.result(DEADLINE) is None
        app.stop()


def test_a_reply_that_the_server_refuses_is_counted_and_others_arrive(
    make: Make, bus: Server, client: App
) -> None:
    app = make()
    app.on("add")(lambda number: number)
    app.start()
    bus.execute("SET", keys.reply("add", "5"), "no list")
    push(bus, "add", 5, 6)
    eventually(lambda: bus.execute("TYPE", keys.reply("add", "6")) == "list", what="the other reply")
    eventually(lambda: app.counters == {"undelivered": 1}, what="the count")
    assert client.request("add", 7, timeout=60) == 7
