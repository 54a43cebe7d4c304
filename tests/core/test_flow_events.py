"""Events, the publisher's side, step by step, with no server."""

from __future__ import annotations

import pytest

from redis_toolkit._core.flow import Call, ScriptCall
from redis_toolkit._core.flows import durable, events
from redis_toolkit._core.flows.events import Event, Published
from redis_toolkit._core.scripts import PUBLISH, TRIM
from redis_toolkit.errors import OutcomeUnknown, StreamFull
from tests.core.by_hand import Driven

KEYS = ("rt:c:{orders}:stream", "rt:c:{orders}:meta")
CHECK = [-2, b""]
ROOM, FULL = [[1, 0, b"", 0, 0]], [[1, 0, b"slow", 1200, 1000]]


def sent(flow: Driven) -> list[bytes]:
    return [command.args[1] for command in flow.last(Call).commands]  # type: ignore[union-attr, misc]


def test_a_publish_is_one_script_that_is_not_repeated() -> None:
    flow = Driven(events.publish("orders", Event(b"x")))
    assert flow.last(Call) == Call((ScriptCall(PUBLISH, KEYS, ("orders", b"x")),), repeatable=False)
    assert flow.answer([[3, b"1-1"]]).result == Published(3, "1-1")


def test_with_an_id_it_may_be() -> None:
    flow = Driven(events.publish("orders", Event(b"x", "7", 5)))
    script = ScriptCall(PUBLISH, (*KEYS, "rt:c:{orders}:id:7"), ("orders", b"x", 5))
    assert flow.last(Call) == Call((script,), repeatable=True)
    assert flow.answer([[-1, b"1-1"]]).result == Published(0, "1-1", same=True)


def test_when_a_limit_may_be_reached_the_stream_is_trimmed_and_it_goes_again() -> None:
    flow = Driven(events.publish("orders", Event(b"x"))).answer([CHECK])
    assert flow.last(Call) == Call((ScriptCall(TRIM, KEYS, (durable.DROPPED,)),), repeatable=True)
    assert sent(flow.answer(ROOM)) == [b"x"]
    assert flow.answer([[0, b"1-1"]]).result == Published(0, "1-1")


def test_a_group_that_is_full_is_named_with_the_way_out() -> None:
    flow = Driven(events.publish("orders", Event(b"x"))).answer([CHECK])
    with pytest.raises(StreamFull) as caught:
        flow.answer(FULL)
    assert str(caught.value) == (
        "group 'slow' of channel 'orders' is 1,200 events behind and its max_backlog is 1,000: "
        "start workers for it, or app.forget_group('orders', 'slow')"
    )


def test_of_many_only_those_that_were_not_sent_go_again() -> None:
    flow = Driven(events.publish_many("orders", [Event(body) for body in (b"1", b"2", b"3", b"4")]))
    flow.answer([[0, b"1-1"], CHECK, [0, b"3-3"], CHECK])
    assert sent(flow.answer(ROOM)) == [b"2", b"4"]
    assert [one.entry for one in flow.answer([[0, b"2-2"], [0, b"4-4"]]).result] == [
        "1-1", "2-2", "3-3", "4-4",
    ]  # fmt: skip


def test_after_one_that_is_refused_the_rest_is() -> None:
    some = [Event(b"x")] * (events.CHUNK + 5)
    flow = Driven(events.publish_many("orders", some))
    flow.answer([[0, b"1-1"], *[CHECK] * (events.CHUNK - 1)]).answer(FULL)
    assert [type(one) for one in flow.result] == [Published] + [StreamFull] * (len(some) - 1)


def test_many_go_in_chunks() -> None:
    flow = Driven(events.publish_many("orders", [Event(b"x")] * (events.CHUNK + 5)))
    flow.answer([[0, b""]] * events.CHUNK).answer([[0, b""]] * 5)
    assert len(flow.result) == events.CHUNK + 5
    assert Driven(events.publish_many("orders", [])).result == []


def test_its_errors_pass() -> None:
    flow = Driven(events.publish("orders", Event(b"{}")))
    with pytest.raises(OutcomeUnknown):
        flow.fail(OutcomeUnknown("lost"))


def test_a_group_may_have_it_under_another_name_and_is_made_before() -> None:
    flow = Driven(events.publish_kept("orders", Event(b"x"), "mine", "g"))
    keys = ("rt:c:{mine}:stream", "rt:c:{mine}:meta")
    made, sent = flow.last(Call).commands
    assert made == durable.group_call("mine", "g", after="0")
    assert sent == ScriptCall(PUBLISH, keys, ("orders", b"x"))
    assert flow.answer([[1, b"0-0"], [2, b"1-1"]]).result == Published(2, "1-1")


def test_a_ping_may_be_repeated() -> None:
    flow = Driven(events.ping())
    assert flow.last(Call) == Call((("PING",),), repeatable=True)
    assert flow.answer(["PONG"]).ended
