"""One run: everybody is started, blows are dealt while there is work, and then it is seen what became of it.

Rules: blows come at their share of the work or of the time, as whoever calls says; nothing is measured before
all is quiet, and whatever is waited for has a deadline that only a loss reaches.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from redis_toolkit import App
from tests.chaos.account import Account
from tests.chaos.plan import GROUPS, Load
from tests.chaos.remains import Remains
from tests.chaos.turmoil import Turmoil, Workers
from tests.kit.processes import History, Process
from tests.kit.servers import Server
from tests.kit.waiting import eventually

__all__ = ["Chaos", "Outcome", "chosen_seed"]

PRODUCER = Path(__file__).with_name("producer.py")
PARTS = 2
DEADLINE = 120.0
"""Seconds that the rest may take, once nobody disturbs it any more; a few, unless something is lost."""


def chosen_seed() -> int:
    """Return ``$CHAOS_SEED``, or another seed each time."""
    given = os.environ.get("CHAOS_SEED")
    return int(given) if given else random.SystemRandom().randrange(1_000_000)


@dataclass(slots=True)
class Outcome:
    """What a run came to.

    Attributes:
        problems: what must not be so; none if all is well.
        figures: what happened how often, or how long it took.
    """

    problems: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return ", ".join(f"{name} {number:,.5g}" for name, number in self.figures.items())


class Chaos:
    """Everybody who takes part; `begin`, then blows by `turmoil`, then `finish`."""

    def __init__(self, directory: Path, load: Load, seed: int, stack: ExitStack) -> None:
        self.load = load
        self.history = History(directory / "history")
        self._began = time.monotonic()
        self._directory = directory
        self._stack = stack
        self._server = stack.enter_context(Server(directory=directory / "server", persistence="always"))
        self._app = App(self._server.url)
        stack.callback(self._app.stop)
        options = {"lease": load.lease, "block": 0.5, "reconnect_cap": 0.5}
        self._env = {
            "URL": self._server.url,
            "HISTORY": str(self.history.path),
            "OPTIONS": json.dumps(options),
            "TASKS": str(load.tasks),
            "EVENTS": str(load.events),
            "RATE": str(load.rate / PARTS),
        }
        self.workers = Workers(directory, self._env, load.crew, load.singles, stack)
        self.turmoil = Turmoil(seed, self._server, self.workers, self.history, stall=1.5 * load.lease)
        stack.callback(self.turmoil.settle_down)
        self.remains = Remains(self._app, self._server.client(), load)
        self._producers: list[Process] = []

    def begin(self) -> None:
        """Start the producers, once the groups are there: what was published before is not for them."""
        eventually(self.remains.has_groups, what="the groups")
        for part in range(PARTS):
            env = {**self._env, "PART": str(part)}
            producer = Process(directory=self._directory, path=PRODUCER, env=env, name="producer")
            self._producers.append(self._stack.enter_context(producer))

    @property
    def share(self) -> float:
        """How much of the work has ended, from 0 to about 1: what ends twice counts twice."""
        try:
            ended = self.history.path.read_bytes().count(b'{"event":"ended"')
        except FileNotFoundError:
            ended = 0
        return ended / (self.load.tasks + len(GROUPS) * self.load.events)

    @property
    def at_work(self) -> bool:
        """Whether something is still sent, or has not ended."""
        return any(one.returncode is None for one in self._producers) or bool(self.remains.unfinished())

    def finish(self, before_stopping: Callable[[], None] = lambda: None) -> Outcome:
        """Wait until all is quiet, stop the workers, and look at everything."""
        outcome = Outcome()
        for producer in self._producers:
            if producer.wait(DEADLINE):
                outcome.problems.append(f"a producer failed: {producer.output[-2000:]}")
        self.turmoil.settle_down()
        self.workers.replace_the_dead()
        try:
            eventually(lambda: not self.remains.unfinished(), DEADLINE, "the end of all work")
        except AssertionError as error:
            outcome.problems.append(f"{error}: {self.remains.unfinished()} unfinished")
        outcome.figures["seconds"] = time.monotonic() - self._began
        before_stopping()
        outcome.problems += self.workers.stop()
        self.remains.clean()
        account = Account.of(self.history.read(), self.load.lease)
        outcome.problems += account.problems(self.load)
        outcome.problems += self.remains.problems(account)
        outcome.figures |= {
            "starts": sum(map(len, account.starts.values())),
            "retries": account.retries,
            "second runs": account.second_runs,
            "unexplained": account.unexplained,
            "repeated calls": account.repeated_calls,
            **{f"{blow}s": float(times) for blow, times in self.turmoil.dealt.items()},
        }
        return outcome
