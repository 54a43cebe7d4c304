"""Requests and events that flow while a fault lasts, and an account of what became of each of them.

Rules: one app serves with ``def`` and ``async def`` handlers, another calls from threads and awaits on a
loop, so that every fault meets all four ways at once. When a traffic ends, each call has had one outcome in
time, never another call's reply; nothing ran twice; each handler has heard events in their order and
none twice, and what it has not heard lies inside a gap that was reported.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from typing import Any

from redis_toolkit import App, Gap, OutcomeUnknown, RequestTimeout, ServerUnreachable
from tests.core.callers import LATE
from tests.faults.flowing import Flowing
from tests.kit.waiting import eventually

__all__ = ["WAYS", "Traffic"]

ENDS = (OutcomeUnknown, RequestTimeout, ServerUnreachable)
"""What may become of a call besides its answer; `NoResponders` is one of them."""
WAYS = ("called threads", "called coroutines", "awaited threads", "awaited coroutines")
PAUSE = 0.005
"""Seconds between two events."""
SLACK = 1.0
"""Seconds that a message may have been under way before the last sign of life."""


class Traffic(Flowing):
    """Calls from `calling` to `serving`, from the entry of a ``with`` to its end.

    Args:
        serving: an app without handlers that has not been started.
        calling: one that talks.
        timeout: seconds that each request has.
        late: seconds over a timeout that a busy machine may need.
    """

    def __init__(self, serving: App, calling: App, *, timeout: float = 1.0, late: float = LATE) -> None:
        super().__init__(serving, calling, threads=3)
        self.timeout, self.late = timeout, late
        self.ran: Counter[str] = Counter()
        self.gaps: list[Gap] = []
        self.heard: dict[str, list[int]] = {"threads": [], "coroutines": []}
        self.answers: Counter[str] = Counter()
        self._published: list[tuple[int, float, float]] = []
        self._register(serving)

    def _register(self, app: App) -> None:
        app.on_gap(self.gaps.append)
        app.on("news", requests=False)(self.heard["threads"].append)

        @app.on("new?", requests=False)
        async def hear(data: int) -> None:
            self.heard["coroutines"].append(data)

        @app.on("threads", events=False)
        def answer(data: str) -> str:
            return self._answer(data)

        @app.on("coroutines", events=False)
        async def answer_later(data: str) -> str:
            await asyncio.sleep(0)
            return self._answer(data)

    def _answer(self, question: str) -> str:
        with self._lock:
            self.ran[question] += 1
        return f"answer to {question}"

    # -- living -----------------------------------------------------------------------------------

    def _begin(self) -> None:
        for handlers in self.heard:
            self._running.append(self._pool.submit(self._call, handlers))
            waiting = self._await(handlers)
            self._running.append(asyncio.run_coroutine_threadsafe(waiting, self._background.loop))
        self._running.append(self._pool.submit(self._publish))

    def flows(self, answers: int = 5) -> None:
        """Wait until each way gets answers again, events are heard and both apps are healthy."""
        before, heard = Counter(self.answers), {name: len(got) for name, got in self.heard.items()}

        def again() -> bool:
            self._fails_within(0)
            return all(self.answers[way] >= before[way] + answers for way in WAYS) and all(
                len(got) >= heard[name] + answers for name, got in self.heard.items()
            )

        try:
            eventually(again, what="answers and events again")
        except AssertionError as error:
            error.add_note(f"before: {before}, {heard}; now: {self.answers}, {self.outcomes}")
            raise
        eventually(lambda: self.serving.health_check() and self.calling.health_check(), what="health")

    # -- calls ------------------------------------------------------------------------------------

    def _call(self, handlers: str) -> None:
        number, way = 0, f"called {handlers}"
        while not self._enough.is_set():
            number += 1
            one, *more = [f"{way} {number}.{place}" for place in range(4)]
            started = time.monotonic()
            try:
                answer = self.calling.request(handlers, one, timeout=self.timeout)
            except ENDS as error:
                answer = error
            self._note(way, [one], [answer], started)
            started = time.monotonic()
            answers = self.calling.request_many(handlers, more, timeout=self.timeout, return_exceptions=True)
            self._note(way, more, answers, started)

    async def _await(self, handlers: str) -> None:
        number, way = 0, f"awaited {handlers}"
        while not self._enough.is_set():
            number += 1
            questions = [f"{way} {number}.{place}" for place in range(4)]
            started = time.monotonic()
            asked = [self.calling.arequest(handlers, text, timeout=self.timeout) for text in questions]
            self._note(way, questions, await asyncio.gather(*asked, return_exceptions=True), started)

    def _note(self, way: str, questions: list[str], answers: list[Any], started: float) -> None:
        took, allowed = time.monotonic() - started, self.timeout * min(len(questions), 2) + self.late
        assert took < allowed, f"{way}: {took:.1f} s for a timeout of {self.timeout:g} s: {answers}"
        for question, answer in zip(questions, answers, strict=True):
            with self._lock:
                self.outcomes[type(answer).__name__] += 1
            if isinstance(answer, ENDS):
                continue
            if isinstance(answer, BaseException):
                raise AssertionError(f"{way}: no outcome of a call: {answer!r}") from answer
            assert answer == f"answer to {question}", f"{way}: {question!r} got {answer!r}"
            with self._lock:
                self.answers[way] += 1

    def _publish(self) -> None:
        number = 0
        while not self._enough.wait(PAUSE):
            number += 1
            before = time.time()
            try:
                if number % 2:
                    self.calling.publish("news", number)
                else:
                    self._background.run(self.calling.apublish("news", number))
            except OutcomeUnknown:
                continue  # heard or not: both are right
            except ServerUnreachable:
                continue
            self._published.append((number, before, time.time()))

    # -- the account ------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Wait until what was published at the end has been heard."""
        last = self._published[-1]
        eventually(
            lambda: all(got and got[-1] >= last[0] for got in self.heard.values()) or self._in_a_gap(*last),
            what="the last event",
        )

    def _check(self) -> None:
        for name, got in self.heard.items():
            assert all(a < b for a, b in itertools.pairwise(got)), f"{name}: out of order, or twice"
            missing = set(self._published) - {entry for entry in self._published if entry[0] in set(got)}
            lost = [entry for entry in missing if not self._in_a_gap(*entry)]
            assert not lost, f"{name}: lost outside of the gaps {self.gaps}: {sorted(lost)}"
        twice = {question: count for question, count in self.ran.items() if count > 1}
        assert not twice, f"sent once and run more than once: {twice}"
        starts = [gap.started for gap in self.gaps]
        assert starts == sorted(starts)

    def _in_a_gap(self, number: int, before: float, after: float) -> bool:
        return any(gap.started - SLACK <= after and before <= gap.ended for gap in list(self.gaps))
