"""Waiting for the ends of tasks and cancelling them, step by step, with no server and a clock of our own."""

from __future__ import annotations

from typing import Any

import pytest

from redis_toolkit._core.flow import REFUSED, Call, Exchange, ExchangeMany, ScriptCall
from redis_toolkit._core.flows import task_ends, tasks
from redis_toolkit._core.flows.requests import MARKER
from redis_toolkit._core.flows.task_ends import Cancelled, Found
from redis_toolkit._core.scripts import TASK_CANCEL, TASK_FIND, TASK_WAIT
from redis_toolkit.codecs import JSONCodec
from redis_toolkit.errors import OutcomeUnknown, RequestTimeout, ServerUnreachable, TaskUnknown
from redis_toolkit.wire import Reply, Wire
from tests.core.by_hand import Driven

WIRE = Wire(JSONCodec(), 10_000)
SOURCE = tasks.queue_source("q", ("high", "low"))
ENDED = [b"ended", [b"state", b"done", b"reply", b'{"id":"7","data":5}']]
NOWHERE = [b"nowhere", []]
RUNNING = [b"running", []]


class Clock:
    now = 1000.0


def wait(timeout_ms: int = 5000, clock: type[Clock] = Clock, **more: Any) -> Driven:
    """Return a wait that has begun: where no place is known, the task has been seen before."""
    flow = Driven(
        task_ends.wait(SOURCE, "7", "w", WIRE, timeout_ms=timeout_ms, now=lambda: clock.now, **more)
    )
    return flow if "place" in more or "unkept" in more else flow.answer([RUNNING])


@pytest.fixture
def clock() -> type[Clock]:
    return type("Own", (Clock,), {})


def late(flow: Driven, clock: type[Clock], error: Exception | None = None) -> Driven:
    """Let the time of a wait pass."""
    clock.now += flow.last(Exchange).deadline.timeout_ms / 1000
    return flow.fail(error or RequestTimeout("late"))


class TestWaiting:
    def test_the_step(self) -> None:
        step = wait().last(Exchange)
        assert step.deadline.timeout_ms == 5000
        assert (step.request.id, step.request.reply_key) == ("7", "rt:q:{q}:reply:w")
        assert step.request.build("rt:q:{q}:reply:w", 4000) == ScriptCall(
            TASK_WAIT,
            ("rt:q:{q}:task:7", "rt:q:{q}:waiters", "rt:q:{q}:reply:w"),
            ("7", "rt:q:{q}:reply:w", 4000, MARKER + "7"),
        )
        assert len(step.request.build("rt:i:{me.1}", 4000).keys) == 2

    def test_the_reply(self) -> None:
        assert wait().answer(Reply("7", 5)).result == Reply("7", 5)

    def test_one_that_has_ended_is_read(self) -> None:
        flow = wait(place=(1, "5-0")).answer(REFUSED)
        [call] = flow.last(Call).commands
        assert isinstance(call, ScriptCall)
        assert (call.script, call.keys[0], call.args[2:4]) == (TASK_FIND, "rt:q:{q}:task:7", (2, "5-0"))
        assert flow.answer([ENDED]).result == Reply("7", 5)

    def test_it_is_renewed_until_the_time_is_up(self, clock: type[Clock]) -> None:
        flow = late(wait(25_000, clock), clock)
        flow.answer([RUNNING])  # seen to be there, before the next slice
        late(flow, clock).answer([RUNNING])
        times = [step.deadline.timeout_ms for step in flow.steps if isinstance(step, Exchange)]
        assert times == [10_000, 10_000, 5000]
        with pytest.raises(RequestTimeout, match="task 7 of queue 'q' has not ended after 25 s"):
            late(flow, clock)

    def test_a_connection_that_is_cut_costs_no_time(self, clock: type[Clock]) -> None:
        flow = wait(25_000, clock)
        for _ in range(100):
            flow.fail(OutcomeUnknown("cut"))
        assert {step.deadline.timeout_ms for step in flow.steps if isinstance(step, Exchange)} == {10_000}
        assert flow.answer(Reply("7", 5)).result == Reply("7", 5)

    def test_a_server_that_comes_back_is_waited_for(self, clock: type[Clock]) -> None:
        flow = late(wait(25_000, clock), clock, ServerUnreachable("away"))
        assert flow.answer(Reply("7", 5)).result == Reply("7", 5)

    def test_one_that_is_not_there_is_not(self, clock: type[Clock]) -> None:
        with pytest.raises(ServerUnreachable):
            wait(25_000, clock).fail(ServerUnreachable("refused"))

    def test_a_task_that_is_nowhere(self, clock: type[Clock]) -> None:
        with pytest.raises(TaskUnknown, match="task 7 of queue 'q'"):
            late(wait(25_000, clock), clock).answer([NOWHERE])
        with pytest.raises(TaskUnknown):  # its record expires between the two
            wait().answer(REFUSED).answer([NOWHERE])

    @pytest.mark.parametrize("unkept", [False, True])
    def test_it_is_looked_for_first(self, unkept: bool) -> None:
        flow = wait(unkept=unkept, place=None)
        assert flow.answer([RUNNING]).last(Exchange).request.id == "7"
        assert wait(unkept=unkept, place=None).answer([ENDED]).result == Reply("7", 5)
        with pytest.raises(TaskUnknown):
            wait(unkept=unkept, place=None).answer([NOWHERE])

    def test_not_by_an_id_that_a_body_may_have_in_another_form(self) -> None:
        flow = Driven(task_ends.wait(SOURCE, 'a "7"', "w", WIRE, timeout_ms=5000))
        assert flow.last(Exchange).request.id == 'a "7"'

    def test_or_as_the_wait_begins_where_its_entry_is_known(self) -> None:
        flow = wait(place=(1, "5-0"))
        script = flow.last(Exchange).request.build("rt:q:{q}:reply:w", 4000)
        assert script.keys[2:] == ("rt:q:{q}:delayed", "rt:q:{q}:p:low", "rt:q:{q}:reply:w")
        assert script.args[4:] == ("5-0",)
        flow.answer(REFUSED).answer([RUNNING])  # it was put off, and has another entry by now
        assert len(flow.last(Exchange).request.build("rt:i:{me.1}", 4000).keys) == 2
        with pytest.raises(TaskUnknown):
            wait(place=(1, "5-0")).answer(REFUSED).answer([NOWHERE])


class TestWaitingForMany:
    def many(self, clock: type[Clock] = Clock, **places: Any) -> Driven:
        flow = task_ends.wait_many(SOURCE, places, "w", WIRE, timeout_ms=15_000, now=lambda: clock.now)
        return Driven(flow)

    def test_those_that_have_ended_are_not_waited_for(self) -> None:
        flow = self.many(a=None, b=(0, "1-0"), c=None)
        assert len(flow.last(Call).commands) == 3
        flow.answer([ENDED, [b"ready", []], NOWHERE])
        step = flow.last(ExchangeMany)
        assert [(one.id, one.reply_key) for one in step.requests] == [("b", "rt:q:{q}:reply:w")]
        ends = flow.answer([Reply("b", 2)]).result
        assert (ends["a"], ends["b"]) == (Reply("7", 5), Reply("b", 2))
        assert isinstance(ends["c"], TaskUnknown)

    def test_one_whose_entry_is_gone_is_looked_for_without_it(self) -> None:
        flow = self.many(a=(1, "1-0"), b=(1, "2-0"))
        flow.answer([[b"ready", []], [b"ready", []]]).answer([REFUSED, REFUSED])
        ends = flow.answer([NOWHERE, [b"unseen", []]]).answer([Reply("b", 2)]).result
        assert isinstance(ends["a"], TaskUnknown)
        assert ends["b"] == Reply("b", 2)
        last = flow.steps[-1]
        assert isinstance(last, ExchangeMany)
        assert len(last.requests[0].build("rt:i:{me.1}", 4000).keys) == 2

    def test_it_goes_on_with_those_that_have_not(self, clock: type[Clock]) -> None:
        flow = self.many(clock, a=None, b=None).answer([RUNNING, RUNNING])
        assert flow.last(ExchangeMany).timeout_ms == 10_000
        clock.now += 10
        flow.answer([RequestTimeout("late"), Reply("b", 2)]).answer([RUNNING])
        assert flow.last(ExchangeMany).timeout_ms == 5000
        clock.now += 5
        ends = flow.answer([RequestTimeout("late")]).answer([RUNNING]).result
        assert ends["b"] == Reply("b", 2)
        assert "has not ended after 15 s" in str(ends["a"])

    def test_what_cannot_be_read_is_the_end_of_one_only(self) -> None:
        broken = [b"ended", [b"state", b"done", b"reply", b"{"]]
        ends = self.many(a=None, b=None).answer([broken, ENDED]).result
        assert isinstance(ends["a"], ValueError)
        assert ends["b"] == Reply("7", 5)

    def test_none(self) -> None:
        assert self.many().result == {}


def test_finding() -> None:
    flow = Driven(task_ends.find(SOURCE, "7"))
    [call] = flow.last(Call).commands
    assert isinstance(call, ScriptCall)
    assert call.keys == ("rt:q:{q}:task:7", "rt:q:{q}:delayed", "rt:q:{q}:p:high", "rt:q:{q}:p:low")
    assert call.args[:4] == ("7", "workers", "", "")
    found = flow.answer([ENDED]).result
    assert found == Found("ended", {"state": b"done", "reply": b'{"id":"7","data":5}'})
    assert found.state == "done"
    assert task_ends.place_of(1, "5-0") == (1, "5-0")
    assert task_ends.place_of(1, "1732") is None


def test_cancelling() -> None:
    flow = Driven(task_ends.cancel(SOURCE, "7", b"r", 5))
    [call] = flow.last(Call).commands
    assert isinstance(call, ScriptCall)
    assert call.script is TASK_CANCEL
    assert call.args == ("7", b"r", 5, task_ends.CANCELLED_MS, "rt:q:{q}:control")
    assert flow.answer([[b"cancelled", b"x\ny", b"a b"]]).result == Cancelled("cancelled", ["x", "y"], b"a b")
    assert Driven(task_ends.cancel(SOURCE, "7", b"r", 5)).answer([[b"asked"]]).result == Cancelled("asked")
    [call] = Driven(task_ends.cancel(SOURCE, "7", b"r", 5, (1, "5-0"))).last(Call).commands
    assert isinstance(call, ScriptCall)
    assert (call.keys[6], call.args[5:]) == ("rt:q:{q}:p:low", ("workers", "5-0"))


def test_telling_who_waits() -> None:
    flow = Driven(task_ends.tell(["x", "y"], b"r"))
    assert [command[0] for command in flow.last(Call).commands] == ["RPUSH", "PEXPIRE"] * 2  # type: ignore[index]
    assert Driven(task_ends.tell([], b"r")).ended
