"""Submitting and purging, step by step, with no server."""

from __future__ import annotations

from typing import Any

import pytest

from redis_toolkit._core.flow import Call, ScriptCall
from redis_toolkit._core.flows import tasks
from redis_toolkit._core.flows.tasks import Submission, Submitted
from redis_toolkit._core.scripts import TASK_SUBMIT
from redis_toolkit.errors import QueueFull
from tests.core.by_hand import Driven
from tests.lua import trips

PRIORITIES = ("high", "low")
READY = ("rt:q:{q}:p:high", "rt:q:{q}:p:low")


def submit(most: int | None = None, **more: Any) -> Driven:
    return Driven(trips.submit("q", Submission("7", b"{}", "low", **more), PRIORITIES, max_pending=most))


class TestSubmitting:
    def test_a_plain_one_is_never_repeated(self) -> None:
        flow = submit()
        assert flow.last(Call) == Call((("XADD", "rt:q:{q}:p:low", "*", "b", b"{}"),), repeatable=False)
        assert flow.answer([b"1-1"]).result == Submitted("ready", "1-1")

    def test_one_with_everything(self) -> None:
        call = submit(9, delay_ms=5, due_ms=6, once_ms=7, unique="u", unique_ms=8).last(Call)
        assert call.repeatable
        assert call.commands == (
            ScriptCall(
                TASK_SUBMIT,
                (
                    READY[1],
                    "rt:q:{q}:delayed",
                    "rt:q:{q}:bodies",
                    "rt:q:{q}:id:7",
                    "rt:q:{q}:unique:u",
                    *READY,
                ),
                ("7", b"{}", "low", 5, 6, 9, 7, 8, "rt:q:{q}:due"),
            ),
        )

    def test_what_is_not_asked_for_is_empty(self) -> None:
        [call] = submit(delay_ms=0).last(Call).commands
        assert isinstance(call, ScriptCall)
        assert call.keys[3:5] == ("rt:q:{q}:bodies",) * 2
        assert call.args == ("7", b"{}", "low", 0, "", "", "", "", "rt:q:{q}:due")

    @pytest.mark.parametrize("state", ["ready", "later", "same", "locked"])
    def test_what_comes_of_it(self, state: str) -> None:
        assert submit(9).answer([[state.encode(), b"5"]]).result == Submitted(state, "5")

    def test_a_full_queue(self) -> None:
        with pytest.raises(QueueFull, match="queue 'q' holds 1,000 tasks, its max_pending is 1,000"):
            submit(1000).answer([[b"full", 1000]])

    def test_many_go_in_chunks(self) -> None:
        many = [Submission(str(number), b"{}", "low") for number in range(tasks.CHUNK + 1)]
        flow = Driven(tasks.submit_many("q", many, PRIORITIES))
        flow.answer([b"1-1"] * tasks.CHUNK).answer([b"2-2"])
        assert flow.result[-1] == Submitted("ready", "2-2")
        assert len(flow.result) == tasks.CHUNK + 1
        assert Driven(tasks.submit_many("q", [], PRIORITIES)).result == []

    def test_many_are_repeated_only_if_each_may_be(self) -> None:
        many = [Submission("1", b"{}", "low", once_ms=5), Submission("2", b"{}", "low")]
        assert not Driven(tasks.submit_many("q", many, PRIORITIES)).last(Call).repeatable
        assert Driven(tasks.submit_many("q", many[:1], PRIORITIES)).last(Call).repeatable


def test_purging_goes_through_all_streams() -> None:
    flow = Driven(tasks.purge(tasks.queue_source("q", PRIORITIES), "x"))
    flow.answer([[tasks.PURGED, [b"1"]]]).answer([[3, []]]).answer([[1, [b"2"]]])
    assert flow.result == (tasks.PURGED + 4, [b"1", b"2"])
    assert [step.commands[0].keys[2] for step in flow.steps] == [READY[0], READY[0], READY[1]]  # type: ignore[union-attr]
