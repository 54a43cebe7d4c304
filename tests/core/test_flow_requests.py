"""The caller's side of a request, step by step, with no server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from redis_toolkit._core.flow import (
    REFUSED,
    Call,
    Exchange,
    ExchangeMany,
    Outgoing,
    ScriptCall,
    by_sha,
    by_text,
)
from redis_toolkit._core.flows.requests import MARKER, OutgoingRequest, request, request_many
from redis_toolkit._core.scripts import PATTERNS, REQUEST
from redis_toolkit.codecs import JSONCodec
from redis_toolkit.errors import (
    DecodeError,
    EncodeError,
    NoResponders,
    OutcomeUnknown,
    RemoteError,
    RequestTimeout,
    ServerUnreachable,
)
from redis_toolkit.globs import rank
from redis_toolkit.wire import Reply, Wire
from tests.core.by_hand import Driven

WIRE = Wire(JSONCodec(), 10_000)


def ask(data: Any = None, *, retries: int = 0, channel: str = "orders:1", **more: Any) -> Driven:
    call = OutgoingRequest(channel, "id7", data, **more)
    return Driven(request(call, WIRE, rank, timeout_ms=5000, retries=retries))


def sent(outgoing: Outgoing, *, reply_to: str | None = None, left: int = 4000) -> tuple[ScriptCall, Any]:
    """Return the script call of a request, and what its server would read."""
    script = outgoing.build(reply_to or outgoing.reply_key, left)
    envelope = script.args[2]
    assert isinstance(envelope, bytes)
    return script, WIRE.read_request(envelope)


class TestWhatIsSent:
    def test_the_script_call(self) -> None:
        step = ask({"a": 1}).last(Exchange)
        script, read = sent(step.request)

        assert step.deadline.timeout_ms == 5000
        assert script.script is REQUEST
        assert script.keys == (
            "rt:c:{orders:1}:requests",
            "rt:c:{orders:1}:servers",
            "rt:c:{orders:1}:reply:id7",
        )
        assert script.args[:2] == ("rt:c:{orders:1}:serve", 4000)
        assert script.args[3] == MARKER + "id7"
        assert (read.id, read.reply_to, read.data) == ("id7", "rt:c:{orders:1}:reply:id7", {"a": 1})
        assert (read.attempt, read.spread, read.channel, read.headers) == (1, False, None, {})

    def test_a_reply_to_an_inbox_leaves_no_marker(self) -> None:
        script, read = sent(ask().last(Exchange).request, reply_to="rt:i:{me.1}")
        assert len(script.keys) == 2
        assert read.reply_to == "rt:i:{me.1}"

    def test_headers_and_spreading(self) -> None:
        _, read = sent(ask({"a": 1}, headers={"h": "x"}, spread=True).last(Exchange).request)
        assert (read.headers, read.spread) == ({"h": "x"}, True)

    def test_the_payload_is_encoded_only_when_it_is_sent(self) -> None:
        step = ask(object()).last(Exchange)
        with pytest.raises(EncodeError):
            step.request.build("key", 1)

    def test_a_script_by_text_and_by_sha(self) -> None:
        script = ScriptCall(REQUEST, ("k1", "k2"), ("a", 5))
        assert by_text(script) == ("EVAL", REQUEST.text, 2, "k1", "k2", "a", 5)
        assert by_sha(script) == ("EVALSHA", REQUEST.sha, 2, "k1", "k2", "a", 5)
        assert by_text(("PING",)) == by_sha(("PING",)) == ("PING",)


class TestOutcomes:
    def test_the_result(self) -> None:
        flow = ask().answer(Reply("id7", {"ok": True}))
        assert flow.result == {"ok": True}
        assert len(flow.steps) == 1

    def test_the_handlers_error(self) -> None:
        with pytest.raises(RemoteError, match="KeyError: 'a'"):
            ask().answer(Reply("id7", None, RemoteError("KeyError", "'a'")))

    def test_a_reply_with_another_id_is_not_this_calls(self) -> None:
        with pytest.raises(DecodeError, match="'other' arrived for request 'id7'"):
            ask().answer(Reply("other", 1))
        with pytest.raises(DecodeError, match="'other' arrived for request 'id7'"):
            ask().answer(Reply("other", None, RemoteError("KeyError", "not ours")))

    @pytest.mark.parametrize(
        "error", [RequestTimeout("late"), OutcomeUnknown("cut"), ServerUnreachable("gone"), EncodeError("no")]
    )
    def test_errors_pass(self, error: Exception) -> None:
        with pytest.raises(type(error)):
            ask().fail(error)


class TestWhenNobodyServesTheChannel:
    def test_the_globs_that_answer_are_asked_for(self) -> None:
        asking = ask()
        deadline = asking.last(Exchange).deadline
        call = asking.answer(REFUSED).last(Call)
        assert call.commands == (ScriptCall(PATTERNS, ("rt:patterns",), ()),)
        assert call.repeatable
        assert call.deadline is deadline  # the whole try has one

    def test_a_lookup_that_is_not_answered_is_a_timeout(self) -> None:
        with pytest.raises(
            RequestTimeout, match=r"'orders:1' was not known by the deadline; nothing was sent"
        ):
            ask().answer(REFUSED).fail(OutcomeUnknown("cut"))

    def test_none_matches(self) -> None:
        flow = ask().answer(REFUSED)
        with pytest.raises(
            NoResponders, match=r"nobody serves requests on 'orders:1'.*@app\.on\('orders:1'\)"
        ):
            flow.answer([[b"users:*", b"orders"]])

    def test_the_best_match_is_tried_first_on_its_own_list(self) -> None:
        flow = ask("x").answer(REFUSED).answer([[b"*", b"orders:*", b"users:*"]])

        script, read = sent(flow.last(Exchange).request)
        assert script.keys == (
            "rt:c:{orders:*}:requests", "rt:c:{orders:*}:servers", "rt:c:{orders:*}:reply:id7",
        )  # fmt: skip
        assert script.args[0] == "rt:c:{orders:*}:serve"
        assert (read.channel, read.id, read.data) == ("orders:1", "id7", "x")
        assert flow.answer(Reply("id7", 5)).result == 5

    def test_then_the_next_and_then_nobody(self) -> None:
        flow = ask().answer(REFUSED).answer([[b"*", b"orders:*"]]).answer(REFUSED)

        assert sent(flow.last(Exchange).request)[0].keys[0] == "rt:c:{*}:requests"
        with pytest.raises(NoResponders):
            flow.answer(REFUSED)

    def test_a_glob_that_has_no_utf8_form_is_no_crash(self) -> None:
        with pytest.raises(NoResponders):
            ask().answer(REFUSED).answer([[b"\xff*"]])


class TestRetries:
    @pytest.mark.parametrize("error", [RequestTimeout("late"), OutcomeUnknown("cut")])
    def test_the_same_id_with_a_higher_attempt(self, error: Exception) -> None:
        flow = ask(retries=2)
        seen = [sent(flow.last(Exchange).request)[1]]
        for _ in range(2):
            flow.fail(error)
            seen.append(sent(flow.last(Exchange).request)[1])

        assert [(read.id, read.attempt) for read in seen] == [("id7", 1), ("id7", 2), ("id7", 3)]
        with pytest.raises(type(error)):
            flow.fail(error)

    def test_a_late_success(self) -> None:
        assert ask(retries=1).fail(RequestTimeout("late")).answer(Reply("id7", 5)).result == 5

    @pytest.mark.parametrize(
        "error", [RemoteError("KeyError", "a"), EncodeError("no"), ServerUnreachable("gone")]
    )
    def test_what_is_not_retried(self, error: Exception) -> None:
        with pytest.raises(type(error)):
            ask(retries=3).fail(error)

    def test_nobody_there_is_said_at_once(self) -> None:
        flow = ask(retries=3).answer(REFUSED)
        with pytest.raises(NoResponders):
            flow.answer([[]])

    def test_a_retry_asks_the_exact_channel_first_again(self) -> None:
        flow = ask(retries=1).answer(REFUSED).answer([[b"*"]]).fail(RequestTimeout("late"))
        script, read = sent(flow.last(Exchange).request)
        assert script.keys[0] == "rt:c:{orders:1}:requests"
        assert (read.attempt, read.channel) == (2, None)


def ask_many(payloads: Sequence[Any]) -> Driven:
    calls = [
        OutgoingRequest("orders:1", f"m.{number}", data, reply_id="m") for number, data in enumerate(payloads)
    ]
    return Driven(request_many(calls, WIRE, rank, timeout_ms=5000, window=10))


class TestMany:
    def test_none(self) -> None:
        assert ask_many([]).result == []

    def test_they_share_one_reply_list(self) -> None:
        step = ask_many(["a", "b"]).last(ExchangeMany)
        assert (step.timeout_ms, step.window) == (5000, 10)
        assert {outgoing.reply_key for outgoing in step.requests} == {"rt:c:{orders:1}:reply:m"}
        assert [sent(outgoing)[1].data for outgoing in step.requests] == ["a", "b"]

    def test_each_has_its_own_outcome(self) -> None:
        late = RequestTimeout("late")
        remote = RemoteError("KeyError", "a")
        flow = ask_many("abcd").answer([Reply("m.0", 1), late, Reply("m.2", None, remote), Reply("other", 1)])

        assert flow.result[:3] == [1, late, remote]
        assert isinstance(flow.result[3], DecodeError)

    def test_those_that_were_refused_go_to_the_globs_in_turn(self) -> None:
        flow = ask_many("abc").answer([REFUSED, Reply("m.1", "exact"), REFUSED])
        flow.answer([[b"orders:*", b"*"]])

        step = flow.last(ExchangeMany)
        assert [outgoing.id for outgoing in step.requests] == ["m.0", "m.2"]
        assert {outgoing.reply_key for outgoing in step.requests} == {"rt:c:{orders:*}:reply:m"}
        flow.answer([REFUSED, Reply("m.2", "glob")])

        step = flow.last(ExchangeMany)
        assert [outgoing.id for outgoing in step.requests] == ["m.0"]
        flow.answer([REFUSED])

        assert flow.result[1:] == ["exact", "glob"]
        assert isinstance(flow.result[0], NoResponders)

    def test_no_glob_answers(self) -> None:
        flow = ask_many("ab").answer([REFUSED, REFUSED]).answer([[]])
        assert [type(outcome) for outcome in flow.result] == [NoResponders, NoResponders]
