"""Durable groups, step by step, with no server."""

from __future__ import annotations

import pytest

from redis_toolkit._core.flow import Call, ScriptCall
from redis_toolkit._core.flows import durable
from redis_toolkit._core.flows.durable import GroupInfo, Trimmed
from redis_toolkit._core.scripts import FORGET, GROUP
from redis_toolkit.errors import GroupUnknown
from tests.core.by_hand import Driven

KEYS = ("rt:c:{orders}:stream", "rt:c:{orders}:meta")


def test_making_a_group() -> None:
    keys = (*KEYS, "rt:c:{orders}:g:g:again")
    flow = Driven(durable.make_group(durable.group_call("orders", "g")))
    assert flow.last(Call).commands == (ScriptCall(GROUP, keys, ("g", "$", 0, "", "refuse", 0)),)
    assert flow.answer([[1, b"5-5"]]).result == (True, "5-5")
    flow = Driven(
        durable.make_group(
            durable.group_call("orders", "g", after="1-1", seen=True, max_backlog=5, drop=True)
        )
    )
    assert flow.last(Call).commands == (ScriptCall(GROUP, keys, ("g", "1-1", 1, 5, "drop", 0)),)


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


@pytest.mark.fault(29, "durable")
def test_a_group_that_somebody_has_made_with_a_name_that_is_no_text() -> None:
    flow = Driven(durable.groups("orders"))
    flow.answer([[9, [b"\xff", 3, 2, 1, b"5-5", b"4-4", b"", b"0"]]])
    [group] = flow.answer([0, 0, 0]).result
    assert group.name == "\\xff"
    assert Driven(durable.trim("orders")).answer([[1, 0, b"\xff", 1200, 1000]]).result.full == "\\xff"
    flow = Driven(durable.check_group("orders", "g"))
    with pytest.raises(GroupUnknown, match=r"it has '\\\\xff'"):
        flow.answer([[9, [b"\xff", 0, 0, 0, b"5-5", b"", b"", b"0"]]])


def test_trimming_and_forgetting() -> None:
    assert Driven(durable.trim("orders")).answer([[1, 0, b"slow", 1200, 1000]]).result == Trimmed(
        1, 0, "slow", 1200, 1000
    )
    flow = Driven(durable.forget_group("orders", "g"))
    [call] = flow.last(Call).commands
    assert isinstance(call, ScriptCall)
    assert (call.script, call.keys[:2], call.args) == (FORGET, KEYS, ("g",))
    assert {key.rpartition(":")[2] for key in call.keys[2:]} == {
        "again", "delayed", "bodies", "dead", "stats", "paused",
    }  # fmt: skip
    assert flow.answer([1]).result is True


@pytest.mark.parametrize(
    ("channel", "groups", "said"),
    [
        (
            "orders",
            [b"billing", b"shipping"],
            "channel 'orders' has no group 'bill': it has 'billing', 'shipping'",
        ),
        (
            "orders",
            [],
            "'orders' has no group 'bill', nor any other: the first that serves a group makes it",
        ),
        ("rt:ack:orders", [], "nothing was published on 'orders' to be acknowledged, and nobody subscribed"),
    ],
)
def test_a_group_that_there_is_not(channel: str, groups: list[bytes], said: str) -> None:
    answer = [[7, *([name, 0, 0, 0, b"1-1", b"", b"", b"0"] for name in groups)]]
    with pytest.raises(GroupUnknown, match=said):
        Driven(durable.check_group(channel, "bill")).answer(answer)
    for name in groups:
        assert Driven(durable.check_group(channel, name.decode())).answer(answer).result is None
