"""The stage of a run: the servers, the actors that are on, and the rounds in which they take turns."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import cores
from benchmarks.actor import Actor, ActorFailed
from benchmarks.environments import HERE, OURS, Unavailable
from benchmarks.figures import Figures, Section
from benchmarks.servers import NatsServer, Valkey

__all__ = ["Contestants", "Stage"]

Measure = Callable[[], Figures]
_numbers = itertools.count(1)


class Stage:
    """What the workloads of one run share.

    Args:
        stack: ends the servers.
        rounds: how often each contestant is measured.
        scale: how many calls a measurement makes, as a share of the usual number.
        pinned: whether each part runs on its own cores, where the machine has enough of them.
    """

    def __init__(self, stack: ExitStack, *, rounds: int, scale: float, pinned: bool = True) -> None:
        self.rounds = rounds
        self.pinned = pinned and cores.available()
        self._scale = scale
        self._results = HERE / ".results"
        self._results.mkdir(exist_ok=True)
        self.valkey = Valkey(stack)
        self.nats: NatsServer | None = None
        self.without_nats = ""
        try:
            self.nats = NatsServer(stack)
        except Unavailable as error:
            self.without_nats = str(error)
        self.place(pinned=self.pinned)

    def place(self, *, pinned: bool) -> None:
        """Let the servers and the benchmark itself run on their own cores only, or on all."""
        parts = [(os.getpid(), "benchmark"), (self.valkey.pid, cores.SERVER)]
        if self.nats is not None:
            parts.append((self.nats.pid, cores.SERVER))
        for pid, role in parts:
            if pinned:
                cores.pin(pid, role)
            else:
                cores.release(pid)

    def calls(self, usual: int) -> int:
        """Return how many calls to make."""
        return max(int(usual * self._scale), 20)

    @property
    def versions(self) -> str:
        """The servers, for the table."""
        return f"{self.valkey.version}, {self.nats.version if self.nats else self.without_nats}"

    @property
    def log(self) -> Path:
        """Where actors write what goes wrong."""
        return self._results / "actors.log"

    def contestants(self, section: Section, *, pinned: bool = True) -> Contestants:
        """Return a new set of contestants for a workload; not ``pinned`` where many share the cores."""
        return Contestants(self, section, pinned=pinned and self.pinned)


class Contestants:
    """Those who take part in one workload; a context that ends their actors."""

    def __init__(self, stage: Stage, section: Section, *, pinned: bool) -> None:
        self._stage = stage
        self._pinned = pinned
        self._section = section
        self._stack = ExitStack()
        self._measures: dict[str, Measure] = {}

    def __enter__(self) -> Contestants:
        self._stage.place(pinned=self._pinned)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def actor(self, program: str, role: str, environment: str = OURS, **given: Any) -> Actor:
        """Start an actor, which ends with this workload."""
        actor = Actor(program, role, environment, self._stage.log, pinned=self._pinned, **given)
        self._stack.callback(actor.close)
        return actor

    def channel(self, kind: str) -> str:
        """Return the name of a channel that no other contestant uses."""
        return f"{kind.replace(' ', '-')}-{next(_numbers)}"

    def add(self, name: str, prepare: Callable[[], Measure], *, warm: bool = True) -> None:
        """Let somebody take part: ``prepare`` starts the actors and returns what measures once.

        Who cannot start is noted in the section, and the others go on without. Without ``warm`` the first
        measurement counts: for those that start new actors each time.
        """
        try:
            measure = prepare()
            if warm:
                measure()  # and whoever fails, fails here
            self._measures[name] = measure
        except (ActorFailed, Unavailable) as error:
            self._section.failures[name] = str(error)

    def nats(self, prepare: Callable[[NatsServer], Measure], name: str = "nats-py") -> None:
        """Let nats-py take part, if there is a NATS server."""
        server = self._stage.nats
        if server is None:
            self._section.failures[name] = self._stage.without_nats
        else:
            self.add(name, lambda: prepare(server))

    def take_turns(self) -> None:
        """Measure everybody once in each round; who begins changes from round to round."""
        for number in range(self._stage.rounds):
            names = list(self._measures)
            first = number % max(len(names), 1)
            figures: dict[str, Figures] = {}
            for name in [*names[first:], *names[:first]]:
                try:
                    figures[name] = self._measures[name]()
                except (ActorFailed, Unavailable) as error:
                    self._section.failures[name] = f"in round {number + 1}: {error}"
                    del self._measures[name]
            self._section.rounds.append({name: figures[name] for name in names if name in figures})

    def costed(self, server: Valkey | NatsServer, measure: Measure, *actors: Actor) -> Measure:
        """Return a measure that also tells the CPU time of the server and of each actor for each call.

        Of Redis it tells the commands for each call too.
        """

        def once() -> Figures:
            commands = server.commands()
            before = server.cpu(), [actor.cpu() for actor in actors]
            figures = measure()
            calls = figures["calls"]
            figures["server_us"] = (server.cpu() - before[0]) / calls * 1e6
            for actor, used in zip(actors, before[1], strict=True):
                figures[f"{actor.role}_us"] = (actor.cpu() - used) / calls * 1e6
            if commands is not None:
                figures["commands"] = ((server.commands() or 0) - commands) / calls
            return figures

        return once
