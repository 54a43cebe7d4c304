"""Durable work that flows while a fault lasts, and an account of what became of each piece of it.

Rules: one app serves groups, queues and acknowledged messages, with ``def`` and with ``async def``
handlers; another publishes and submits, from threads and on a loop. When it ends, everything whose
sending was acknowledged has run; nothing was handed out for the first time twice; every task that ran
has one end, and nothing is held, late or waiting any more.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from redis_toolkit import App, Message, OutcomeUnknown, ServerUnreachable, current_task
from redis_toolkit.patterns import ReliableMessaging, TaskQueue
from tests.faults.flowing import Flowing
from tests.kit.waiting import eventually

__all__ = ["WAYS", "Work"]

GROUPS = ("group of threads", "group of coroutines")
QUEUES = ("threads", "coroutines")
ACKS = ("acknowledged by threads", "acknowledged by coroutines")
WAYS = (*GROUPS, *QUEUES, *ACKS)
PAUSE = 0.005
LONG = 30.0


class Work(Flowing):
    """Work from `calling` to `serving`, from the entry of a ``with`` to its end.

    Args:
        serving: an app without handlers that has not been started.
        calling: one that talks.
        refusals: errors that callers may get besides those of a lost connection.
        whole: False where the server forgets what it was given: then nothing is asked of what was sent
            before the last `flows`.
    """

    def __init__(
        self,
        serving: App,
        calling: App,
        *,
        refusals: tuple[type[Exception], ...] = (),
        whole: bool = True,
    ) -> None:
        super().__init__(serving, calling, threads=8)
        self.whole = whole
        self.first: dict[str, Counter[int]] = defaultdict(Counter)
        """How often each number was handed out for the first time, by way."""
        self.ran: dict[str, set[int]] = defaultdict(set)
        self.sent: dict[str, set[int]] = defaultdict(set)
        self._ends: tuple[type[Exception], ...] = (OutcomeUnknown, ServerUnreachable, *refusals)
        self.served = {name: TaskQueue(name, app=serving) for name in QUEUES}
        self.queues = {name: TaskQueue(name, app=calling) for name in QUEUES}
        self.acks = ReliableMessaging(app=calling)
        self._taking = ReliableMessaging(app=serving)
        self._register(serving)

    def _register(self, app: App) -> None:
        @app.on("orders", group="threads")
        def order(message: Message) -> None:
            self._note(GROUPS[0], message.data, message.deliveries)

        @app.on("orders", group="coroutines")
        async def order_later(message: Message) -> None:
            await asyncio.sleep(0)
            self._note(GROUPS[1], message.data, message.deliveries)

        @self.served["threads"].task(name="work")
        def work(number: int) -> int:
            self._note("threads", number, current_task().deliveries)
            return number

        @self.served["coroutines"].task(name="work")
        async def work_later(number: int) -> int:
            self._note("coroutines", number, current_task().deliveries)
            await asyncio.sleep(0)
            return number

    def _note(self, way: str, number: int, deliveries: int) -> None:
        with self._lock:
            self.ran[way].add(number)
            if deliveries == 1:
                self.first[way][number] += 1

    # -- living -----------------------------------------------------------------------------------

    def _begin(self) -> None:
        def take(message: Message) -> None:
            self._note(ACKS[0], message.data, message.deliveries)

        async def take_later(message: Message) -> None:
            self._note(ACKS[1], message.data, message.deliveries)

        for way, handler in zip(ACKS, (take, take_later), strict=True):
            self._parts.append(self._taking.create_ack_subscriber(way, handler, concurrency=4))
        self._parts += [self._taking, self.acks]
        loops: list[Callable[[int], object]] = [
            self._publish,
            *(lambda number, name=name: self._submit(name, number) for name in QUEUES),
            *(lambda number, way=way: self._acknowledge(way, number) for way in ACKS),
        ]
        self._running = [self._pool.submit(self._again, one) for one in loops]

    def flows(self, more: int = 3) -> None:
        """Wait until what is sent from now on runs in each way."""
        before = {way: set(self.ran[way]) for way in WAYS}

        def again() -> bool:
            self._fails_within(0)
            return all(len(self.ran[way] - before[way]) >= more for way in WAYS)

        try:
            eventually(again, LONG, what="work that runs again")
        except AssertionError as error:
            news = {way: len(self.ran[way] - before[way]) for way in WAYS}
            error.add_note(f"ran: {news}, outcomes: {self.outcomes}")
            raise
        if not self.whole:
            for numbers in self.sent.values():
                numbers.clear()

    # -- callers ----------------------------------------------------------------------------------

    def _again(self, send: Callable[[int], object]) -> None:
        number = 0
        while not self._enough.wait(PAUSE):
            number += 1
            try:
                send(number)
            except self._ends as error:
                with self._lock:
                    self.outcomes[type(error).__name__] += 1

    def _either(self, what: Any, name: str, awaited: bool, *args: Any, **options: Any) -> Any:
        if awaited:
            return self._background.run(getattr(what, "a" + name)(*args, **options))
        return getattr(what, name)(*args, **options)

    def _publish(self, number: int) -> None:
        options = {"id": f"order-{number}"} if number % 4 < 2 else {}
        self._either(self.calling, "publish", number % 2 == 1, "orders", number, **options)
        for way in GROUPS:
            self.sent[way].add(number)

    def _submit(self, name: str, number: int) -> None:
        options = {"id": f"task-{number}"} if number % 4 < 2 else {}
        self._either(self.queues[name], "submit", number % 2 == 1, "work", number, **options)
        self.sent[name].add(number)

    def _acknowledge(self, way: str, number: int) -> None:
        in_time = self._either(self.acks, "publish_with_ack", number % 2 == 1, way, number, timeout=1)
        assert not in_time or number in self.ran[way], f"{number} was acknowledged and had not run"
        self.sent[way].add(number)

    # -- the account ------------------------------------------------------------------------------

    def _settle(self) -> None:
        missing: dict[str, list[int]] = {}

        def all_ran() -> bool:
            for way in WAYS:
                missing[way] = sorted(self.sent[way] - self.ran[way])
            return not any(missing.values())

        try:
            eventually(all_ran, LONG, what="everything that was acknowledged")
        except AssertionError as error:
            error.add_note(f"never ran: {missing}")
            raise
        for name, queue in self.queues.items():
            self._ended(name, queue)
        eventually(self._at_rest, LONG, what="groups at rest")

    def _check(self) -> None:
        if self.whole:
            twice = {way: [n for n, count in seen.items() if count > 1] for way, seen in self.first.items()}
            assert not any(twice.values()), f"two entries of one sending: {twice}"

    def _ended(self, name: str, queue: TaskQueue) -> None:
        eventually(lambda: queue.stats().pending == 0, LONG, what=f"the end of all in {name}")
        stats = queue.stats()
        assert (stats.dead, stats.failed) == (0, 0)
        if self.whole:
            assert stats.done == len(self.ran[name]), f"{name}: not one end for each task"

    def _at_rest(self) -> bool:
        groups = self.calling.groups("orders")
        waiting = [self.acks.pending(way) for way in ACKS]
        return not any(waiting) and all((g.lag, g.pending, g.later, g.dead) == (0, 0, 0, 0) for g in groups)
