"""Which lists are asked: rounds against a dictionary of lists, no server."""

from __future__ import annotations

from typing import Any

import pytest

from redis_toolkit.worker.claiming import BATCH, PATIENCE, RETRY, Claims, Round


class Lists:
    """Lists and a clock; plays rounds as a server would. A list of None refuses everything."""

    def __init__(self, count: int, *, unpriced: frozenset[int] = frozenset()) -> None:
        self.now = 0.0
        self.items: dict[int, list[bytes] | None] = {number: [] for number in range(count)}
        self.claims = Claims(
            [f"k{number}" for number in range(count)],
            lambda number: None if number in unpriced else 1.0,
            now=lambda: self.now,
        )
        self.commands: list[list[bytes]] = []

    def fill(self, number: int, count: int = 1) -> None:
        waiting = self.items[number]
        assert waiting is not None
        waiting += [b"%d" % number] * count

    def round(self, budget: float = 100.0, **options: Any) -> tuple[Round, list[int]]:
        """Play one round; returns it and the lists that the claimed requests come from."""
        this = self.claims.next(budget, 2.0, **options)
        self.commands = parse(this.packet)
        assert len(self.commands) == this.replies
        claimed = self.claims.take(this, [self.answer(*command) for command in self.commands])
        return this, [number for number, _ in claimed]

    def answer(self, name: bytes, *parts: bytes) -> Any:
        keys = parts[:-1] if name != b"LLEN" else parts
        for key in keys:
            waiting = self.items[int(key[1:])]
            if waiting is None:
                return ValueError("WRONGTYPE")
            if name == b"LLEN":
                return len(waiting)
            if waiting and name == b"BLPOP":
                return [key, waiting.pop(0)]
            if waiting:
                taken, waiting[:] = waiting[: int(parts[1])], waiting[int(parts[1]) :]
                return taken
        return None


def parse(packet: bytes) -> list[list[bytes]]:
    lines, commands = iter(packet.split(b"\r\n")[:-1]), []
    for line in lines:
        parts = []
        for _ in range(int(line[1:])):
            size = int(next(lines)[1:])
            parts.append(next(lines))
            assert len(parts[-1]) == size
        commands.append(parts)
    return commands


def test_one_list_is_popped_and_swept_in_one_packet() -> None:
    lists = Lists(1)
    lists.fill(0, 150)
    _, claimed = lists.round()
    assert lists.commands == [[b"BLPOP", b"k0", b"2.0"], [b"LPOP", b"k0", b"100"]]
    assert len(claimed) == 1 + BATCH


def test_a_list_that_must_not_be_swept_is_only_popped() -> None:
    lists = Lists(2, unpriced=frozenset({0, 1}))
    lists.fill(0, 5)
    assert lists.round()[1] == [0]
    assert [command[0] for command in lists.commands] == [b"BLPOP"]


@pytest.mark.parametrize("count", [2, 17, 1000])
@pytest.mark.parametrize("budget", [1.0, 2.0, 7.0, 100.0])
def test_what_is_claimed_never_costs_more_than_the_budget(count: int, budget: float) -> None:
    lists = Lists(count)
    for number in range(count):
        lists.fill(number, 500)
    for _ in range(50):
        this, claimed = lists.round(budget)
        assert len(claimed) - this.waits <= budget


@pytest.mark.parametrize("count", [2, 16, 17, 100, 1000])
def test_a_busy_list_starves_no_other(count: int) -> None:
    lists = Lists(count)
    for number in range(1, count):
        lists.fill(number)
    missing, rounds = set(range(1, count)), 0
    while missing:
        lists.fill(0, 200)
        missing -= set(lists.round()[1])
        rounds += 1
        assert rounds < 100 + count / 10


def test_a_busy_list_among_a_thousand_gets_most_of_each_round() -> None:
    lists = Lists(1000)
    lists.fill(7, 10_000)
    got = [len(lists.round()[1]) for _ in range(20)]
    assert sum(got[10:]) > 10 * 40


def test_a_thousand_lists_with_one_request_each_need_few_rounds() -> None:
    lists = Lists(1000)
    for number in range(1000):
        lists.fill(number)
    for _ in range(40):
        lists.round()
    assert not any(lists.items.values())


def test_busy_sweeps_still_wait_on_all_lists_now_and_then() -> None:
    lists = Lists(100, unpriced=frozenset({50}))  # which a sweep never looks into
    lists.fill(50)
    for _ in range(1 + 2 * PATIENCE):
        lists.fill(0, 200)
        if 50 in lists.round()[1]:
            return
    pytest.fail("never")


def test_idle_lists_are_only_waited_for() -> None:
    lists = Lists(1000)
    for _ in range(10):
        this, claimed = lists.round()
        assert (this.waits, claimed) == (True, [])


@pytest.mark.parametrize("count", [2, 100])
def test_a_list_that_is_refused_is_set_aside_and_tried_once_a_second(count: int) -> None:
    lists = Lists(count)
    lists.items[0] = None
    while not lists.claims.refused:
        lists.round()
    assert [number for number, _ in lists.claims.refused] == [0]
    lists.claims.refused.clear()
    lists.fill(1, 3)
    assert set(lists.round()[1]) == {1}
    assert not any(b"k0" in command for command in lists.commands)
    lists.now += RETRY
    lists.round()
    assert [b"LLEN", b"k0"] in lists.commands
    lists.items[0] = []
    lists.now += RETRY
    lists.round()
    lists.fill(0)
    assert lists.round()[1] == [0]
    assert lists.claims.refused == []
    assert lists.claims.failure is None


def test_with_all_lists_set_aside_there_is_a_pause() -> None:
    lists = Lists(1)
    lists.items[0] = None
    lists.round()
    lists.round()
    lists.now += 0.25
    this, _ = lists.round()
    assert (this.replies, this.pause) == (0, RETRY - 0.25)


def test_a_refused_command_is_blamed_on_no_list() -> None:
    lists = Lists(3)
    refusal = ValueError("NOPERM")
    this = lists.claims.next(100, 2.0)
    lists.claims.take(this, [refusal] + [None] * (this.replies - 1))
    assert lists.claims.examining
    lists.round()
    assert (lists.claims.failure, lists.claims.refused) == (refusal, [])


def test_what_came_before_a_lost_connection_is_claimed() -> None:
    lists = Lists(2)
    this = lists.claims.next(100, 2.0)
    assert lists.claims.take(this, [[b"k1", b"body"]]) == [(1, b"body")]


def claimed_while_all_are_busy(lists: Lists, rounds: int) -> list[int]:
    got = []
    for _ in range(rounds):
        for number, waiting in lists.items.items():
            if not waiting:
                lists.fill(number, 200)
        got += lists.round()[1]
    return got


@pytest.mark.parametrize("count", [3, 16, 17, 200])
def test_a_list_that_must_not_be_swept_does_not_starve_beside_busy_ones(count: int) -> None:
    lists = Lists(count, unpriced=frozenset({count - 1}))
    claimed_while_all_are_busy(lists, 2 * count + 100)  # until it is known which lists can be swept
    got = claimed_while_all_are_busy(lists, 400)
    assert got.count(count - 1) >= 80
    assert len(set(got)) == count


def test_lists_that_must_not_be_swept_take_turns() -> None:
    slow = frozenset(range(10, 20))
    lists = Lists(40, unpriced=slow)
    claimed_while_all_are_busy(lists, 100)
    got = claimed_while_all_are_busy(lists, 400)
    assert all(got.count(number) >= 8 for number in slow)
