"""Durable events, the publisher's side, step by step, with no server."""

from __future__ import annotations

import pytest

from redis_toolkit._core.flow import Call, ScriptCall
from redis_toolkit._core.flows import durable
from redis_toolkit._core.flows.durable import Event, GroupInfo, Published, Trimmed
from redis_toolkit._core.scripts import FORGET, GROUP, PUBLISH, TRIM
from redis_toolkit.errors import StreamFull
from tests.core.by_hand import Driven

KEYS = ("rt:c:{orders}:stream", "rt:c:{orders}:meta")
CHECK = [-2, b""]
ROOM, FULL = [[1, 0, b"", 0, 0]], [[1, 0, b"slow", 1200, 1000]]


def sent(flow: Driven) -> list[bytes]:
    return [command.args[1] for command in flow.last(Call).commands]  # type: ignore[union-attr, misc]


def test_a_publish_is_one_script_that_is_not_repeated() -> None:
    flow = Driven(durable.publish("orders", Event(b"x")))
    assert flow.last(Call) == Call((ScriptCall(PUBLISH, KEYS, ("orders", b"x")),), repeatable=False)
    assert flow.answer([[3, b"1-1"]]).result == Published(3, "1-1")


def test_with_an_id_it_may_be() -> None:
    flow = Driven(durable.publish("orders", Event(b"x", "7", 5)))
    script = ScriptCall(PUBLISH, (*KEYS, "rt:c:{orders}:id:7"), ("orders", b"x", 5))
    assert flow.last(Call) == Call((script,), repeatable=True)
    assert flow.answer([[-1, b"1-1"]]).result == Published(0, "1-1", same=True)


def test_when_a_limit_may_be_reached_the_stream_is_trimmed_and_it_goes_again() -> None:
    flow = Driven(durable.publish("orders", Event(b"x"))).answer([CHECK])
    assert flow.last(Call) == Call((ScriptCall(TRIM, KEYS, (durable.DROPPED,)),), repeatable=True)
    assert sent(flow.answer(ROOM)) == [b"x"]
    assert flow.answer([[0, b"1-1"]]).result == Published(0, "1-1")


def test_a_group_that_is_full_is_named_with_the_way_out() -> None:
    flow = Driven(durable.publish("orders", Event(b"x"))).answer([CHECK])
    with pytest.raises(StreamFull) as caught:
        flow.answer(FULL)
    assert str(caught.value) == (
        "group 'slow' of channel 'orders' is 1,200 events behind and its max_backlog is 1,000: "
        "start workers for it, or app.forget_group('orders', 'slow')"
    )


def test_of_many_only_those_that_were_not_sent_go_again() -> None:
    flow = Driven(durable.publish_many("orders", [Event(body) for body in (b"1", b"2", b"3", b"4")]))
    flow.answer([[0, b"1-1"], CHECK, [0, b"3-3"], CHECK])
    assert sent(flow.answer(ROOM)) == [b"2", b"4"]
    assert [one.entry for one in flow.answer([[0, b"2-2"], [0, b"4-4"]]).result] == [
        "1-1", "2-2", "3-3", "4-4",
    ]  # fmt: skip


def test_after_one_that_is_refused_the_rest_is() -> None:
    events = [Event(b"x")] * (durable.CHUNK + 5)
    flow = Driven(durable.publish_many("orders", events))
    flow.answer([[0, b"1-1"], *[CHECK] * (durable.CHUNK - 1)]).answer(FULL)
    assert [type(one) for one in flow.result] == [Published] + [StreamFull] * (len(events) - 1)


def test_many_go_in_chunks() -> None:
    flow = Driven(durable.publish_many("orders", [Event(b"x")] * (durable.CHUNK + 5)))
    flow.answer([[0, b""]] * durable.CHUNK).answer([[0, b""]] * 5)
    assert len(flow.result) == durable.CHUNK + 5
    assert Driven(durable.publish_many("orders", [])).result == []


def test_making_a_group() -> None:
    keys = (*KEYS, "rt:c:{orders}:g:g:again")
    flow = Driven(durable.make_group("orders", "g"))
    assert flow.last(Call).commands == (ScriptCall(GROUP, keys, ("g", "$", 0, "", "refuse")),)
    assert flow.answer([[1, b"5-5"]]).result == (True, "5-5")
    flow = Driven(durable.make_group("orders", "g", after="1-1", seen=True, max_backlog=5, drop=True))
    assert flow.last(Call).commands == (ScriptCall(GROUP, keys, ("g", "1-1", 1, 5, "drop")),)


def test_telling_of_groups() -> None:
    flow = Driven(durable.groups("orders"))
    flow.answer(
        [[9, [b"g", 3, 2, 1, b"5-5", b"4-4", b"10 drop", b"7"], [b"h", 0, 0, 0, b"9-9", b"", b"", b"0"]]]
    )
    assert flow.last(Call).commands[:3] == (
        ("ZCARD", "rt:c:{orders}:g:g:delayed"),
        ("XLEN", "rt:c:{orders}:g:g:again"),
        ("XLEN", "rt:c:{orders}:g:g:dead"),
    )
    assert flow.answer([1, 2, 4, 0, 0, 0]).result == [
        GroupInfo("g", 3, 2, 3, 4, 7, 1, "5-5", "4-4", "10 drop"),
        GroupInfo("h", 0, 0, 0, 0, 0, 0, "9-9", None, None),
    ]
    assert Driven(durable.groups("orders")).answer([[0]]).result == []


def test_trimming_and_forgetting() -> None:
    assert Driven(durable.trim("orders")).answer(FULL).result == Trimmed(1, 0, "slow", 1200, 1000)
    flow = Driven(durable.forget_group("orders", "g"))
    [call] = flow.last(Call).commands
    assert isinstance(call, ScriptCall)
    assert (call.script, call.keys[:2], call.args) == (FORGET, KEYS, ("g",))
    assert {key.rpartition(":")[2] for key in call.keys[2:]} == {
        "again", "delayed", "bodies", "dead", "stats", "paused",
    }  # fmt: skip
    assert flow.answer([1]).result is True
