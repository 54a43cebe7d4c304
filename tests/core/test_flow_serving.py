from __future__ import annotations

from redis_toolkit._core.flow import Call, ScriptCall
from redis_toolkit._core.flows import serving
from redis_toolkit._core.scripts import SERVE, WITHDRAW
from tests.core.by_hand import Driven


def test_a_beat_registers_channels_and_globs_in_one_round_trip() -> None:
    flow = Driven(serving.beat("p1", ["orders"], ["users:*"], 10_000))

    assert flow.last(Call) == Call(
        (
            ScriptCall(SERVE, ("rt:c:{orders}:servers",), ("p1", 10_000)),
            ScriptCall(SERVE, ("rt:c:{users:*}:servers",), ("p1", 10_000)),
            ScriptCall(SERVE, ("rt:patterns",), ("users:*", 10_000)),
        ),
        repeatable=True,
    )
    assert flow.answer([b"1", b"2", b"1700000000000"]).result == 1_700_000_000_000


def test_withdrawing_takes_back_each_and_counts_what_waits() -> None:
    flow = Driven(serving.withdraw("p1", ["orders", "users:*"]))

    assert flow.last(Call) == Call(
        (
            ScriptCall(WITHDRAW, ("rt:c:{orders}:servers", "rt:c:{orders}:requests"), ("p1",)),
            ScriptCall(WITHDRAW, ("rt:c:{users:*}:servers", "rt:c:{users:*}:requests"), ("p1",)),
        ),
        repeatable=True,
    )
    assert flow.answer([2, 3]).result == 5


def test_withdrawing_nothing_asks_for_nothing() -> None:
    flow = Driven(serving.withdraw("p1", []))
    assert (flow.steps, flow.result) == ([], 0)


def test_the_commands_of_a_claim_and_of_replies() -> None:
    assert serving.claim_backlog(b"a", 7) == ("LPOP", b"a", 7)
    assert serving.check(b"a") == ("LLEN", b"a")
    assert serving.push_replies([("key", b"1"), ("other", b"2"), ("key", b"3")]) == [
        (("RPUSH", "key", b"1", b"3"), ("PEXPIRE", "key", 60_000)),
        (("RPUSH", "other", b"2"), ("PEXPIRE", "other", 60_000)),
    ]
