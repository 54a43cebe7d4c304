"""Calls that are given up at any moment: the next call gets its own answer, and nothing leaks."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from redis_toolkit import App
from tests.core.awaiting import awaiting, connections, named, nothing_waits
from tests.core.callers import serving
from tests.faults.troubles import seeded
from tests.kit.faults import Tier
from tests.kit.processes import Process
from tests.kit.servers import Server
from tests.kit.waiting import eventually

INTERRUPTED = """
import gc, os, random, signal, sys, threading, time
from redis_toolkit import App

url, seed, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chance, app = random.Random(seed), App(url)
armed, interrupted, wrong = threading.Semaphore(0), 0, 0

def unraisable(what):
    # Out of a finalizer, here one of redis-py, Python cannot raise: it reports the Ctrl-C and goes on.
    if what.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(what)
    swallowed.set()

swallowed = threading.Event()
sys.unraisablehook = unraisable

def interrupt():
    for number in range(rounds):
        armed.acquire()
        time.sleep(chance.choice([0, chance.uniform(0, 0.0005), chance.uniform(0, 0.003)]))
        os.kill(os.getpid(), signal.SIGINT)
        landed.release()

landed = threading.Semaphore(0)
threading.Thread(target=interrupt, daemon=True).start()
CALLS = [
    lambda n: app.request("echo", n, timeout=60) == n,
    lambda n: app.request_many("echo", [n, -n, 0], timeout=60) == [n, -n, 0],
    lambda n: app.publish("heard", n) == 1,
    lambda n: app.publish("unheard", n) == 0,
    lambda n: app.publish_many("heard", [n] * 3) == [1] * 3,
]
for call in CALLS:
    assert call(1)
fds = len(os.listdir("/proc/self/fd"))
for number in range(1, rounds + 1):
    try:
        armed.release()
        while not swallowed.is_set():
            wrong += not chance.choice(CALLS)(number)
    except KeyboardInterrupt:
        pass
    interrupted += 1
    swallowed.clear()
    landed.acquire()
    for call in CALLS:
        wrong += not call(number)
gc.collect()  # what a Ctrl-C broke off in a finalizer may be held by a traceback
print(interrupted, wrong, len(os.listdir("/proc/self/fd")) - fds, threading.active_count(), flush=True)
"""


@pytest.mark.fault(20, "events", "requests")
def test_ctrl_c_at_any_moment_of_a_call(own_server: Server, tmp_path: Path, tier: Tier) -> None:
    seed, rounds = seeded().randrange(2**32), tier(300, 10_000)
    with serving(own_server.url, echo=lambda data: data, heard=lambda data: data):
        arguments = (own_server.url, str(seed), str(rounds))
        with Process(directory=tmp_path, source=INTERRUPTED, args=arguments) as program:
            assert program.wait(240) == 0, program.output
            interrupted, wrong, opened, threads = map(int, program.stdout.split())
            assert program.stderr == ""
    assert interrupted == rounds
    assert wrong == 0
    assert opened <= 2  # in the pool
    assert threads <= 2


@pytest.mark.fault(20, "events")
@pytest.mark.parametrize("warm", [True, False])
def test_a_publish_that_is_cancelled_at_every_await(own_server: Server, warm: bool, tier: Tier) -> None:
    async def cancelled(app: App, turns: int) -> None:
        if warm:
            await app.ahealth_check()
        task = asyncio.create_task(app.apublish("heard", turns))
        bystander = asyncio.create_task(app.apublish_many("unheard", [turns] * 3))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            assert await task == 1
        assert await app.apublish("heard", turns) == 1
        assert await bystander == [0] * 3
        nothing_waits(app)

    heard: list[int] = []
    with serving(own_server.url, heard=heard.append):
        for turns in range(tier(16, 64)):
            awaiting(named(own_server.url), lambda app, turns=turns: cancelled(app, turns))  # type: ignore[misc]
            eventually(lambda turns=turns: turns in heard)  # type: ignore[misc]
            assert heard.count(turns) <= 2
        eventually(lambda: not connections(own_server), what="end of the connections")


@pytest.mark.fault(20, "events", "requests")
def test_calls_are_cancelled_at_random_among_others(own_server: Server, tier: Tier) -> None:
    chance = seeded()

    async def ask(app: App, name: int) -> None:
        for number in range(tier(40, 1000)):
            payload = [name, number]
            if number % 2:
                call = asyncio.create_task(app.arequest("echo", payload, timeout=60))
                right: object = payload
            else:
                call = asyncio.create_task(app.apublish(*chance.choice([("heard", 1), ("unheard", 0)])))
                right = None
            if chance.random() < 0.5:
                await asyncio.sleep(chance.choice([0, chance.uniform(0, 0.002)]))
                call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                answer = await call
                assert answer == payload if right is not None else answer in (0, 1)
            assert await app.apublish("unheard", 1) == 0

    async def main(app: App) -> None:
        await asyncio.gather(*(ask(app, name) for name in range(20)))
        assert await app.arequest("echo", "last", timeout=60) == "last"
        nothing_waits(app)

    with serving(own_server.url, echo=lambda data: data, heard=lambda data: data):
        awaiting(named(own_server.url), main)
        eventually(lambda: not connections(own_server), what="end of the connections")
