from __future__ import annotations

import copy
import dataclasses

import pytest

from redis_toolkit import App, ConfigurationError, ExactChannel, Gap, Headers, Message
from redis_toolkit.binding import Binding


def test_a_message_has_defaults_for_what_only_requests_have() -> None:
    message = Message("orders", {"a": 1})
    assert (message.headers, message.id, message.pattern) == (Headers(), None, None)
    assert (message.attempt, message.deliveries) == (1, 1)


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


def handled(message: Message, app: App | None) -> Message:
    """Return a message as a handler gets it."""
    seen: list[Message] = []

    def handler(message: Message) -> None:
        seen.append(message)

    Binding(handler, app).call(message)
    return seen[0]


def test_a_handled_message_is_the_same_in_every_other_way() -> None:
    plain = Message("a", {"b": 1}, Headers(x="y"), "7", "a*", 2, 3)
    message = handled(Message("a", {"b": 1}, Headers(x="y"), "7", "a*", 2, 3), App("redis://127.0.0.1:1/0"))
    assert message == plain
    assert repr(message) == repr(plain)
    assert dataclasses.asdict(message) == dataclasses.asdict(plain)
    assert dataclasses.replace(message, data=2) == dataclasses.replace(plain, data=2)
    assert copy.deepcopy(message) == copy.copy(message) == plain


def test_only_what_a_handler_of_an_app_was_given_can_ask_the_server() -> None:
    given = handled(Message("a", 1), App("redis://127.0.0.1:1/0"))
    for message in (Message("a", 1), handled(Message("a", 1), None), copy.copy(given)):
        with pytest.raises(ConfigurationError, match=r"^once\(\) asks the server.*message: Message"):
            message.once("k", ttl=1)
        with pytest.raises(ConfigurationError, match=r"^aonce\(\)"):
            message.aonce("k", ttl=1)
    given.once("k", ttl=1)  # nothing is asked before it is entered
