"""Who is told of the end of work, and what: replies to waiters, announcements, commands of groups."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from redis_toolkit import RedisToolkitError, Reject
from redis_toolkit._core.flow import Command
from redis_toolkit._core.flows.work import DeadLetter, Ended, Settlement
from redis_toolkit.codecs import MsgpackCodec
from redis_toolkit.message import Message
from tests.worker.claims import NOW_MS, Rig, claimed, group, job_of, letter_of, queue, task

KEY, INBOX = "rt:q:{q}:reply:1", "rt:i:{client.1}"


def add(a: int, b: int) -> int:
    return a + b


def fail(data: Any) -> None:
    raise ValueError("bad")


def done(rig: Rig, id: str = "7", **fields: Any) -> Settlement:
    return rig.run(claimed(task({"a": 1, "b": 2}, id=id, **fields)))


class TestWaiters:
    def test_they_get_what_is_kept_as_the_record(self) -> None:
        rig = queue(job_of(add, "add"))
        counted = [done(rig, "7"), done(rig, "8"), rig.run(claimed(task(1, id="9")))]
        commands = rig.performer.after(counted, [(b"8", [KEY, INBOX]), (b"9", [KEY])])
        failed = letter_of(counted[2]).reply
        assert commands == [
            ("RPUSH", KEY, b'{"id":"8","data":3}', failed),
            ("PEXPIRE", KEY, 60_000),
            ("RPUSH", INBOX, b'{"id":"8","data":3}'),
            ("PEXPIRE", INBOX, 60_000),
        ]
        assert b"PayloadMismatch" in failed

    def test_most_have_none(self) -> None:
        rig = queue(job_of(add, "add"))
        assert rig.performer.after([done(rig)], []) == []

    def test_of_a_cancelled_and_an_unreadable_one_too(self) -> None:
        rig = queue(job_of(add, "add"))
        rig.holdings.cancel(["7"])
        counted = [rig.unread(claimed(task(1))), rig.unread(claimed(task(..., id="8")))]
        bodies: tuple[Any, ...] = rig.performer.after(counted, [(b"7", [KEY]), (b"8", [KEY])])[0][2:]
        assert [json.loads(body)["error"]["type"] for body in bodies] == ["TaskCancelled", "DecodeError"]

    def test_what_is_no_address_gets_nothing(self) -> None:
        rig = queue(job_of(add, "add"))
        counted = [done(rig)]
        assert rig.performer.after(counted, [(b"7", ["session:9", ""]), (b"other", [KEY])]) == []

    def test_an_address_in_the_task_gets_the_reply_too(self) -> None:
        rig = queue(job_of(add, "add"))
        counted = [done(rig), done(rig, "8", reply_to=INBOX), done(rig, "9", reply_to=None)]
        assert rig.performer.after(counted, []) == [
            ("RPUSH", INBOX, b'{"id":"8","data":3}'),
            ("PEXPIRE", INBOX, 60_000),
        ]

    def test_nobody_is_told_of_another_attempt(self) -> None:
        rig = queue(job_of(fail, "add", retries=1), announces=True)
        assert rig.performer.after([done(rig, reply_to=KEY)], []) == []

    @pytest.mark.parametrize(("ttl", "kept"), [(0, -1), (60, 60_000)])
    def test_what_progress_has_made_goes_when_nothing_is_to_be_kept(self, ttl: int, kept: int) -> None:
        for function in (add, fail):
            rig = queue(job_of(function, "add", result_ttl=ttl))
            item = rig.item(claimed(task({"a": 1, "b": 2})))
            item.progressed = True
            outcome = rig.performer.perform(item).outcome
            assert isinstance(outcome, Ended | DeadLetter)
            assert outcome.ttl_ms == kept


class TestAnnouncements:
    def announced(self, rig: Rig, settlement: Settlement) -> tuple[str, dict[str, Any]]:
        [command] = rig.performer.after([settlement], [])
        name, channel, body = command
        assert name == "PUBLISH"
        assert isinstance(channel, str)
        assert isinstance(body, bytes)
        return channel, json.loads(body)

    def test_what_is_done(self) -> None:
        rig = queue(job_of(add, "add"), announces=True)
        before = time.time()
        channel, got = self.announced(rig, done(rig, submitted=1500, priority="high"))
        assert channel == "tasks:completed"
        assert before <= got.pop("started_at") <= got.pop("completed_at") <= time.time()
        assert got == {
            "id": "7",
            "type": "add",
            "payload": {"a": 1, "b": 2},
            "priority": "high",
            "submitted_at": 1.5,
            "status": "completed",
            "worker_id": "me",
            "queue": "q",
            "result": 3,
        }

    def test_what_has_failed(self) -> None:
        def reject(data: Any) -> None:
            raise Reject("no")

        rig = queue(job_of(reject, "add"), announces=True)
        channel, got = self.announced(rig, done(rig))
        assert channel == "tasks:failed"
        assert (got["status"], got["error"], got["payload"]) == ("failed", "Reject: no", {"a": 1, "b": 2})
        assert isinstance(got["failed_at"], float)
        assert not {"result", "completed_at"} & got.keys()

    def test_what_was_never_begun(self) -> None:
        rig = queue(job_of(add, "add"), announces=True)
        rig.holdings.cancel(["7"])
        channel, got = self.announced(rig, rig.unread(claimed(task(1))))
        assert (channel, got["status"], got["started_at"]) == ("tasks:failed", "cancelled", None)
        channel, got = self.announced(rig, rig.unread(claimed(task(1, id="8", expires=NOW_MS - 1))))
        assert (channel, got["status"]) == ("tasks:failed", "expired")

    def test_of_what_cannot_be_read_there_is_nothing_to_say(self) -> None:
        rig = queue(job_of(add, "add"), announces=True)
        assert rig.performer.after([rig.unread(claimed(b"{"))], []) == []

    def test_the_payload_is_the_one_that_was_submitted(self) -> None:
        def change(task: dict[str, Any]) -> None:
            task["payload"]["a"] = object()
            task.clear()

        rig = queue(job_of(change, as_task=True), announces=True)
        assert self.announced(rig, done(rig))[1]["payload"] == {"a": 1, "b": 2}

    def test_what_is_too_large_together_goes_without_payload_and_result(self) -> None:
        rig = queue(job_of(lambda data: data, "add"), announces=True)
        channel, got = self.announced(rig, rig.run(claimed(task("x" * 6_000))))
        assert channel == "tasks:completed"
        assert (got["id"], got["payload"], got["result"]) == ("7", None, None)

    def test_in_the_codec_of_the_queue(self) -> None:
        rig = queue(job_of(add, "add", codec=MsgpackCodec()), announces=True)
        [command] = rig.performer.after([done(rig)], [])
        body = command[2]
        assert isinstance(body, bytes)
        assert MsgpackCodec().decode(body)["result"] == 3


class TestGroups:
    def test_the_command_of_a_job_is_sent_when_its_event_is_done(self) -> None:
        def then(message: Message) -> Command | None:
            return ("PUBLISH", "ack:1", b"x") if message.data["ack"] else None

        def handler(event: dict[str, Any]) -> None:
            event.clear()  # it was looked at before

        rig = group(job_of(handler, then=then))
        first, second = rig.run(claimed(b'{"ack":true}')), rig.run(claimed(b'{"ack":false}'))
        assert (first.outcome.state, second.outcome.state) == ("ok", "ok")
        assert rig.performer.after([first, second], []) == [("PUBLISH", "ack:1", b"x")]

    def test_not_when_it_has_failed(self) -> None:
        def handler(event: Any) -> None:
            raise ValueError("bad")

        rig = group(job_of(handler, then=lambda message: ("PUBLISH", "ack:1", b"x")))
        assert rig.performer.after([rig.run(claimed(b"1"))], []) == []

    def test_one_that_cannot_be_made_is_said(self, caplog: pytest.LogCaptureFixture) -> None:
        def then(message: Message) -> Command | None:
            raise RedisToolkitError("no address")

        rig = group(job_of(lambda event: None, then=then))
        assert rig.run(claimed(b"1")).outcome.state == "ok"
        [record] = caplog.records
        assert record.getMessage() == (
            "nobody is told of the end of 5000-0 of 'orders', group 'billing': no address"
        )
