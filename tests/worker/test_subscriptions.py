"""What a connection was asked for, and what of it is confirmed, refused or left."""

from __future__ import annotations

from redis_toolkit.worker.subscriptions import Subscriptions


def test_a_channel_is_confirmed_when_the_last_that_was_asked_for_it_is_answered() -> None:
    found = Subscriptions()
    assert found.ask([b"a", b"b"]) == [("SUBSCRIBE", b"a"), ("SUBSCRIBE", b"b")]
    assert found.unasked([b"a", b"c"]) == [b"c"]
    found.answer(refused=False, wanted=True)
    assert (found.confirmed, found.next) == ({b"a"}, b"b")
    found.answer(refused=True, wanted=True)
    assert found.refused == {b"b"}
    found.ask([b"b"])
    found.answer(refused=False, wanted=True)
    assert (found.confirmed, found.refused) == ({b"a", b"b"}, set())


def test_what_was_left_before_it_was_answered_is_asked_for_again() -> None:
    """The answer that is on its way is older than what has left it."""
    found = Subscriptions()
    found.ask([b"a"])
    assert found.leave([b"a", b"never"]) == [("UNSUBSCRIBE", b"a")]
    assert found.unasked([b"a"]) == [b"a"]
    found.ask([b"a"])
    assert found.unasked([b"a"]) == []
    found.answer(refused=False, wanted=True)
    assert found.confirmed == set()
    found.answer(refused=False, wanted=True)
    assert found.confirmed == {b"a"}


def test_what_was_left_stays_so_whatever_is_answered() -> None:
    found = Subscriptions()
    found.ask([b"a", b"b"])
    found.leave([b"a", b"b"])
    found.answer(refused=False, wanted=True)
    found.answer(refused=True, wanted=False)
    assert (found.confirmed, found.refused) == (set(), set())
    assert found.leave([b"a"]) == []
