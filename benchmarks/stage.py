"""The stage of a run: the servers, the actors that are on, and the rounds in which they take turns."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

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
    """

    def __init__(self, stack: ExitStack, *, rounds: int, scale: float) -> None:
        self.rounds = rounds
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

    def contestants(self, section: Section) -> Contestants:
        """Return a new set of contestants for a workload."""
        return Contestants(self, section)


class Contestants:
    """Those who take part in one workload; a context that ends their actors."""

    def __init__(self, stage: Stage, section: Section) -> None:
        self._stage = stage
        self._section = section
        self._stack = ExitStack()
        self._measures: dict[str, Measure] = {}

    def __enter__(self) -> Contestants:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def actor(self, program: str, role: str, environment: str = OURS, **given: Any) -> Actor:
        """Start an actor, which ends with this workload."""
        actor = Actor(program, role, environment, self._stage.log, **given)
        self._stack.callback(actor.close)
        return actor

    def channel(self, kind: str) -> str:
        """Return the name of a channel that no other contestant uses."""
        return f"{kind.replace(' ', '-')}-{next(_numbers)}"

    def add(self, name: str, prepare: Callable[[], Measure]) -> None:
        """Let somebody take part: ``prepare`` starts the actors and returns what measures once.

        Who cannot start is noted in the section, and the others go on without.
        """
        try:
            measure = prepare()
            measure()  # warm up; and whoever fails, fails here
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
                except ActorFailed as error:
                    self._section.failures[name] = f"in round {number + 1}: {error}"
                    del self._measures[name]
            self._section.rounds.append({name: figures[name] for name in names if name in figures})

    def costed(self, server: Valkey | NatsServer, measure: Measure, *actors: Actor) -> Measure:
        """Return a measure that also tells the CPU time for each call, of the server and of each actor."""

        def once() -> Figures:
            before = server.cpu(), [actor.cpu() for actor in actors]
            figures = measure()
            calls = figures["calls"]
            figures["server_us"] = (server.cpu() - before[0]) / calls * 1e6
            for actor, used in zip(actors, before[1], strict=True):
                role = actor.name.rpartition(" ")[2].removeprefix("async_")
                figures[f"{role}_us"] = (actor.cpu() - used) / calls * 1e6
            return figures

        return once
