"""A backlog that a new worker drains: how many tasks or events per second, from the first to the last.

Rules: the backlog is there before the worker starts, so that no submitter is the bottleneck; each
measurement has a queue and actors of its own, and leaves an empty server behind. CPU time counts from the
first task on.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.actor import Actor, ActorFailed
from benchmarks.actors.tally import empty, total
from benchmarks.environments import OURS
from benchmarks.figures import Figures
from benchmarks.stage import Contestants, Stage

__all__ = ["Drain"]

PATIENCE = 50.0
LOOK = 0.005
_numbers = itertools.count(1)


@dataclass
class Drain:
    """Who drains what.

    Attributes:
        program: its name in ``actors/``.
        count: how many tasks or events.
        environment: whose interpreter runs it.
        role: of the worker.
        submitter: role of the one that makes the backlog.
        given: parameters of the worker.
        submits: parameters of the submitter.
        before: called with the name of the queue before anything is in it.
        watched: how many of them are waited for; None: all.
    """

    program: str
    count: int
    environment: str = OURS
    role: str = "worker"
    submitter: str = "submitter"
    given: dict[str, Any] = field(default_factory=dict)
    submits: dict[str, Any] = field(default_factory=dict)
    before: Callable[[str], None] | None = None
    watched: int | None = None

    def measure(self, them: Contestants, stage: Stage) -> Figures:
        """Make the backlog, let a new worker drain it, and return how fast it was."""
        queue, tally = f"drain-{next(_numbers)}", stage.log.with_name(f"tally-{os.getpid()}")
        common = {"url": stage.valkey.url, "queue": queue}
        empty(tally)
        try:
            if self.before is not None:
                self.before(queue)
            submitter = them.actor(self.program, self.submitter, self.environment, **common, **self.submits)
            before = stage.valkey.memory()
            submitter.ask("submit", count=self.count)
            submitter.close()
            per_task = (stage.valkey.memory() - before) / self.count
            given = {**common, "tally": str(tally), **self.given}
            worker = them.actor(self.program, self.role, self.environment, **given)
            try:
                return {**self._watch(stage, worker, tally), "bytes": per_task}
            finally:
                worker.close()
        finally:
            stage.valkey.clear()
            tally.unlink()

    def _watch(self, stage: Stage, worker: Actor, tally: Path) -> Figures:
        until = time.monotonic() + PATIENCE

        def wait(wanted: int) -> tuple[int, float, float]:
            while (found := total(tally))[0] < wanted:
                if time.monotonic() > until:
                    raise ActorFailed(f"{found[0]} of {wanted} in {PATIENCE:g} s")
                time.sleep(LOOK)
            return found

        begun = wait(1)[0]
        worker.adopt()
        server, used, commands = stage.valkey.cpu(), worker.cpu(), stage.valkey.commands()
        count, first, last = wait(self.watched or self.count)
        calls = max(count - begun, 1)
        rate, server_us = (count - 1) / (last - first), (stage.valkey.cpu() - server) / calls * 1e6
        return {
            "calls": count,
            "per_second": rate,
            "server_busy": rate * server_us / 1e6,
            "server_us": server_us,
            "worker_us": (worker.cpu() - used) / calls * 1e6,
            "commands": (stage.valkey.commands() - commands) / calls,
        }
