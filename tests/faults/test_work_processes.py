"""Workers of durable work that are killed, stopped, busy, hung, or have a wrong clock: real processes.

Rules: every program serves a group and two queues, with ``def`` and ``async def`` handlers, and writes each
start into the history: who, what, the attempt and the delivery.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from redis_toolkit import App, DeadLetter
from redis_toolkit.patterns import TaskQueue
from tests.kit.faults import Tier
from tests.kit.history import Entry
from tests.kit.processes import Process
from tests.kit.waiting import eventually
from tests.worker.programs import Programs

WAYS = ("group threads", "group coroutines", "queue threads", "queue coroutines")
SERVING = """
import asyncio
from redis_toolkit import current_task
from redis_toolkit.patterns import TaskQueue

LEASE = {lease}

def note(event, by, data, about):
    history.write(event, by=by, data=data, deliveries=about.deliveries, attempt=about.attempt)

def act(by, data, about):
    note("started", by, data, about)
    {act}
    note("ended", by, data, about)

async def act_later(by, data, about):
    note("started", by, data, about)
    {act_later}
    note("ended", by, data, about)

@app.on("orders", group="threads", lease=LEASE, **OPTIONS)
def threads(message: Message):
    act("group threads", message.data, message)

@app.on("orders", group="coroutines", lease=LEASE, **OPTIONS)
async def coroutines(message: Message):
    await act_later("group coroutines", message.data, message)

queue, more = TaskQueue("threads", app=app, lease=LEASE), TaskQueue("coroutines", app=app, lease=LEASE)

@queue.task(name="work", **OPTIONS)
def work(data):
    act("queue threads", data, current_task())

@more.task(name="work", **OPTIONS)
async def work_later(data):
    await act_later("queue coroutines", data, current_task())

app.run(workers={workers})
"""
FIRST = "about.deliveries == 1 and about.attempt == 1"


class Sent:
    """What is sent to the programs, and what became of it."""

    def __init__(self, programs: Programs, client: App) -> None:
        self.programs, self.client = programs, client
        self.queues = [TaskQueue(name, app=client) for name in ("threads", "coroutines")]
        self.handles: list[Any] = []

    def serve(
        self,
        act: str,
        act_later: str,
        *,
        lease: float = 1.0,
        workers: int = 1,
        options: str = "{}",
        before: str = "",
        **how: Any,
    ) -> Process:
        source = SERVING.format(act=act, act_later=act_later, lease=lease, workers=workers)
        return self.programs.start(f"OPTIONS = {options}\n", before, source, **how)

    def send(self, *data: Any, **options: Any) -> None:
        eventually(lambda: len(self.client.groups("orders")) == 2, what="the groups")
        for one in data:
            self.client.publish("orders", one)
            self.handles += [queue.submit("work", one, **options) for queue in self.queues]

    def wait(self, event: str, predicate: Callable[[list[Entry]], object], **how: Any) -> list[Entry]:
        return self.programs.history.wait_for(predicate, event=event, timeout=60, **how)

    def everywhere(self, event: str, data: Any, times: int = 1) -> list[Entry]:
        """Wait until something happened to `data` in each way, so often; return all that did."""

        def enough(entries: list[Entry]) -> bool:
            seen = Counter(entry["by"] for entry in entries if entry["data"] == data)
            return all(seen[way] >= times for way in WAYS)

        found = self.wait(event, enough, what=f"{event} of {data} in each way, {times} times")
        return [entry for entry in found if entry["data"] == data]

    def at_rest(self) -> None:
        eventually(
            lambda: (
                all(
                    (group.lag, group.pending, group.later) == (0, 0, 0)
                    for group in self.client.groups("orders")
                )
                and all(queue.stats().pending == 0 for queue in self.queues)
            ),
            60,
            "nothing held",
        )

    def dead(self) -> list[list[DeadLetter]]:
        """Return the dead letters of each way."""
        groups = [self.client.dead("orders", name) for name in ("threads", "coroutines")]
        return [*groups, *(queue.dead() for queue in self.queues)]

    def started(self, data: Any) -> dict[str, list[int]]:
        """Return the deliveries of each start, by way."""
        found: dict[str, list[int]] = {way: [] for way in WAYS}
        for entry in self.programs.history.read("started"):
            if entry["data"] == data:
                found[entry["by"]].append(entry["deliveries"])
        return found


@pytest.fixture
def sent(programs: Programs, client: App) -> Sent:
    return Sent(programs, client)


WAITS = (f"{FIRST} and wait_at_gate()", f"{FIRST} and await asyncio.Event().wait()")


@pytest.mark.fault(1, "durable", "tasks")
@pytest.mark.fault(2, "durable", "tasks")
@pytest.mark.parametrize("when", ["inside", "after the effect"])
def test_what_a_killed_worker_had_runs_again(sent: Sent, when: str) -> None:
    """After the effect, it is done and only its end has not been said: it may repeat, and says so."""
    if when == "inside":
        acts = WAITS
    else:
        acts = tuple(f"note('effect', by, data, about); {act}" for act in WAITS)  # type: ignore[assignment]
    first = sent.serve(*acts, workers=0)
    sent.send(1)
    sent.everywhere("started" if when == "inside" else "effect", 1)
    first.kill()
    sent.serve(*acts, workers=0, name="second")
    sent.everywhere("ended", 1)
    sent.at_rest()
    assert set(map(tuple, sent.started(1).values())) == {(1, 2)}
    assert [handle.status() for handle in sent.handles] == ["done"] * 2


@pytest.mark.fault(3, "durable", "tasks")
def test_what_kills_worker_after_worker_is_a_dead_letter(sent: Sent) -> None:
    """Two do so in one process, at once; what is claimed beside them comes to its end."""
    ways = (WAYS[0], WAYS[3])
    die = [f"data == 'poison' and by == {way!r} and os.kill(os.getpid(), 9)" for way in ways]

    def serve(name: str) -> Process:
        return sent.serve(*die, lease=0.3, workers=0, name=name)

    def buried() -> list[list[DeadLetter]]:
        letters = sent.dead()
        return [letters[0], letters[3]]

    program = serve("first")
    sent.send(*range(3), "poison", *range(3, 6))
    for number in range(100):
        eventually(lambda: program.returncode is not None or all(buried()), 60, "a death")  # noqa: B023
        if program.returncode is None:
            break
        program = serve(f"again-{number}")
    assert [[(one.reason, one.data) for one in some] for some in buried()] == [[("poison", "poison")]] * 2
    for number in range(6):
        sent.everywhere("ended", number)
    sent.at_rest()
    assert [len(letters) for letters in sent.dead()] == [1, 0, 0, 1]
    for way in ways:
        started = sent.started("poison")[way]
        assert started == sorted(set(started)), "run twice in one delivery"


@pytest.mark.fault(4, "durable", "tasks")
def test_a_worker_that_is_told_to_end_gives_back_what_it_has_uncounted(sent: Sent) -> None:
    first = sent.serve(*WAITS, workers=0, lease=60, settings={"grace": 0.3})
    sent.send(1)
    sent.everywhere("started", 1)
    first.terminate()
    sent.programs.history.wait_for(lambda _: first.returncode is not None, what="the end")
    sent.serve("pass", "pass", workers=0, lease=60, name="second")
    sent.everywhere("ended", 1)  # long before the lease is over
    sent.at_rest()
    assert {tuple(found) for found in sent.started(1).values()} == {(1, 1)}


@pytest.mark.fault(5, "durable", "tasks")
def test_two_signals_at_once_lose_nothing(sent: Sent) -> None:
    first = sent.serve(*WAITS, workers=2)
    sent.send(1)
    sent.everywhere("started", 1)
    first.terminate()
    first.interrupt()
    first.wait(60)
    sent.serve("pass", "pass", workers=0, name="second")
    sent.everywhere("ended", 1)
    sent.at_rest()
    assert [handle.status() for handle in sent.handles] == ["done"] * 2


@pytest.mark.fault(6, "durable", "tasks")
def test_the_late_end_of_one_that_stood_still_does_not_count(sent: Sent, tier: Tier) -> None:
    lease = tier(0.8, 10.0)
    acts = (f"{FIRST} and wait_at_gate()", f"{FIRST} and await asyncio.to_thread(wait_at_gate)")
    first = sent.serve(*acts, workers=0, lease=lease)
    sent.send(1)
    sent.everywhere("started", 1)
    first.pause()
    sent.serve(*acts, workers=0, lease=lease, name="second")
    sent.everywhere("ended", 1)
    sent.at_rest()
    before = [queue.stats().done for queue in sent.queues]
    sent.programs.open_gate()
    first.resume()
    sent.everywhere("ended", 1, times=2)
    sent.send(2)  # the first is alive again
    sent.everywhere("ended", 2)
    sent.at_rest()
    assert before == [1, 1]
    assert [queue.stats().done for queue in sent.queues] == [2, 2]
    assert {tuple(found) for found in sent.started(1).values()} == {(1, 2)}


@pytest.mark.fault(7, "durable", "tasks")
def test_busy_python_code_keeps_its_lease(sent: Sent, tier: Tier) -> None:
    """In each way by itself: what a busy loop has been sent, and not read, it does not hold yet."""
    lease = tier(0.6, 2.0)
    seconds = lease * tier(2, 10)
    busy = f"until = time.monotonic() + {seconds}\n    while time.monotonic() < until: pass"
    sent.serve(busy, busy, workers=0, lease=lease)
    eventually(lambda: len(sent.client.groups("orders")) == 2, what="the groups")
    for number, queue in enumerate(sent.queues):
        queue.submit("work", number)
        sent.wait("started", lambda seen, number=number: any(one["data"] == number for one in seen))  # type: ignore[misc]
        if not number:
            sent.serve("pass", "pass", workers=0, lease=lease, name="idle")
            sent.programs.history.wait_for(bool, event="ended", timeout=60)
    sent.client.publish("orders", "event")


@pytest.mark.fault(8, "durable", "tasks")
def test_a_handler_that_hangs_is_tried_again_and_given_up(sent: Sent, tier: Tier) -> None:
    hang = ("wait_at_gate()", "await asyncio.Event().wait()")
    act = (f"if data == 'hangs': {hang[0]}", f"if data == 'hangs': {hang[1]}")
    sent.serve(*act, workers=0, options="dict(timeout=0.3, retries=1, backoff=0.01)", settings={"grace": 0.1})
    sent.send("hangs", "good")
    sent.everywhere("ended", "good")

    eventually(lambda: all(sent.dead()), 60, "a dead letter of each")
    for [letter] in sent.dead():
        assert (letter.reason, letter.data, letter.attempts) == ("timeout", "hangs", 2)
    sent.send("after")
    sent.everywhere("ended", "after")
    sent.at_rest()
    sent.programs.open_gate()


WRONG = """
right, rightly = time.time, time.time_ns
time.time = lambda: right() + {seconds}
time.time_ns = lambda: rightly() + {seconds} * 10**9
"""


@pytest.mark.fault(28, "durable", "tasks")
@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_a_worker_whose_clock_is_wrong_is_neither_early_nor_late(sent: Sent, seconds: int) -> None:
    fail = f"if data == 'fails' and about.attempt == 1: raise ValueError('{seconds}')"
    options = "dict(retries=1, backoff=0.2)"
    sent.serve(fail, fail, workers=0, before=WRONG.format(seconds=seconds), options=options)
    sent.send("plain", "fails")
    sent.send("soon", delay=0.5, expires=1200)
    sent.handles.clear()
    asked = time.monotonic()
    for queue in sent.queues:
        sent.handles.append(queue.submit("work", "in an hour", delay=1800))
        sent.handles.append(queue.submit("work", "expires late", expires=1200))
    for data in ("plain", "fails", "soon"):
        sent.everywhere("ended", data)
    early = [entry for entry in sent.programs.history.read("started") if entry["by"].startswith("queue")]
    for entry in early:
        assert entry["data"] != "in an hour"
        assert entry["data"] != "soon" or entry["at"] > asked + 0.3
    eventually(lambda: [handle.status() for handle in sent.handles] == ["delayed", "done"] * 2)
    for queue in sent.queues:
        assert queue.stats().expired == 0
