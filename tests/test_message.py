from __future__ import annotations

import dataclasses

import pytest

from redis_toolkit import ExactChannel, Gap, Headers, Message


def test_a_message_has_defaults_for_what_only_requests_have() -> None:
    message = Message("orders", {"a": 1})
    assert (message.headers, message.id, message.pattern, message.attempt) == (Headers(), None, None, 1)


def test_messages_do_not_share_headers() -> None:
    one, other = Message("a", None), Message("a", None)
    one.headers["x"] = "y"
    assert other.headers == {}


def test_equal_messages_are_equal() -> None:
    assert Message("a", [1], Headers(x="y"), "7") == Message("a", [1], Headers(x="y"), "7")
    assert Message("a", [1]) != Message("a", [2])


def test_an_exact_channel_is_text() -> None:
    channel = ExactChannel("what?")
    assert channel == "what?"
    assert hash(channel) == hash("what?")
    assert isinstance(channel, str)
    with pytest.raises(AttributeError):
        channel.anything = 1  # type: ignore[attr-defined]


def test_a_gap_cannot_be_changed() -> None:
    gap = Gap(("a", "b:*"), 1.0, 2.0, "connection lost")
    assert gap.dropped is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        gap.reason = "other"  # type: ignore[misc]
