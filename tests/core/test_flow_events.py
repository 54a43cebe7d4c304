from __future__ import annotations

import pytest

from redis_toolkit._core.flow import Call
from redis_toolkit._core.flows import events
from redis_toolkit.errors import OutcomeUnknown
from tests.core.by_hand import Driven


def test_a_publish_is_one_command_that_is_never_repeated() -> None:
    flow = Driven(events.publish("orders", b"{}"))

    assert flow.last(Call) == Call((("PUBLISH", "orders", b"{}"),), repeatable=False)
    assert flow.answer([3]).result == 3


def test_its_errors_pass() -> None:
    flow = Driven(events.publish("orders", b"{}"))
    with pytest.raises(OutcomeUnknown):
        flow.fail(OutcomeUnknown("lost"))


def test_many_go_in_chunks_and_in_order() -> None:
    bodies = [b"%d" % number for number in range(2 * events.CHUNK + 7)]
    flow = Driven(events.publish_many("orders", bodies))

    for size in (events.CHUNK, events.CHUNK, 7):
        flow.answer(list(range(len(flow.last(Call).commands))))
        assert len(flow.steps[-1 if flow.ended else -2].commands) == size  # type: ignore[union-attr]

    sent = [command[2] for step in flow.steps for command in step.commands]  # type: ignore[union-attr, index]
    assert sent == bodies
    assert flow.result == [*range(events.CHUNK), *range(events.CHUNK), *range(7)]
    assert not any(step.repeatable for step in flow.steps)  # type: ignore[union-attr]


def test_many_of_none_ask_for_nothing() -> None:
    assert Driven(events.publish_many("orders", [])).result == []


def test_a_failed_chunk_ends_it() -> None:
    flow = Driven(events.publish_many("orders", [b"x"] * (events.CHUNK + 1)))
    flow.answer([0] * events.CHUNK)
    with pytest.raises(OutcomeUnknown):
        flow.fail(OutcomeUnknown("lost"))


def test_a_ping_may_be_repeated() -> None:
    flow = Driven(events.ping())
    assert flow.last(Call) == Call((("PING",),), repeatable=True)
    assert flow.answer(["PONG"]).ended
