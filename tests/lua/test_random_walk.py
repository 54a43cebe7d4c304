"""Workers that claim, die, come back late and settle twice, in random order: no task is lost or ends twice.

Each script runs alone, so one thread that does these things in any order meets what many would.
"""

from __future__ import annotations

import random

from redis_toolkit._core.flows import leases
from redis_toolkit._core.flows.tasks import Submission
from redis_toolkit._core.flows.work import Claimed, DeadLetter, Ended, Later, Settlement
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.lua import trips
from tests.lua.driving import ask, drive, entries, fields, scores
from tests.lua.queues import BODIES, DEAD, DELAYED, GROUP, LOW, PRIORITIES, SOURCE, record

STEPS = 400
WORKERS = ("a", "b", "c")


class Walk:
    """What the workers believe, and how many settlements counted for each task."""

    def __init__(self, server: Server, seed: int) -> None:
        self.server = server
        self.random = random.Random(seed)
        self.submitted: list[str] = []
        self.held: list[tuple[str, Claimed]] = []
        self.ends: dict[str, int] = {}

    def submit(self) -> None:
        name = str(len(self.submitted))
        self.submitted.append(name)
        delay = self.random.choice((None, 1))
        task = Submission(name, name.encode(), self.random.choice(PRIORITIES), delay_ms=delay)
        drive(self.server, trips.submit("q", task, PRIORITIES))

    def claim(self) -> None:
        worker = self.random.choice(WORKERS)
        items = drive(self.server, trips.claim(SOURCE, worker, self.random.randrange(5))).items
        self.held += [(worker, item) for item in items]

    def recover(self) -> None:
        worker = self.random.choice(WORKERS)
        items = drive(self.server, trips.recover(SOURCE, worker, 0, self.random.randrange(1, 4)))
        self.held += [(worker, item) for item in items]

    def settle(self) -> None:
        """Settle some of what one worker has ever claimed, also what it has lost since."""
        worker = self.random.choice(WORKERS)
        mine = [item for who, item in self.held if who == worker]
        outcomes = (Ended("done", b"", 60_000), DeadLetter("no", ttl_ms=60_000), Later(1))
        batch = [
            Settlement(item, item.body or b"", self.random.choice(outcomes), attempt=item.attempt + 1)
            for item in self.random.sample(mine, min(len(mine), self.random.randrange(6)))
        ]
        self.end(worker, batch)

    def end(self, worker: str, batch: list[Settlement]) -> None:
        failed = {id(one) for one, _ in drive(self.server, trips.settle(SOURCE, worker, batch)).failed}
        for one in batch:
            if id(one) not in failed and not isinstance(one.outcome, Later):
                name = bytes(one.id).decode()  # type: ignore[arg-type] # all are bytes here
                self.ends[name] = self.ends.get(name, 0) + 1

    def release(self) -> None:
        worker = self.random.choice(WORKERS)
        mine = [item for who, item in self.held if who == worker]
        drive(self.server, trips.release(SOURCE, worker, mine[-3:], 10_000))

    def beat(self) -> None:
        worker = self.random.choice(WORKERS)
        mine = [(item, "") for who, item in self.held if who == worker]
        drive(self.server, leases.heartbeat(SOURCE, worker, mine[-9:]))

    def promote(self) -> None:
        drive(self.server, leases.promote(SOURCE))

    def clean(self) -> None:
        if self.random.random() < 0.5:
            found = {flat[1] for flat in ask(self.server, "XINFO", "CONSUMERS", LOW, GROUP)}
            for worker in sorted(found)[:1]:
                ask(self.server, "XGROUP", "DELCONSUMER", LOW, GROUP, worker)
        drive(self.server, leases.clean(SOURCE, 0))

    def places(self) -> dict[str, int]:
        """Return in how many places each task is."""
        found = [one["b"] for key in SOURCE.streams for _, one in entries(self.server, key)]
        found += list(scores(self.server, DELAYED))
        found += [name for name in self.submitted if self.server.execute("EXISTS", record(name))]
        return {name: found.count(name) for name in self.submitted}

    def step(self) -> None:
        acts = (self.submit, self.claim, self.claim, self.settle, self.settle, self.recover,
                self.release, self.beat, self.promote, self.clean)  # fmt: skip
        self.random.choice(acts)()

    def drain(self) -> bool:
        """Let one worker do all that is left; return whether nothing is."""
        self.promote()
        drive(self.server, leases.clean(SOURCE, 0))
        items = drive(self.server, trips.recover(SOURCE, "a", 0, 1000))
        items += drive(self.server, trips.claim(SOURCE, "a", 1000)).items
        self.end("a", [Settlement(item, item.body or b"", Ended("done", b"", 60_000)) for item in items])
        ready = [key for key in SOURCE.streams if entries(self.server, key)]
        return not ready and not scores(self.server, DELAYED)


def test_every_task_ends_once(server: Server) -> None:
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    walk = Walk(server, seed)
    drive(server, trips.claim(SOURCE, "a", 1))  # it makes the groups
    for number in range(STEPS):
        walk.step()
        if number % 50 == 0:
            assert set(walk.places().values()) <= {1}
    eventually(walk.drain)
    assert walk.ends == dict.fromkeys(walk.submitted, 1)
    assert set(walk.places().values()) == {1}
    assert not fields(server, BODIES)
    counted = fields(server, SOURCE.counters)
    assert int(counted.get("done", 0)) + int(counted.get("dead", 0)) == len(walk.submitted)
    assert len(entries(server, DEAD)) == int(counted.get("dead", 0))
