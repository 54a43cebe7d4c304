"""A lane keeps its reader going: order, overflow, lazy threads, and what a stop does with the rest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from redis_toolkit.message import Gap
from redis_toolkit.settings import Settings
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.lane import Lane
from tests.kit.waiting import eventually
from tests.worker.fakes import handler_of, no_threads_left

DEADLINE = 30.0


class Rig:
    """A lane, what its handler got, and what it reported. The handler waits while `gate` is closed."""

    def __init__(self, function: Callable[..., Any] | None = None, **settings: Any) -> None:
        concurrency = settings.pop("concurrency", None)
        self.got: list[Any] = []
        self.gaps: list[Gap] = []
        self.counters = Counters()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        handler = handler_of(function or self._handle, "news", "new?", concurrency=concurrency)
        self.lane = Lane(handler, Settings(**settings), self.gaps.append, self.counters)

    def _handle(self, data: Any) -> None:
        self.entered.release()
        assert self.gate.wait(DEADLINE)
        self.got.append(data)

    def put(self, *numbers: int, body: bytes = b"%d") -> None:
        for number in numbers:
            self.lane.put(b"news", None, body % number)

    def stop(self, seconds: float = DEADLINE) -> bool:
        return self.lane.stop(time.monotonic() + seconds)


@pytest.fixture(autouse=True)
def all_threads_end() -> Iterator[None]:
    with no_threads_left("rt-lane"):
        yield


def test_messages_are_handled_in_order() -> None:
    rig = Rig()
    rig.put(*range(2000))
    assert rig.stop()
    assert rig.got == list(range(2000))
    assert rig.gaps == []


def test_a_handler_sees_channel_glob_and_headers() -> None:
    seen: list[tuple[str, Any]] = []
    rig = Rig(lambda data, channel: seen.append((channel, data)))
    rig.lane.put("né".encode(), b"n?", b'{"rt": 1, "data": 5, "headers": {"a": "b"}}')
    assert rig.stop()
    assert seen == [("né", 5)]


def test_the_thread_starts_with_the_first_message() -> None:
    rig = Rig()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rt-lane")]
    rig.put(1)
    assert [thread for thread in threading.enumerate() if thread.name.startswith("rt-lane")]
    assert rig.stop()


def test_putting_never_waits_and_a_full_lane_drops_its_oldest() -> None:
    rig = Rig(lane_messages=10)
    rig.gate.clear()
    rig.put(0)
    assert rig.entered.acquire(timeout=DEADLINE)
    rig.put(*range(1, 101))  # returns although nobody takes any
    rig.gate.set()
    assert rig.stop()
    assert rig.got == [0, *range(91, 101)]
    [gap] = rig.gaps
    assert gap.dropped == 90
    assert gap.channels == ("news", "new?")
    assert gap.started <= gap.ended
    assert "too slow" in gap.reason
    assert rig.counters.snapshot() == {"overflowed": 90}


def test_a_lane_is_full_by_bytes_as_well() -> None:
    rig = Rig(lane_bytes=100)
    rig.gate.clear()
    rig.put(0)
    assert rig.entered.acquire(timeout=DEADLINE)
    rig.put(*range(1, 31), body=b"%010d".replace(b"%", b"1%"))  # 11 bytes each: 9 fit
    rig.gate.set()
    assert rig.stop()
    assert [data % 100 for data in rig.got] == [0, *range(22, 31)]
    assert [gap.dropped for gap in rig.gaps] == [21]


def test_each_episode_of_overflow_is_one_gap() -> None:
    rig = Rig(lane_messages=4)
    for numbers, gaps in ((range(1, 10), 1), (range(1, 11), 2)):
        rig.gate.clear()
        rig.put(0)
        assert rig.entered.acquire(timeout=DEADLINE)
        rig.put(*numbers)
        rig.gate.set()
        eventually(lambda gaps=gaps: len(rig.gaps) == gaps and len(rig.got) == 5 * gaps)  # type: ignore[misc]
        while rig.entered.acquire(blocking=False):
            pass
    assert rig.stop()
    assert [gap.dropped for gap in rig.gaps] == [5, 6]


def test_an_inactive_lane_takes_nothing() -> None:
    rig = Rig()
    rig.lane.active = False
    rig.put(1)
    assert rig.stop()
    assert rig.got == []


def test_what_cannot_be_handled_is_counted_and_the_next_goes_on() -> None:
    def fail(number: int, word: str) -> None:
        if number == 1:
            raise SystemExit("a handler ends no thread")
        got.append(number)

    got: list[int] = []
    rig = Rig(fail)
    for body in (b"\xff\x00garbage", b'"no map"', b'{"number": 1, "word": ""}', b'{"number": 2, "word": ""}'):
        rig.lane.put(b"news", None, body)
    assert rig.stop()
    assert got == [2]
    assert rig.counters.snapshot() == {"undecodable": 1, "mismatched": 1, "failed": 1}


def test_with_concurrency_handlers_run_beside_each_other() -> None:
    together = threading.Barrier(4)
    rig = Rig(lambda data: together.wait(DEADLINE), concurrency=4)
    rig.put(*range(4))
    assert rig.stop()
    assert rig.counters.snapshot() == {}


def test_a_burst_at_an_idle_lane_wakes_enough_threads() -> None:
    together = threading.Barrier(3)
    first = threading.Event()

    def meet(data: int) -> None:
        if data == 0:
            first.set()
        else:
            together.wait(DEADLINE)

    rig = Rig(meet, concurrency=3)
    rig.put(0)
    assert first.wait(DEADLINE)
    rig.put(1, 2, 3)  # one thread is there, and takes one of them
    assert rig.stop()
    assert rig.counters.snapshot() == {}


def test_concurrency_starts_no_more_threads_than_allowed() -> None:
    rig = Rig(concurrency=2)
    rig.gate.clear()
    rig.put(*range(10))
    for _ in range(2):
        assert rig.entered.acquire(timeout=DEADLINE)
    assert not rig.entered.acquire(timeout=0.05)
    rig.gate.set()
    assert rig.stop()
    assert sorted(rig.got) == list(range(10))


def test_a_stop_gives_up_at_its_deadline_and_nothing_more_is_handled() -> None:
    rig = Rig()
    rig.gate.clear()
    rig.put(*range(100))
    assert rig.entered.acquire(timeout=DEADLINE)
    assert not rig.stop(seconds=0.02)
    rig.gate.set()
    for thread in threading.enumerate():
        if thread.name.startswith("rt-lane"):
            thread.join(DEADLINE)
    assert rig.got == [0]


def test_a_handler_may_stop_its_own_lane() -> None:
    rig = Rig(lambda data: stopped.append(rig.stop()))
    stopped: list[bool] = []
    rig.put(1)
    eventually(lambda: stopped == [True], what="the end of the stop")
