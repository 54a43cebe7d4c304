"""What the history of a run comes to: who began what, how it ended, and whether that may be so.

Rules: nothing here asks a server. I1 and I2 are those of the fault matrix: I1, every number that was
acknowledged was begun, and came to its end; I2, between two starts of the same attempt another worker has
taken it over after a lease, which the server counts as one more delivery.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.chaos.plan import CHANNEL, GROUPS, QUEUES, Load, fate_of, queue_of
from tests.kit.history import Entry

__all__ = ["Account", "Key"]

Key = tuple[str, int]
"""A queue or a group, and a number."""
Run = tuple[int, int]
"""Attempt and delivery."""
BLOWS = frozenset({"cut", "restart", "stall"})


@dataclass(slots=True)
class Account:
    """What a history says.

    Attributes:
        acknowledged: numbers by where they were sent.
        starts: the runs of each key, in their order.
        ends: how often a handler has returned.
        failures: the attempts that have raised.
        ids: the ids under which each key was handed out.
        second_runs: how many starts were not the first one of their attempt.
        unexplained: how many of these came within a lease, although nobody was killed, cut off or stalled
            meanwhile: by a process that got no time to renew its leases. On a quiet machine there are none.
        repeated_calls: how many calls had to be repeated until they were acknowledged.
    """

    acknowledged: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    starts: dict[Key, list[Run]] = field(default_factory=lambda: defaultdict(list))
    ends: Counter[Key] = field(default_factory=Counter)
    failures: dict[Key, set[int]] = field(default_factory=lambda: defaultdict(set))
    ids: dict[Key, set[str]] = field(default_factory=lambda: defaultdict(set))
    repeated_calls: int = 0
    second_runs: int = 0
    unexplained: int = 0

    @classmethod
    def of(cls, entries: list[Entry], lease: float) -> Account:
        account = cls()
        account._compare_runs(entries, lease)
        for entry in entries:
            match entry["event"]:
                case "acknowledged":
                    account.acknowledged[entry["where"]].add(entry["number"])
                    account.repeated_calls += entry["tries"] > 1
                case "started" | "ended" | "failed" as event:
                    account._note(event, (entry["where"], entry["number"]), entry)
        return account

    def _note(self, event: str, key: Key, entry: Entry) -> None:
        if event == "started":
            self.starts[key].append((entry["attempt"], entry["deliveries"]))
            self.ids[key].add(entry["id"])
        elif event == "ended":
            self.ends[key] += 1
        else:
            self.failures[key].add(entry["attempt"])

    def _compare_runs(self, entries: list[Entry], lease: float) -> None:
        killed = {entry["victim"]: entry["at"] for entry in entries if entry["event"] == "kill"}
        blows = [entry["at"] for entry in entries if entry["event"] in BLOWS]
        last: dict[tuple[str, int, int], Entry] = {}
        for entry in entries:
            if entry["event"] != "started":
                continue
            run = entry["where"], entry["number"], entry["attempt"]
            before = last.get(run)
            last[run] = entry
            if before is None:
                continue
            self.second_runs += 1
            lost = killed.get(before["pid"], entry["at"]) < entry["at"]
            disturbed = any(before["at"] - 2 * lease < blow < entry["at"] for blow in blows)
            self.unexplained += not (lost or disturbed or entry["at"] - before["at"] >= lease)

    @property
    def retries(self) -> int:
        """How many attempts were not the first one."""
        return sum(len({attempt for attempt, _ in runs}) - 1 for runs in self.starts.values())

    def problems(self, load: Load) -> Iterator[str]:
        """Yield what must not be so: lines of text."""
        sent = expected(load)
        for where, numbers in sent.items():
            missing = numbers - self.acknowledged[CHANNEL if where in GROUPS else where]
            if missing:
                yield f"{where}: never acknowledged: {some(missing)}"
            for number in numbers:
                yield from self._of((where, number))
        strangers = {key for key in self.starts if key[1] not in sent[key[0]]}
        if strangers:
            yield f"begun, though nobody sent it there: {some(strangers)}"

    def _of(self, key: Key) -> Iterator[str]:
        runs, fate = self.starts.get(key, []), fate_of(key[1])
        if not runs:
            yield f"I1: {key} was acknowledged and never begun"
            return
        if fate != "rejected" and not self.ends[key]:
            yield f"I1: {key} has never ended: {runs}"
        if len(self.ids[key]) != 1:
            yield f"{key} was stored more than once: {self.ids[key]}"
        if len(set(runs)) != len(runs):
            yield f"I2: {key} was begun twice with the same delivery: {runs}"
        for attempt, _ in runs:
            if attempt > 1 and attempt - 1 not in self.failures[key]:
                yield f"I2: {key} was tried again without a failure: {runs}"


def expected(load: Load) -> dict[str, set[int]]:
    """Return the numbers that each queue and each group has to get."""
    tasks = {name: {number for number in range(load.tasks) if queue_of(number) == name} for name in QUEUES}
    return {**tasks, **{group: set(range(load.events)) for group in GROUPS}}


def some(keys: set[int] | set[Key] | set[str]) -> str:
    """Return how many these are, and the first of them."""
    return f"{len(keys)}, such as {sorted(keys, key=repr)[:5]}"
