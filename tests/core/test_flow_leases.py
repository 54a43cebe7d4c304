"""Claiming and settling step by step, with no server."""

from __future__ import annotations

import pytest

from redis_toolkit._core.flow import Call, ScriptCall
from redis_toolkit._core.flows import durable, leases, tasks
from redis_toolkit._core.flows.work import (
    Claim,
    Claimed,
    DeadLetter,
    Ended,
    Held,
    Later,
    Letter,
    Ok,
    Settled,
    Settlement,
)  # fmt: skip
from redis_toolkit._core.scripts import (
    CLAIM,
    CLEAN,
    HEARTBEAT,
    LEAVE,
    PROMOTE,
    RECOVER,
    RELEASE,
    REVIVE,
    SETTLE,
)
from redis_toolkit.errors import OutcomeUnknown
from tests.core.by_hand import Driven
from tests.lua import trips

QUEUE = tasks.queue_source("q", ("high", "low"))
GROUP = durable.group_source("orders", "g")
STATE = ("rt:q:{q}:delayed", "rt:q:{q}:paused", "rt:q:{q}:cancelled")
SETTLED = ("rt:q:{q}:delayed", "rt:q:{q}:bodies", "rt:q:{q}:dead", "rt:q:{q}:stats", "rt:q:{q}:waiters",
           "rt:q:{q}:cancelled", "rt:q:{q}:task:", "rt:q:{q}:unique:")  # fmt: skip


def calls(flow: Driven) -> list[ScriptCall]:
    found = []
    for command in flow.last(Call).commands:
        assert isinstance(command, ScriptCall)
        found.append(command)
    return found


class TestSources:
    def test_the_streams_of_a_queue(self) -> None:
        assert QUEUE.streams == ("rt:q:{q}:p:high", "rt:q:{q}:p:low")
        assert (QUEUE.back, QUEUE.leaves, QUEUE.makeable) == (("high", "low"), (True, True), 2)

    def test_a_priority_with_a_space(self) -> None:
        assert tasks.queue_source("q", ("a b",)).back == ("a%20b",)

    def test_a_group_takes_again_before_its_log(self) -> None:
        assert GROUP.streams == ("rt:c:{orders}:g:g:again", "rt:c:{orders}:stream")
        assert (GROUP.back, GROUP.leaves, GROUP.makeable) == (("again", "again"), (True, False), 1)
        assert GROUP.prefix + GROUP.back[0] == GROUP.streams[0]


class TestClaiming:
    def test_it_is_one_script_that_is_not_repeated(self) -> None:
        flow = Driven(trips.claim(QUEUE, "me", 7))
        keys = (*STATE, "rt:q:{q}:p:high", "rt:q:{q}:p:low")
        assert flow.last(Call) == Call((ScriptCall(CLAIM, keys, ("workers", "me", 7, 2)),), repeatable=False)

    def test_what_it_brings(self) -> None:
        items = [
            [1, [[b"1-1", [b"b", b"x"]]]],
            [2, [[b"2-1", [b"b", b"y", b"a", b"3", b"i", b"9-9"]], [b"2-2", [b"z", b"z", b"a", b"no"]]]],
        ]
        flow = Driven(trips.claim(QUEUE, "me", 7)).answer([[b"5", b"9", 0, [b"7"], 2, b"WRONGTYPE x", items]])
        assert flow.result == Claim(5, 9, False, ["7"], 2, "WRONGTYPE x", [
            Claimed(0, b"1-1", 1, b"x"),
            Claimed(1, b"2-1", 1, b"y", 3, b"9-9"),
            Claimed(1, b"2-2", 1, None),
        ])  # fmt: skip

    @pytest.mark.parametrize(
        ("field", "found"),
        [
            (b"2@1700000000000", (2, 1_700_000_000_000)),
            (b"1@5", (1, 5)),
            (b"3", (3, None)),
            (b"3@", (3, None)),
            (b"@5", (1, 5)),
            (b"x@y", (1, None)),
            (b"-1@-5", (1, None)),
            (b"9" * 5000, (999_999_999, None)),
        ],
    )
    def test_since_when_nobody_knew_its_type(self, field: bytes, found: tuple[int, int | None]) -> None:
        items = [[1, [[b"1-1", [b"b", b"x", b"a", field]]]]]
        [item] = Driven(trips.claim(QUEUE, "me", 7)).answer([[b"5", b"", 0, [], 0, b"", items]]).result.items
        assert (item.attempt, item.since_ms) == found

    def test_nothing(self) -> None:
        flow = Driven(trips.claim(QUEUE, "me", 7)).answer([[b"5", b"", 1, [], 0, b"", []]])
        assert flow.result == Claim(5, None, paused=True)

    def test_errors_pass(self) -> None:
        with pytest.raises(OutcomeUnknown):
            Driven(trips.claim(QUEUE, "me", 7)).fail(OutcomeUnknown("cut"))

    def test_the_packet_for_a_backlog(self) -> None:
        script, read = leases.claim_packet(QUEUE, "me", 7, 1)
        assert script == ScriptCall(CLAIM, (*STATE, "rt:q:{q}:p:high"), ("workers", "me", 7, 1))
        assert read == (
            "XREADGROUP", "GROUP", "workers", "me", "COUNT", 7, "STREAMS", "rt:q:{q}:p:low", ">",
        )  # fmt: skip
        assert leases.claim_packet(GROUP, "me", 7, 0)[0].args[-1] == 0

    def test_the_commands_that_wait(self) -> None:
        read, paused = leases.block(QUEUE, "me", 2000)
        assert read == (
            "XREADGROUP", "GROUP", "workers", "me", "COUNT", 1, "BLOCK", 2000, "STREAMS",
            "rt:q:{q}:p:high", "rt:q:{q}:p:low", ">", ">",
        )  # fmt: skip
        assert paused == ("EXISTS", "rt:q:{q}:paused")


class TestSettling:
    def test_each_outcome_has_its_arguments(self) -> None:
        held = Held(1, b"1-1", 2)
        settlements = [
            Settlement(held, "a", Ended("done", b"r", 60, "add"), 3, "u"),
            Settlement(held, "b", DeadLetter("why", "E", "T", b"r", 60, "add")),
            Settlement(held, "c", Later(5), 2),
            Settlement(held, "d", Ok()),
        ]
        flow = Driven(trips.settle(QUEUE, "me", settlements))
        assert flow.last(Call).repeatable
        [call] = calls(flow)
        assert call.script is SETTLE
        assert call.keys == ("rt:q:{q}:p:low", *SETTLED)
        assert call.args == (
            "workers", "me", "low", 1, "rt:q:{q}:due", 4,
            b"1-1", 2, "done", "a", 3, "u", 60, "add", b"r",
            b"1-1", 2, "dead", "b", 1, "", 60, "add", b"r", "why", "E", "T",
            b"1-1", 2, "later", "c", 2, "", 5,
            b"1-1", 2, "ok",
        )  # fmt: skip

    def test_what_did_not_count_and_who_waits(self) -> None:
        settlements = [Settlement(Held(0, b"1-1", 1), str(number), Ok()) for number in range(3)]
        flow = Driven(trips.settle(QUEUE, "me", settlements))
        flow.answer([[[1, b"lost", 3, b"WRONGTYPE"], [b"7", b"x\ny"]]])
        failed = [(settlements[0], "lost"), (settlements[2], "WRONGTYPE")]
        assert flow.result == Settled(failed, [(b"7", ["x", "y"])])

    def test_a_call_for_each_stream_and_batch(self) -> None:
        items = [Held(place % 2, b"%d-1" % place, 1) for place in range(2 * leases.BATCH + 2)]
        flow = Driven(trips.settle(QUEUE, "me", [Settlement(item, "x", Ok()) for item in items]))
        assert [(call.keys[0][-3:], call.args[5]) for call in calls(flow)] == [
            ("igh", 500), ("igh", 1), ("low", 500), ("low", 1),
        ]  # fmt: skip
        flow.answer([[[], []], [[1, b"lost"], []], [[], []], [[], []]])
        assert [one.held for one, _ in flow.result.failed] == [items[2 * leases.BATCH]]

    def test_what_the_log_of_a_group_keeps(self) -> None:
        [call] = calls(Driven(trips.settle(GROUP, "me", [Settlement(Held(1, b"1-1", 1), "x", Later(5), 2)])))
        assert call.args[:4] == ("g", "me", "again", 0)
        [call] = calls(Driven(trips.settle(GROUP, "me", [Settlement(Held(0, b"1-1", 1), "x", Later(5), 2)])))
        assert call.args[:4] == ("g", "me", "again", 1)

    def test_nothing(self) -> None:
        assert Driven(trips.settle(QUEUE, "me", [])).result == Settled()


class TestLeases:
    def test_a_heartbeat_per_stream(self) -> None:
        items = [Held(0, b"1-1", 1), Held(1, b"2-1", 4), Held(1, b"2-2", 1)]
        flow = Driven(leases.heartbeat(QUEUE, "me", list(zip(items, "abc", strict=True))))
        cancelled = "rt:q:{q}:cancelled"
        assert calls(flow) == [
            ScriptCall(HEARTBEAT, ("rt:q:{q}:p:high", cancelled), ("workers", "me", b"1-1", 1, "a")),
            ScriptCall(
                HEARTBEAT, ("rt:q:{q}:p:low", cancelled), ("workers", "me", b"2-1", 4, "b", b"2-2", 1, "c")
            ),
        ]
        flow.answer([[b"5", [], [b"a"]], [b"6", [b"2-2"], []]])
        assert (flow.result.now, flow.result.lost, flow.result.cancelled) == (6, [items[2]], [b"a"])
        assert Driven(leases.heartbeat(QUEUE, "me", [])).result is None

    def test_recovering_is_not_repeated(self) -> None:
        flow = Driven(trips.recover(QUEUE, "me", 10_000, 9))
        assert not flow.last(Call).repeatable
        assert calls(flow) == [
            ScriptCall(RECOVER, (stream,), ("workers", "me", 10_000, 9)) for stream in QUEUE.streams
        ]
        flow.answer([[0, 0], [2, 0, [b"1-1", [b"b", b"x"], 3]]])
        assert flow.result == [Claimed(1, b"1-1", 3, b"x")]

    def test_releasing(self) -> None:
        flow = Driven(trips.release(QUEUE, "me", [Held(1, b"1-1", 2)], 10_000))
        args = ("workers", "me", 10_000, "rt:q:{q}:control", b"1-1", 2)
        assert calls(flow) == [ScriptCall(RELEASE, ("rt:q:{q}:p:low",), args)]
        assert flow.answer([1]).result == 1

    def test_promoting_goes_on_while_there_is_more(self) -> None:
        flow = Driven(leases.promote(GROUP))
        group = "rt:c:{orders}:g:g:"
        keys = (f"{group}delayed", f"{group}bodies", group, f"{group}again")
        assert calls(flow) == [ScriptCall(PROMOTE, keys, (leases.PROMOTED, "i", "again"))]
        flow.answer([[b"1", b"2", leases.PROMOTED, b""]])
        assert flow.answer([[b"5", b"9", 3, b""]]).result == Claim(5, 9)

    def test_promoting_ends_at_an_error(self) -> None:
        flow = Driven(leases.promote(QUEUE)).answer([[b"1", b"2", leases.PROMOTED, b"WRONGTYPE"]])
        assert flow.result == Claim(1, 2, error="WRONGTYPE")

    def test_promoting_leaves_time_for_others(self) -> None:
        flow = Driven(leases.promote(QUEUE))
        for _ in range(leases.PROMOTED_IN_A_ROW):
            flow.answer([[b"3", b"2", leases.PROMOTED, b""]])
        assert flow.result == Claim(3, 2)

    def test_what_is_due_next(self) -> None:
        flow = Driven(leases.next_due(QUEUE))
        assert flow.last(Call).commands == (("ZRANGE", "rt:q:{q}:delayed", 0, 0, "WITHSCORES"),)
        assert flow.answer([[b"7", b"1795379098102"]]).result == 1795379098102
        assert Driven(leases.next_due(QUEUE)).answer([[]]).result is None

    def test_looking_for_what_others_left(self) -> None:
        assert leases.probe(QUEUE, 9)[0] == ("XPENDING", QUEUE.streams[0], "workers", "IDLE", 9, "-", "+", 1)
        assert len(leases.probe(QUEUE, 9)) == len(QUEUE.streams)

    def test_the_time(self) -> None:
        assert Driven(leases.clock()).answer([[b"1795379098", b"102999"]]).result == 1795379098102

    def test_leaving(self) -> None:
        flow = Driven(leases.leave(QUEUE, "me"))
        assert calls(flow) == [ScriptCall(LEAVE, (stream,), ("workers", "me")) for stream in QUEUE.streams]
        assert flow.answer([1, 0]).result == 1

    def test_cleaning(self) -> None:
        flow = Driven(leases.clean(GROUP, 60_000))
        assert [(call.script, call.args) for call in calls(flow)] == [
            (CLEAN, ("g", 60_000, 1, leases.ORPHANS)), (CLEAN, ("g", 60_000, 0, leases.ORPHANS)),
        ]  # fmt: skip
        assert flow.answer([[1, 2], [3, 4]]).result == (4, 6)


def test_dead_letters_and_their_return() -> None:
    flow = Driven(leases.dead(QUEUE, 5, after="1-1"))
    assert flow.last(Call).commands == (("XRANGE", "rt:q:{q}:dead", "(1-1", "+", "COUNT", 5),)
    assert flow.answer([[[b"2-1", [b"b", b"\xff"]]]]).result == [Letter("2-1", {"b": b"\xff"})]

    flow = Driven(leases.revive(QUEUE, ["1-1"] * (leases.BATCH + 1)))
    assert calls(flow)[0].keys == ("rt:q:{q}:dead", "rt:q:{q}:p:", "rt:q:{q}:task:")
    assert calls(flow)[0].script is REVIVE
    assert len(calls(flow)[0].args) == 1 + leases.BATCH
    assert flow.answer([[500, b""]]).answer([[0, b"OOM"]]).result == (500, "OOM")


def test_pausing_and_resuming_are_said() -> None:
    control = "rt:q:{q}:control"
    paused = Driven(leases.pause(QUEUE)).last(Call)
    assert paused.commands == (("SET", "rt:q:{q}:paused", 1), ("PUBLISH", control, "pause"))
    resumed = Driven(leases.resume(QUEUE)).last(Call)
    assert resumed.commands == (("DEL", "rt:q:{q}:paused"), ("PUBLISH", control, "resume"))
