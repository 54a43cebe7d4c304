"""What the server holds when all is quiet: one end for each number, in one place, under keys of ours.

Rules: it is asked directly, key by key, beside what the app says of itself. I1, I4 and I5 are those of the
fault matrix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import redis

from redis_toolkit import App, keys
from redis_toolkit._core.flows import durable, leases, tasks
from redis_toolkit._core.flows.work import Source
from redis_toolkit.patterns import TaskQueue
from tests.chaos.account import Account, expected, some
from tests.chaos.plan import CHANNEL, GROUPS, QUEUES, Load, fate_of

__all__ = ["Remains"]

PAGE = 1000


class Remains:
    """Looks at the server of a run.

    Args:
        app: one that talks to it.
        client: a plain client of the server.
        load: what there was to do.
    """

    def __init__(self, app: App, client: redis.Redis, load: Load) -> None:
        self._app = app
        self._client = client
        self._load = load
        self._queues = {name: TaskQueue(name, app=app) for name in QUEUES}
        self._expected = expected(load)

    def unfinished(self) -> int:
        """Return how much is ready, running, put off or not claimed yet, in all queues and groups."""
        left = sum(queue.stats().pending for queue in self._queues.values())
        return left + sum(group.lag + group.pending + group.later for group in self._app.groups(CHANNEL))

    def has_groups(self) -> bool:
        """Return whether the groups have been made: what was published before is not for them."""
        return {group.name for group in self._app.groups(CHANNEL)} == set(GROUPS)

    def consumers(self) -> dict[str, int]:
        """Return how many consumers the server knows, by queue and group."""
        known = {name: queue.stats().consumers for name, queue in self._queues.items()}
        return known | {group.name: group.consumers for group in self._app.groups(CHANNEL)}

    def clean(self) -> None:
        """Do what the janitors do in their own time: trim, and remove consumers that have nothing."""
        self._app._driver.run(durable.trim(CHANNEL))
        for source in self._sources().values():
            self._app._driver.run(leases.clean(source, 0))

    def problems(self, account: Account) -> Iterator[str]:
        """Yield what must not be so, after `clean`: lines of text."""
        for name, source in self._sources().items():
            yield from self._at_rest(name, source)
            yield from self._dead(name, source)
        for name, queue in self._queues.items():
            yield from self._records(name, account)
            handles = [queue.handle(f"task-{number}") for number in sorted(self._expected[name])]
            results = queue.gather(handles, timeout=60, return_exceptions=True)
            for number, result in zip(sorted(self._expected[name]), results, strict=True):
                if fate_of(number) != "rejected" and result != -number:
                    yield f"I1: the result of task {number} is {result!r}"
        yield from self._foreign_keys()

    def _sources(self) -> dict[str, Source]:
        queues = {name: tasks.queue_source(name, queue.priorities) for name, queue in self._queues.items()}
        return queues | {group: durable.group_source(CHANNEL, group) for group in GROUPS}

    def _at_rest(self, name: str, source: Source) -> Iterator[str]:
        """I4: whatever has ended is in no place where work is."""
        sizes = {key: int(self._client.xlen(key)) for key in source.streams}
        sizes |= {source.delayed: int(self._client.zcard(source.delayed))}
        sizes |= {source.bodies: int(self._client.hlen(source.bodies))}
        for key, size in sizes.items():
            if size:
                yield f"I4: {key} holds {size} at rest"
        counted = {word: int(number) for word, number in self._client.hgetall(source.counters).items()}
        rejected = sum(fate_of(number) == "rejected" for number in self._expected[name])
        wanted = {"done": len(self._expected[name]) - rejected, "dead": rejected}
        found = {word: counted.get(word, 0) for word in wanted}
        if found != wanted:
            yield f"I1: {name} has counted the ends {found}, and there should be {wanted}"
        consumers = self.consumers()[name]
        if consumers:
            yield f"{name}: {consumers} consumers are left, though no worker is"

    def _dead(self, name: str, source: Source) -> Iterator[str]:
        """I1, I4: what was made to fail is a dead letter, once, and nothing else is."""
        letters = Counter[int]()
        entries: Any = self._client.xrange(source.dead)
        for _, fields in entries:
            if fields["reason"] != "rejected":
                yield f"I1: {name}: dead letter {fields['id']}: {fields['reason']}: {fields['error']}"
            else:
                letters[int(self._number(name, fields))] += 1
        twice = {number for number, times in letters.items() if times > 1}
        if twice:
            yield f"I4: {name}: dead letters twice: {some(twice)}"
        wrong = set(letters) ^ {number for number in self._expected[name] if fate_of(number) == "rejected"}
        if wrong:
            yield f"I1: {name}: dead letters missing, or too many: {some(wrong)}"

    def _number(self, name: str, fields: dict[str, str]) -> str:
        return fields["id"].removeprefix("task-") if name in QUEUES else fields["b"]

    def _records(self, name: str, account: Account) -> Iterator[str]:
        """I1: each task has one record, and it is that of the run that was begun last."""
        numbers = sorted(self._expected[name])
        for start in range(0, len(numbers), PAGE):
            page = numbers[start : start + PAGE]
            with self._client.pipeline(transaction=False) as pipe:
                for number in page:
                    pipe.hmget(keys.task_record(name, f"task-{number}"), "state", "attempt", "deliveries")
                records = pipe.execute()
            for number, (state, attempt, deliveries) in zip(page, records, strict=True):
                wanted = "failed" if fate_of(number) == "rejected" else "done"
                if state != wanted:
                    yield f"I1: the record of task {number} says {state}, and should say {wanted}"
                    continue
                runs = account.starts.get((name, number), [])
                if (int(attempt), int(deliveries)) != max(runs, default=None):
                    yield f"I2: task {number} ended in run {attempt}, {deliveries}, and was begun in {runs}"

    def _foreign_keys(self) -> Iterator[str]:
        """I5: every key has our prefix, and a TTL or a place on the list of those without."""
        lasting = self._lasting_keys()
        found = list(self._client.scan_iter(count=PAGE))
        for start in range(0, len(found), PAGE):
            page = found[start : start + PAGE]
            with self._client.pipeline(transaction=False) as pipe:
                for key in page:
                    pipe.pttl(key)
                ttls = pipe.execute()
            for key, ttl in zip(page, ttls, strict=True):
                if not key.startswith("rt:"):
                    yield f"I5: a key without our prefix: {key}"
                elif ttl == -1 and key not in lasting:
                    yield f"I5: {key} would live for ever"

    def _lasting_keys(self) -> set[str]:
        lasting = set[str]()
        for name in keys.WITHOUT_TTL:
            if name.startswith("room"):
                continue  # there are none in a run
            make = getattr(keys, name)
            arguments: Iterable[tuple[str, ...]]
            if name == "task_ready":
                arguments = [(q, p) for q, queue in self._queues.items() for p in queue.priorities]
            elif name.startswith("task_"):
                arguments = [(q,) for q in self._queues]
            elif name.startswith("group_"):
                arguments = [(CHANNEL, group) for group in GROUPS]
            else:
                arguments = [(CHANNEL,)]
            lasting |= {make(*some_of) for some_of in arguments}
        return lasting
