"""One call of a handler, from what was read to its settlement: no server, no engine."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from redis_toolkit import Backoff, ConfigurationError, Message, PayloadMismatch, Reject, Retry, current_task
from redis_toolkit._core.flows.work import Ended, Later, Settlement
from redis_toolkit.task_context import CurrentTask
from redis_toolkit.worker.holdings import Item
from tests.worker.claims import (
    Function,
    claimed,
    group,
    job_of,
    letter_of,
    queue,
    reply_of,
    task,
    wait_of,
)

EVEN = Backoff(first=2, factor=2, jitter=0)


def as_def(function: Function) -> Function:
    return function


def as_async(function: Function) -> Function:
    """Return an ``async def`` handler that does what a function does."""

    async def awaited(*args: Any, **fields: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args, **fields)

    awaited.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return awaited


STYLES = pytest.mark.parametrize("style", [as_def, as_async], ids=["def", "async"])
Style = Callable[[Function], Function]


def add(a: int, b: int) -> int:
    return a + b


def fail(data: Any) -> None:
    raise ValueError("bad")


class _Speechless(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


def raising(error: BaseException) -> Function:
    def handler(data: Any) -> None:
        raise error

    return handler


def ended(settlement: Settlement) -> Ended:
    assert isinstance(settlement.outcome, Ended), settlement
    return settlement.outcome


@STYLES
class TestSuccess:
    def test_a_result_is_kept_as_a_reply(self, style: Style) -> None:
        rig = queue(job_of(style(add), "add", result_ttl=60))
        settlement = rig.run(claimed(task({"a": 1, "b": 2}, unique="k"), attempt=2))
        assert ended(settlement) == Ended("done", b'{"id":"7","data":3}', 60_000, "add")
        assert (settlement.id, settlement.attempt, settlement.lock) == ("7", 2, "k")
        assert settlement.held.entry == b"5000-0"
        assert rig.counted == {}

    def test_a_result_that_is_not_kept_is_there_for_those_who_wait(self, style: Style) -> None:
        settlement = queue(job_of(style(add), "add", result_ttl=0)).run(claimed(task({"a": 1, "b": 2})))
        assert ended(settlement) == Ended("done", b'{"id":"7","data":3}', 0, "add")

    def test_keyword_fields_are_spread(self, style: Style) -> None:
        rig = queue(job_of(style(lambda data: data), "one"))
        assert reply_of(rig.run(claimed(task({"data": 5}, "one", spread=True))))["data"] == 5
        assert reply_of(rig.run(claimed(task({"data": 5}, "one"))))["data"] == {"data": 5}

    def test_of_an_event_nothing_is_kept(self, style: Style) -> None:
        seen: list[Any] = []
        rig = group(job_of(style(_note(seen))))
        settlement = rig.run(claimed(b'{"id":1}', id=b"4-0"))
        assert settlement.outcome.state == "ok"
        assert seen == [({"id": 1}, "4-0", 1, 1)]
        rig.run(claimed(b"2", id=b"4-0", attempt=2, deliveries=3))
        assert seen[1] == (2, "4-0", 2, 3)

    def test_what_an_event_returns_may_be_anything(self, style: Style) -> None:
        assert group(job_of(style(lambda order: object()))).run(claimed(b"1")).outcome.state == "ok"

    def test_each_call_has_a_context_of_its_own(self, style: Style) -> None:
        seen: list[str] = []
        variable: ContextVar[str] = ContextVar("variable", default="clean")

        def handler(data: Any) -> None:
            seen.append(variable.get())
            variable.set("dirty")

        rig = queue(job_of(style(handler), "add"))
        rig.run(claimed(task(1)))
        rig.run(claimed(task(1)))
        assert seen == ["clean", "clean"]
        assert variable.get() == "clean"


def _note(seen: list[Any]) -> Function:
    def handler(order: Any, message: Message) -> None:
        seen.append((order, message.id, message.attempt, message.deliveries))

    return handler


class TestTasksAsDicts:
    def test_the_handler_gets_the_task(self) -> None:
        seen: list[dict[str, Any]] = []
        before = time.time()
        rig = queue(job_of(seen.append, as_task=True))
        rig.run(claimed(task({"a": 1}, "resize", submitted=1_500, priority="high")))
        [got] = seen
        assert before <= got.pop("started_at") <= time.time()
        assert got == {
            "id": "7",
            "type": "resize",
            "payload": {"a": 1},
            "priority": "high",
            "submitted_at": 1.5,
            "status": "processing",
            "worker_id": "me",
        }

    def test_one_that_was_submitted_by_hand(self) -> None:
        seen: list[dict[str, Any]] = []
        queue(job_of(seen.append, as_task=True)).run(claimed(task(1), stream=0))
        [got] = seen
        assert (got["priority"], got["submitted_at"]) == ("high", 5.0)  # its stream's, and its entry's


@STYLES
class TestFailures:
    def test_it_is_tried_again_as_often_as_the_policy_says(self, style: Style) -> None:
        rig = queue(job_of(style(fail), "add", retries=2, backoff=EVEN))
        assert wait_of(rig.run(claimed(task(1, unique="k")))) == (2000, 2)
        assert wait_of(rig.run(claimed(task(1), attempt=2))) == (4000, 3)
        settlement = rig.run(claimed(task(1, unique="k"), attempt=3))
        letter = letter_of(settlement)
        assert (letter.reason, letter.error, letter.type) == ("failed", "ValueError: bad", "add")
        assert "in fail" in letter.traceback
        assert (letter.ttl_ms, settlement.attempt, settlement.lock) == (3_600_000, 3, "k")
        assert reply_of(settlement) == {"id": "7", "error": {"type": "ValueError", "message": "bad"}}
        assert rig.counted == {"failed": 3, "retried": 2, "dead": 1}

    def test_the_lock_is_held_until_the_end(self, style: Style) -> None:
        rig = queue(job_of(style(fail), "add", retries=1))
        assert rig.run(claimed(task(1, unique="k"))).lock == "k"

    def test_an_event_too(self, style: Style) -> None:
        rig = group(job_of(style(fail), retries=1, backoff=EVEN, result_ttl=0))
        settlement = rig.run(claimed(b"1"))
        assert (settlement.id, wait_of(settlement)) == ("5000-0", (2000, 2))
        letter = letter_of(rig.run(claimed(b"1", id=b"4-0", attempt=2)))
        assert (letter.reason, letter.error, letter.reply, letter.ttl_ms) == (
            "failed",
            "ValueError: bad",
            b"",
            0,
        )
        assert "in fail" in letter.traceback

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (ConnectionResetError("x"), (5000, 2)),  # the nearest class
            (BrokenPipeError("x"), (7000, 2)),
            (FileNotFoundError("x"), (3000, 2)),  # a number of one, the wait of all
            (ValueError("x"), None),
            (KeyboardInterrupt(), None),
        ],
        ids=lambda value: repr(value),
    )
    def test_by_class_of_the_exception(self, style: Style, error: BaseException, expected: Any) -> None:
        even = {ConnectionError: 5, BrokenPipeError: 7, Exception: 3}
        rig = queue(
            job_of(
                style(raising(error)),
                "add",
                retries={OSError: 1, ConnectionError: 2, Exception: 0},
                backoff={kind: Backoff(first=first, jitter=0) for kind, first in even.items()},
            )
        )
        settlement = rig.run(claimed(task(1)))
        if expected is None:
            assert letter_of(settlement).reason == "failed"
        else:
            assert wait_of(settlement) == expected

    @pytest.mark.parametrize(
        "error",
        [
            SystemExit(3),
            GeneratorExit(),
            _Speechless(),
            KeyboardInterrupt(),
            RecursionError("deep"),
            MemoryError(),
            StopIteration(),
            BaseException(),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_whatever_is_raised_is_a_failure(self, style: Style, error: BaseException) -> None:
        rig = queue(job_of(style(raising(error)), "add"))
        settlement = rig.run(claimed(task(1)))
        if not (style is as_async and isinstance(error, StopIteration)):
            assert reply_of(settlement)["error"]["type"] == type(error).__name__
        assert letter_of(settlement).reason == "failed"

    def test_an_error_whose_text_cannot_be_shown(self, style: Style) -> None:
        class Broken(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no text")

        settlement = queue(job_of(style(raising(Broken())), "add")).run(claimed(task(1)))
        assert letter_of(settlement).error.startswith("Broken: (its text cannot be shown")
        letter_of(settlement).traceback.encode()

    def test_huge_errors_are_shortened(self, style: Style) -> None:
        settlement = queue(job_of(style(raising(ValueError("x" * 10**6))), "add"), trace=True).run(
            claimed(task(1))
        )
        letter = letter_of(settlement)
        assert (len(letter.error), len(letter.traceback)) == (2_000, 16_000)
        assert len(letter.reply) < 10_000

    def test_a_traceback_is_sent_only_when_asked_for(self, style: Style) -> None:
        assert "traceback" not in reply_of(queue(job_of(style(fail), "add")).run(claimed(task(1))))["error"]
        told = reply_of(queue(job_of(style(fail), "add"), trace=True).run(claimed(task(1))))
        assert "in fail" in told["error"]["traceback"]

    def test_a_payload_that_does_not_fit_is_not_tried_again(self, style: Style) -> None:
        rig = queue(job_of(style(add), "add", retries=5))
        settlement = rig.run(claimed(task({"a": 1})))
        letter = letter_of(settlement)
        assert (letter.reason, letter.traceback) == ("mismatched", "")
        assert letter.error.startswith("PayloadMismatch: handler ")
        assert reply_of(settlement)["error"]["type"] == "PayloadMismatch"
        assert rig.counted == {"mismatched": 1, "dead": 1}

    def test_rejected(self, style: Style, caplog: pytest.LogCaptureFixture) -> None:
        rig = queue(job_of(style(raising(Reject("no such\ncustomer"))), "add", retries=5))
        letter = letter_of(rig.run(claimed(task(1))))
        assert (letter.reason, letter.error) == ("rejected", "Reject: no such\ncustomer")
        assert rig.counted == {"rejected": 1, "dead": 1}
        [record] = caplog.records
        assert (record.exc_info, "\n" in record.getMessage()) == (None, False)

    def test_one_line_for_each_failure(self, style: Style, caplog: pytest.LogCaptureFixture) -> None:
        function = style(fail)
        rig = queue(job_of(function, "add", retries=1, backoff=EVEN))
        rig.run(claimed(task(1, id="7\n8")))
        rig.run(claimed(task(1), attempt=2))
        name = function.__qualname__
        assert [record.getMessage() for record in caplog.records] == [
            f"handler {name} on task 7\\n8 of queue 'q' failed in attempt 1: again in 2 s",
            f"handler {name} on task 7 of queue 'q' failed in attempt 2: it is a dead letter",
        ]
        assert all(record.exc_info for record in caplog.records)

    def test_a_failed_event_is_named_with_its_group(
        self, style: Style, caplog: pytest.LogCaptureFixture
    ) -> None:
        group(job_of(style(fail))).run(claimed(b"1"))
        [record] = caplog.records
        assert "on event 5000-0 of 'orders', group 'billing' failed" in record.getMessage()


@STYLES
class TestAskingForAnotherAttempt:
    def test_after_a_delay(self, style: Style) -> None:
        rig = queue(job_of(style(raising(Retry(delay=timedelta(seconds=1.5)))), "add"))
        assert wait_of(rig.run(claimed(task(1)))) == (1500, 2)
        assert rig.counted == {"retried": 1}

    def test_without_a_delay_as_the_backoff_says(self, style: Style) -> None:
        rig = queue(job_of(style(raising(Retry())), "add", backoff=EVEN))
        assert wait_of(rig.run(claimed(task(1), attempt=3))) == (8000, 4)
        own = queue(job_of(style(raising(Retry())), "add", backoff={Retry: Backoff(first=9, jitter=0)}))
        assert wait_of(own.run(claimed(task(1)))) == (9000, 2)

    @pytest.mark.parametrize(
        ("retries", "most"), [(0, 25), (30, 30), ({Exception: 30}, 30), ({Retry: 3}, 3), ({Retry: 0}, 0)]
    )
    def test_but_not_for_ever(self, style: Style, retries: Any, most: int) -> None:
        rig = queue(job_of(style(raising(Retry(0))), "add", retries=retries))
        if most:
            assert wait_of(rig.run(claimed(task(1), attempt=most))) == (0, most + 1)
        letter = letter_of(rig.run(claimed(task(1), attempt=most + 1)))
        assert (letter.reason, letter.error) == ("failed", "Retry: again in 0 s")
        assert rig.counted["failed"] == 1

    def test_is_no_failure_to_be_shown(self, style: Style, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "redis_toolkit"):
            queue(job_of(style(raising(Retry(5))), "add")).run(claimed(task(1)))
        [record] = caplog.records
        assert (record.levelno, record.exc_info) == (logging.INFO, None)
        assert record.getMessage().endswith("asks for another attempt after attempt 1: again in 5 s")


def _circular() -> list[Any]:
    result: list[Any] = []
    result.append(result)
    return result


class _Hostile:
    def model_dump(self, **_: Any) -> Any:
        raise SystemExit(3)


@STYLES
@pytest.mark.parametrize(
    "result", [object(), _circular(), float("nan"), "x" * 20_000, {1: 2, (): 3}, "\ud800", _Hostile()],
    ids=["object", "circular", "nan", "too large", "keys", "surrogate", "hostile"],
)  # fmt: skip
def test_a_result_that_cannot_be_kept_is_a_dead_letter(style: Style, result: Any) -> None:
    rig = queue(job_of(style(lambda data: result), "add", retries=5))
    settlement = rig.run(claimed(task(1)))
    assert letter_of(settlement).reason == "failed"  # at once, as its effect has happened
    assert reply_of(settlement)["error"]["type"] in ("EncodeError", "PayloadTooLarge")
    assert rig.counted == {"failed": 1, "dead": 1}


class TestTimeouts:
    def test_a_coroutine_is_cancelled_and_tried_again(self) -> None:
        seen: list[str] = []

        async def hang(data: Any) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        rig = queue(job_of(hang, "add", timeout=0.01, retries={TimeoutError: 1}, backoff=EVEN))
        assert wait_of(rig.run(claimed(task(1)))) == (2000, 2)
        settlement = rig.run(claimed(task(1), attempt=2))
        letter = letter_of(settlement)
        assert letter.reason == "timeout"
        assert letter.error.startswith("TimeoutError: an attempt may take 0.01 s")
        assert "hang" in letter.traceback
        assert reply_of(settlement)["error"]["type"] == "TimeoutError"
        assert seen == ["cancelled", "cancelled"]

    def test_its_own_timeout_error_is_a_failure_as_any_other(self) -> None:
        rig = queue(job_of(as_async(raising(TimeoutError("mine"))), "add", timeout=30))
        assert letter_of(rig.run(claimed(task(1)))).reason == "failed"

    def test_in_time_is_in_time(self) -> None:
        rig = queue(job_of(as_async(add), "add", timeout=30))
        assert reply_of(rig.run(claimed(task({"a": 1, "b": 2}))))["data"] == 3

    def test_a_thread_is_settled_by_its_engine(self) -> None:
        rig = queue(job_of(fail, "add", timeout=2, retries=1, backoff=EVEN))
        item = rig.item(claimed(task(1)))
        assert wait_of(rig.performer.timed_out(item)) == (2000, 2)
        item = rig.item(claimed(task(1), attempt=2))
        letter = letter_of(rig.performer.timed_out(item))
        assert (letter.reason, letter.error) == (
            "timeout",
            "TimeoutError: an attempt may take 2 s, and this one has taken longer",
        )


class TestCancelling:
    def test_one_that_has_not_begun(self) -> None:
        ran: list[Any] = []
        rig = queue(job_of(ran.append, "add"))
        item = rig.item(claimed(task(1)))
        rig.holdings.add(item)
        rig.holdings.cancel(["7"])
        assert ended(rig.performer.perform(item)).state == "cancelled"
        assert ran == []

    def test_one_that_others_have_by_now_is_not_run(self) -> None:
        ran: list[Any] = []
        rig = queue(job_of(ran.append, "add"))
        item = rig.item(claimed(task(1)))
        item.lost = True
        assert isinstance(rig.performer.perform(item).outcome, Later)
        assert ran == []

    @pytest.mark.parametrize("heeded", [True, False])
    def test_a_coroutine(self, heeded: bool) -> None:
        async def story() -> None:
            begun = asyncio.Event()

            async def hang(data: Any) -> str:
                begun.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    if heeded:
                        raise
                return "all the same"

            rig = queue(job_of(hang, "add", retries=5))
            item = rig.item(claimed(task(1)))
            rig.holdings.add(item)
            run = asyncio.create_task(rig.performer.aperform(item))
            await begun.wait()
            await asyncio.to_thread(rig.holdings.cancel, ["7"])
            settlement = await run
            assert ended(settlement).state == "cancelled"
            assert reply_of(settlement)["error"]["type"] == "TaskCancelled"
            assert run.cancelling() == 0
            assert item.interrupt is None
            assert rig.counted == {"cancelled": 1}

        asyncio.run(story())

    def test_one_that_ends_at_that_moment_is_done(self) -> None:
        async def story() -> None:
            async def quick(data: Any) -> str:
                rig.holdings.cancel(["7"])
                return "done"

            rig = queue(job_of(quick, "add"))
            item = rig.item(claimed(task(1)))
            rig.holdings.add(item)
            settlement = await rig.performer.aperform(item)
            assert reply_of(settlement)["data"] == "done"
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # what is cancelled too late is not this task

        asyncio.run(story())

    def test_the_engine_may_cancel_and_then_nothing_is_settled(self) -> None:
        async def story() -> None:
            begun = asyncio.Event()

            async def hang(data: Any) -> None:
                begun.set()
                await asyncio.Event().wait()

            for limit in (None, 30):
                begun.clear()
                rig = queue(job_of(hang, "add", retries=5, timeout=limit))
                run = asyncio.create_task(rig.performer.aperform(rig.item(claimed(task(1)))))
                await begun.wait()
                run.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await run
                assert rig.counted == {}

        asyncio.run(story())

    def test_a_handler_that_cancels_itself_has_failed(self) -> None:
        rig = queue(job_of(as_async(raising(asyncio.CancelledError("me"))), "add", retries=1))
        assert wait_of(rig.run(claimed(task(1))))[1] == 2

    @pytest.mark.parametrize("last", [lambda: "part", lambda: 1 / 0], ids=["returns", "raises"])
    def test_a_thread_that_looks_ends_as_cancelled_whatever_it_does(self, last: Callable[[], Any]) -> None:
        def poll(data: Any) -> Any:
            assert not current_task().cancelled
            rig.holdings.cancel(["7"])
            assert current_task().cancelled
            return last()

        rig = queue(job_of(poll, "add", retries=5))
        item = rig.item(claimed(task(1)))
        rig.holdings.add(item)
        assert ended(rig.performer.perform(item)).state == "cancelled"

    @pytest.mark.parametrize(
        ("last", "state"), [(lambda: 5, "done"), (lambda: 1 / 0, "cancelled")], ids=["returns", "raises"]
    )
    def test_a_thread_that_does_not_look_ends_as_it_likes_but_is_not_tried_again(
        self, last: Callable[[], Any], state: str
    ) -> None:
        def work(data: Any) -> Any:
            rig.holdings.cancel(["7"])
            return last()

        rig = queue(job_of(work, "add", retries=5))
        item = rig.item(claimed(task(1)))
        rig.holdings.add(item)
        assert ended(rig.performer.perform(item)).state == state


@STYLES
class TestCurrentTask:
    def test_it_says_who_it_is(self, style: Style) -> None:
        seen: list[CurrentTask] = []
        rig = queue(job_of(style(lambda data: seen.append(current_task())), "add"))
        rig.run(claimed(task(1), attempt=2, deliveries=3))
        [it] = seen
        assert (it.id, it.type, it.queue, it.priority) == ("7", "add", "q", "low")
        assert (it.attempt, it.deliveries, it.cancelled) == (2, 3, False)

    def test_one_that_another_worker_has_taken_over_is_as_good_as_cancelled(self, style: Style) -> None:
        seen: list[bool] = []

        def look(data: Any) -> None:
            rig.holdings.lose([item.claimed])
            seen.append(current_task().cancelled)

        rig = queue(job_of(style(look), "add"))
        item = rig.item(claimed(task(1)))
        rig.holdings.add(item)
        if item.job.binding.is_async:
            settlement = asyncio.run(rig.performer.aperform(item))
        else:
            settlement = rig.performer.perform(item)
        assert (seen, ended(settlement).state) == ([True], "done")

    def test_a_thread_of_its_own_context_knows_it(self, style: Style) -> None:
        def elsewhere(data: Any) -> str:
            return asyncio.run(asyncio.to_thread(current_task)).id if style is as_def else current_task().id

        assert reply_of(queue(job_of(style(elsewhere), "add")).run(claimed(task(1))))["data"] == "7"

    def test_outside_there_is_none(self, style: Style) -> None:
        with pytest.raises(ConfigurationError, match="no task runs here"):
            current_task()
        seen: list[Any] = []

        def event(data: Any) -> None:
            with pytest.raises(ConfigurationError, match="no task runs here"):
                current_task()
            seen.append(data)

        group(job_of(style(event))).run(claimed(b"1"))
        assert seen == [1]

    def test_without_an_app_it_has_nobody_to_tell_how_far_it_is(self, style: Style) -> None:
        rig = queue(job_of(style(lambda data: current_task().progress(0.5)), "add"))
        assert letter_of(rig.run(claimed(task(1)))).error.startswith(
            "ConfigurationError: this task belongs to no"
        )


class TestPace:
    def test_the_price_follows_the_measured_durations(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = 0.0

        def work(seconds: float) -> None:
            nonlocal now
            now += seconds

        monkeypatch.setattr(
            "redis_toolkit.worker.performing.time", SimpleNamespace(monotonic=lambda: now, time=time.time)
        )
        rig = queue(job_of(work, "add"), job_of(work, "other"))
        add, other = rig.item(claimed(task(0.0))), rig.item(claimed(task(0.0, "other")))
        assert (rig.performer.price(), rig.performer.expected(add)) == (None, None)
        rig.performer.perform(add)
        assert rig.performer.price() == pytest.approx(0.00002)  # never less than what we take ourselves
        assert rig.performer.expected(other) is None
        rig.run(claimed(task(0.0005)))
        assert rig.performer.price() == pytest.approx(0.0005)
        rig.run(claimed(task(0.02, "other")))  # a longer one counts at once
        assert rig.performer.price() is None
        assert rig.performer.expected(other) == pytest.approx(0.02)
        assert rig.performer.expected(add) == pytest.approx(0.0005)
        for _ in range(20):  # a shorter one a little
            rig.run(claimed(task(0.0)))
        assert rig.performer.price() is not None
        assert rig.performer.expected(other) == pytest.approx(0.02)


def test_what_ran_is_not_kept_alive_by_a_circle() -> None:
    rig = queue(job_of(as_async(add), "add"))
    gc.collect()
    gc.disable()
    try:
        entry = claimed(task({"a": 1, "b": 2}))
        rig.run(entry)
        assert [one for one in gc.get_objects() if type(one) is Item and one.claimed is entry] == []
    finally:
        gc.enable()


def test_mismatch_inside_the_handler_counts_as_one() -> None:
    """A handler may check its payload itself, and say so in the same words."""
    rig = queue(job_of(raising(PayloadMismatch("too short")), "add", retries=3))
    assert letter_of(rig.run(claimed(task(1)))).reason == "mismatched"
    assert json.loads(letter_of(rig.run(claimed(task(1)))).reply)["error"]["message"] == "too short"


def test_what_is_done_once_is_the_groups_or_the_types() -> None:
    event, named, any_type = job_of(fail), job_of(fail, "add"), job_of(fail)
    group(event)
    queue(named, any_type)
    assert (event.binding.scope, named.binding.scope, any_type.binding.scope) == ("billing", "add", "fail")
