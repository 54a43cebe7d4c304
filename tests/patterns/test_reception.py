"""What a client does with what it hears, step by step and without a server."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from redis_toolkit._core.flow import Call, ScriptCall
from redis_toolkit._core.flows.notifications import Kept, NoticeId, Position, Unread
from redis_toolkit.codecs import JSONCodec
from redis_toolkit.errors import PermissionDenied, ServerUnreachable
from redis_toolkit.message import Gap
from redis_toolkit.patterns.door import Door
from redis_toolkit.patterns.inbox import Inbox
from redis_toolkit.patterns.reception import Ask, Give, Pause, Reception, Step
from redis_toolkit.wire import Wire
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.lane import Lane

OWN, ALL = "notifications:user:ada", "notifications:broadcast"
FIRST, SECOND, THIRD = (NoticeId(1_795_392_000_000, number) for number in (1, 2, 3))
Steps = Generator[Step, Any, None]


class Client:
    """A reception, and what came of it."""

    def __init__(self) -> None:
        self.gaps: list[Gap] = []
        inbox = Inbox(Wire(JSONCodec(), 2**20), 1000, 3600)
        self.reception = Reception("ada", inbox, frozenset({OWN, ALL}), Counters(), self.gaps.append, 0.2)
        self.reception.begin(Position().moved(FIRST))

    def live(self, id: object, channel: str = OWN) -> list[str | None]:
        """Return the ids of what is given on of a live message."""
        body = JSONCodec().encode({"id": id if isinstance(id, int) else str(id)})
        return [step.message.id for step in self.reception.take(channel, body) if isinstance(step, Give)]

    def missed(self, *found: Unread) -> list[str | None]:
        """Return the ids of what is given on when something was missed, and this is found."""
        given, steps, pages = [], self.reception.take("", b""), list(found)
        step: Step | None = next(steps)
        while step is not None:
            answer = None
            if isinstance(step, Give):
                given.append(step.message.id)
            else:
                answer = pages.pop(0)
            step = sent(steps, answer)
        assert not pages
        return given

    def asks_after(self) -> str:
        """Return after which id it looks when something was missed."""
        step = next(self.reception.take("", b""))
        assert isinstance(step, Ask)
        call = next(step.flow)
        assert isinstance(call, Call)
        [script] = call.commands
        assert isinstance(script, ScriptCall)
        return str(script.args[0])


def sent(steps: Steps, answer: Any) -> Step | None:
    try:
        return steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer)
    except StopIteration:
        return None


def page(*ids: NoticeId, since: Position = Position(FIRST), **more: Any) -> Unread:  # noqa: B008  # a value
    return Unread([Kept(one, b"{}") for one in ids], 0, since=since, **more)


def test_what_was_read_is_not_given_again_when_it_comes_live() -> None:
    client = Client()
    assert client.missed(page(SECOND, more=True), page(THIRD)) == [str(SECOND), str(THIRD)]
    assert client.live(SECOND) == client.live(THIRD) == []
    assert client.asks_after() == THIRD.entry


def test_an_id_of_a_time_to_come_is_not_believed() -> None:
    client = Client()
    for made_up in (NoticeId(9 * 10**13), 7, "x"):
        assert client.live(made_up) == [None]
    assert client.live(SECOND, channel=ALL) == [None]  # not one of a broadcast
    assert client.asks_after() == FIRST.entry
    assert client.live(SECOND) == [str(SECOND)]
    assert client.asks_after() == SECOND.entry


def test_a_server_that_lost_everything_and_whose_clock_went_back_is_heard() -> None:
    client = Client()
    client.missed(page(SECOND, THIRD))
    earlier = NoticeId(FIRST.ms - 60_000)
    assert client.missed(page(since=Position(), lost=["gone"])) == []
    assert [gap.reason for gap in client.gaps] == ["gone"]
    assert client.live(earlier) == [str(earlier)]
    assert client.asks_after() == earlier.entry


def test_a_server_that_is_away_is_asked_again_and_one_that_refuses_is_not() -> None:
    client = Client()
    steps = client.reception.take("", b"")
    assert isinstance(next(steps), Ask)
    for _ in range(3):
        assert isinstance(sent(steps, ServerUnreachable("away")), Pause)
        assert isinstance(sent(steps, None), Ask)
    assert isinstance(sent(steps, page(SECOND)), Give)
    assert sent(steps, None) is None
    steps = client.reception.take("", b"")
    next(steps)
    assert sent(steps, PermissionDenied("no right")) is None
    assert [gap.reason for gap in client.gaps] == ["no right"]
    assert client.asks_after() == SECOND.entry


class Taken(Lane):
    """A lane that only notes what is put into it."""

    def __init__(self) -> None:
        self.items: list[bytes] = []

    def put(self, channel: bytes, glob: bytes | None, body: bytes) -> None:
        self.items.append(body)


def test_what_comes_too_early_waits_at_the_door_behind_what_was_missed() -> None:
    lane = Taken()
    door = Door((b"c",), lane)
    door.hear(b"c", b"1")
    assert lane.items == []
    door.begin(missed=False)
    door.hear(b"c", b"2")
    assert lane.items == [b"1", b"2"]
    door.cut(0.0, "")
    door.hear(b"c", b"3")
    assert lane.items == [b"1", b"2"]
    door.back()
    door.hear(b"c", b"4")
    assert lane.items == [b"1", b"2", b"", b"3", b"4"]


def test_a_door_that_was_cut_before_it_is_opened() -> None:
    lane = Taken()
    door = Door((b"c",), lane)
    door.cut(0.0, "")
    door.begin(missed=False)
    door.hear(b"c", b"1")
    assert lane.items == []
    door.back()
    assert lane.items == [b"", b"1"]


@pytest.mark.parametrize("begun", [True, False])
def test_who_wants_all_that_is_unread_misses_nothing_of_what_was_dropped_before(begun: bool) -> None:
    client = Client()
    if not begun:
        client.reception._begun = False
    client.missed(page(SECOND, since=Position(FIRST), lost=["dropped"]))
    assert len(client.gaps) == begun
