"""What a queue stores of a task, and the clock it goes by; with no server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from redis_toolkit import ConfigurationError, EncodeError
from redis_toolkit._core.flow import Call, ScriptCall
from redis_toolkit.codecs import JSONCodec
from redis_toolkit.patterns.submitting import ServerTime, Submitting
from redis_toolkit.patterns.task_call import TaskCall
from redis_toolkit.patterns.task_options import TaskOptions
from redis_toolkit.task_envelope import read_task
from redis_toolkit.wire import Wire
from tests.core.by_hand import Driven

WIRE = Wire(JSONCodec(), 10_000)
NOW_MS = 1_767_268_800_000
TIME = [[b"%d" % (NOW_MS // 1000), b"0"]]


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def submitting(*priorities: str, **more: Any) -> Submitting:
    options = {"max_pending": None, "once_ms": 10_000, "unique_ms": 20_000, **more}
    return Submitting("q", priorities or ("high", "normal", "low"), WIRE, **options)


def sent(data: Any = 1, **options: Any) -> Any:
    """Return the command that submits one task."""
    call = TaskCall[Any]("add", data, options=TaskOptions(**options))
    flow = Driven(submitting().flow([call])).answer(TIME)
    [command] = flow.last(Call).commands
    return command


class TestTheClock:
    def test_it_is_asked_once_in_a_while(self) -> None:
        clock = Clock()
        time = ServerTime(clock)
        flow = Driven(time.ms())
        assert flow.last(Call).commands == (("TIME",),)
        clock.now += 0.5  # the answer is taken for the middle of it
        assert flow.answer([[b"1000", b"500000"]]).result == 1_000_750
        clock.now += 20
        assert Driven(time.ms()).result == 1_020_750
        clock.now += ServerTime.REFRESH
        assert not Driven(time.ms()).ended

    def test_an_answer_that_took_long_counts_once(self) -> None:
        clock = Clock()
        time = ServerTime(clock)
        flow = Driven(time.ms())
        clock.now += 3
        flow.answer([[b"1000", b"0"]])
        assert not Driven(time.ms()).ended


def test_a_plain_task_is_an_entry() -> None:
    name, stream, star, field, body = sent({"a": 1}, headers={"from": "me"}, priority="high")
    assert (name, stream, star, field) == ("XADD", "rt:q:{q}:p:high", "*", "b")
    task = read_task(WIRE, body)
    assert (task.type, task.data, task.headers, task.priority) == ("add", {"a": 1}, {"from": "me"}, "high")
    assert (task.submitted_ms, task.expires_ms, task.unique, task.spread) == (NOW_MS, None, "", False)


def test_one_with_everything() -> None:
    eta = datetime.fromtimestamp(NOW_MS / 1000, UTC) + timedelta(seconds=7)
    command = sent(eta=eta, expires=5, unique_key="u", id="mine")
    assert isinstance(command, ScriptCall)
    assert command.keys[3:5] == ("rt:q:{q}:id:mine", "rt:q:{q}:unique:u")
    _, body, priority, delay, due, most, once, unique, _ = command.args
    assert (priority, delay, due, most, once, unique) == ("normal", "", NOW_MS + 7000, "", 17_000, 27_000)
    task = read_task(WIRE, body)  # type: ignore[arg-type]
    assert (task.id, task.unique, task.expires_ms) == ("mine", "u", NOW_MS + 5000)


def test_an_expiry_is_on_the_clock_of_the_server() -> None:
    """Row 28: nothing that is sent depends on the wall clock of this machine."""
    moment = datetime.fromtimestamp(1_000_000, UTC)
    *_, body = sent(expires=moment)
    assert read_task(WIRE, body).expires_ms == 1_000_000_000
    assert sent(delay=2).args[3:5] == (2000, "")


def test_the_default_priority() -> None:
    assert submitting().priority(None) == "normal"
    assert submitting("a", "b", "c").priority(None) == "b"
    assert submitting("a", "b", "c").priority("normal") == "b"
    assert submitting("only").priority(None) == "only"
    with pytest.raises(ConfigurationError, match="queue 'q' has no priority 'urgent': it has 'a', 'b'"):
        submitting("a", "b").priority("urgent")


def test_nothing_is_sent_when_one_of_many_cannot_be() -> None:
    calls = [TaskCall[Any]("add", 1), TaskCall[Any]("add", object())]
    with pytest.raises(EncodeError):
        Driven(submitting().flow(calls)).answer(TIME)
    with pytest.raises(ConfigurationError):
        Driven(submitting().flow([TaskCall("add", 1, options=TaskOptions(priority="no"))])).answer(TIME)
    assert Driven(submitting().flow([])).answer(TIME).result == []
