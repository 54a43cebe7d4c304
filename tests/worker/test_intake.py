"""What becomes of a claimed entry before a handler sees it: no server, no thread."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from redis_toolkit._core.flows.work import Ended, Later
from redis_toolkit.codecs import MsgpackCodec, TextCodec
from redis_toolkit.message import Headers, Message
from redis_toolkit.wire import Wire
from tests.worker.claims import (
    NOW_MS,
    claimed,
    group,
    job_of,
    letter_of,
    queue,
    reply_of,
    task,
    wait_of,
)

MINUTES = 60_000
GARBAGE = [
    None,
    b"",
    b"{",
    b"[1]",
    b"\xff\xff",
    b"[" * 1000,
    b'{"data":1}',
    b'{"id":7,"task":"add","data":1}',
]


def add(a: int, b: int) -> int:
    return a + b


def take(data: Any) -> None:
    """Take anything."""


class TestTasks:
    def test_what_is_read(self) -> None:
        rig = queue(job_of(add, "add"))
        body = task({"a": 1}, headers={"x": "y"}, spread=True, unique="k")
        item = rig.item(claimed(body, attempt=3, deliveries=2))
        assert (item.id, item.unique, item.spread, item.job.type) == ("7", "k", True, "add")
        assert item.message == Message("q", {"a": 1}, Headers(x="y"), "7", None, 3, 2)
        assert (item.cancelled, item.lost, item.started) == (False, False, None)
        assert rig.counted == {}

    def test_the_job_without_a_type_has_all_others(self) -> None:
        rig = queue(job_of(add, "add"), job_of(take))
        assert rig.item(claimed(task(1, "add"))).job.type == "add"
        assert rig.item(claimed(task(1, "other"))).job.type == ""

    @pytest.mark.parametrize("body", GARBAGE, ids=repr)
    def test_garbage_is_a_dead_letter(self, body: bytes | None, caplog: pytest.LogCaptureFixture) -> None:
        rig = queue(job_of(take))
        with caplog.at_level(logging.WARNING, "redis_toolkit"):
            settlement = rig.unread(claimed(body))
        letter = letter_of(settlement)
        assert (letter.reason, letter.ttl_ms, letter.reply) == ("undecodable", 0, b"")
        assert letter.error.startswith("DecodeError: ")
        assert settlement.id == b"5000-0"
        assert rig.counted == {"undecodable": 1, "dead": 1}
        [record] = caplog.records
        assert "5000-0 of 'q' is a dead letter (undecodable)" in record.getMessage()
        assert "\n" not in record.getMessage()

    def test_who_waits_for_a_broken_task_is_told_if_its_id_is_known(self) -> None:
        rig = queue(job_of(take))
        settlement = rig.unread(claimed(task(..., unique="k")))
        letter = letter_of(settlement)
        assert (settlement.id, settlement.lock) == ("7", "k")
        assert (letter.reason, letter.type, letter.ttl_ms) == ("undecodable", "add", 3_600_000)
        assert reply_of(settlement)["error"]["type"] == "DecodeError"

    def test_one_that_is_too_large_is_known_by_its_first_bytes(self) -> None:
        body = task("x" * 20_000, unique="k").replace(b'"data"', b'"unique":"k","data"', 1)
        settlement = queue(job_of(take)).unread(claimed(body))
        assert (settlement.id, settlement.lock, letter_of(settlement).type) == ("7", "k", "add")
        assert "20" in letter_of(settlement).error

    def test_a_payload_is_read_by_the_codec_of_its_job(self) -> None:
        text = Wire(TextCodec(), 1000)
        rig = queue(job_of(take, "plain"), job_of(take, "text", codec=TextCodec()))
        body = text.envelope({"id": "7", "task": "text"}, "hello", None)
        assert rig.item(claimed(body)).message.data == "hello"
        other = text.envelope({"id": "7", "task": "plain"}, "hello", None)
        assert "'text'" in letter_of(rig.unread(claimed(other))).error
        packed = Wire(MsgpackCodec(), 1000).envelope({"id": "7", "task": "plain"}, b"\x00", None)
        assert rig.item(claimed(packed)).message.data == b"\x00"

    def test_after_five_deliveries_it_is_poison_and_not_even_read(self) -> None:
        rig = queue(job_of(take))
        assert rig.item(claimed(task(1), deliveries=5)).message.deliveries == 5
        settlement = rig.unread(claimed(task(1, unique=...), deliveries=6, attempt=2))
        letter = letter_of(settlement)
        assert (letter.reason, settlement.id, settlement.attempt) == ("poison", "7", 2)
        assert letter.error.startswith("PoisonMessage: it was delivered 5 times")
        assert reply_of(settlement)["error"]["type"] == "PoisonMessage"
        bomb = claimed(b'{"id":"8","task":"add","unique":"k","data":' + b"[" * 5000, deliveries=6)
        settlement = rig.unread(bomb)
        assert (settlement.id, settlement.lock, letter_of(settlement).reason) == ("8", "k", "poison")
        assert rig.counted == {"poison": 2, "dead": 2}

    def test_a_cancelled_one_does_not_begin(self) -> None:
        rig = queue(job_of(take, result_ttl=60))
        rig.holdings.cancel(["7"])
        settlement = rig.unread(claimed(task(1, unique="k")))
        assert isinstance(settlement.outcome, Ended)
        assert (settlement.outcome.state, settlement.outcome.ttl_ms) == ("cancelled", 60_000)
        assert (settlement.id, settlement.lock) == ("7", "k")
        assert reply_of(settlement)["error"]["type"] == "TaskCancelled"
        assert rig.counted == {"cancelled": 1}

    def test_an_expired_one_does_not_begin(self) -> None:
        rig = queue(job_of(take))
        settlement = rig.unread(claimed(task(1, expires=NOW_MS - 1)))
        assert isinstance(settlement.outcome, Ended)
        assert settlement.outcome.state == "expired"
        assert reply_of(settlement)["error"]["type"] == "TaskExpired"
        assert rig.counted == {"expired": 1}
        rig.item(claimed(task(1, expires=NOW_MS + MINUTES)))
        rig.item(claimed(task(1, expires=None)))

    def test_while_the_clock_is_unknown_nothing_expires(self) -> None:
        queue(job_of(take), clock=False).item(claimed(task(1, expires=1)))


class TestUnknownTypes:
    def test_it_is_put_off_ever_longer_for_five_minutes(self, caplog: pytest.LogCaptureFixture) -> None:
        rig = queue(job_of(add, "add"))
        now, attempt, waits = NOW_MS, "4", []
        while True:
            rig.clock.now = now
            number, _, since = attempt.partition("@")
            settlement = rig.unread(
                claimed(
                    task(1, "later", unique="k"), attempt=int(number), since_ms=int(since) if since else None
                )
            )
            assert (settlement.id, settlement.lock) == ("7", "k")
            if not isinstance(settlement.outcome, Later):
                break
            delay, following = wait_of(settlement)
            waits.append(delay)
            attempt, now = str(following), now + delay
            assert attempt == f"4@{NOW_MS}"
        at = 0
        for delay in waits:
            longest = min(max(at / 4, 1000), 10_000)
            assert longest / 2 - 1 <= delay <= longest
            at += delay
        assert len(waits) > 40, "among as many who do not know it, one who does gets it"
        assert len(set(waits)) > len(waits) / 2, "all waits alike"
        assert now - NOW_MS >= 5 * MINUTES
        letter = letter_of(settlement)
        assert (letter.reason, letter.type, settlement.attempt) == ("unknown type", "later", 4)
        assert letter.error == "UnknownTask: no worker knows the type 'later'; this one knows 'add'"
        assert reply_of(settlement)["error"]["type"] == "UnknownTask"
        assert rig.counted == {"unknown": len(waits) + 1, "dead": 1}
        said = [record.getMessage() for record in caplog.records if "put off" in record.getMessage()]
        assert said == [
            "queue 'q' has a task of the type 'later', which nobody here knows: it is put off for others"
        ]

    def test_while_the_clock_is_unknown_it_is_put_off_and_not_counted(self) -> None:
        rig = queue(job_of(add, "add"), clock=False)
        for since, attempt, following in ((None, 1, 1), (5, 2, "2@5")):
            delay, then = wait_of(rig.unread(claimed(task(1, "later"), attempt=attempt, since_ms=since)))
            assert (500 <= delay <= 1000, then) == (True, following)

    def test_the_type_may_be_anything(self, caplog: pytest.LogCaptureFixture) -> None:
        rig = queue(job_of(add, "add"))
        wait_of(rig.unread(claimed(task(1, "a\nb" * 1000))))
        [record] = caplog.records
        assert "\n" not in record.getMessage()
        assert len(record.getMessage()) < 300


class TestEvents:
    def test_what_is_read(self) -> None:
        rig = group(job_of(take))
        item = rig.item(claimed(b'{"a":1}', attempt=3, deliveries=2, id=b"4-0"))
        assert (item.id, item.spread, item.fields) == ("4-0", False, None)
        assert item.message == Message("orders", {"a": 1}, Headers(), "4-0", None, 3, 2)
        item = rig.item(claimed(b'{"rt":1,"data":5,"headers":{"x":"y"}}'))
        assert item.message == Message("orders", 5, Headers(x="y"), "5000-0")

    @pytest.mark.parametrize("body", [None, b"", b"{", b"\xff\xff", b"[" * 1000], ids=repr)
    def test_garbage_is_a_dead_letter(self, body: bytes | None) -> None:
        rig = group(job_of(take))
        settlement = rig.unread(claimed(body))
        letter = letter_of(settlement)
        assert (letter.reason, letter.ttl_ms, letter.reply, letter.type) == ("undecodable", 0, b"", "")
        assert settlement.id == "5000-0"
        assert rig.counted == {"undecodable": 1, "dead": 1}

    def test_after_five_deliveries_it_is_poison(self) -> None:
        rig = group(job_of(take))
        settlement = rig.unread(claimed(b"{", deliveries=6, id=b"4-0"))
        assert (letter_of(settlement).reason, settlement.id) == ("poison", "4-0")

    def test_ids_that_were_cancelled_are_those_of_tasks(self) -> None:
        rig = group(job_of(take))
        rig.holdings.cancel(["4-0"])
        rig.item(claimed(b"1", id=b"4-0"))
