"""What others have left behind: when it is looked for, and that suspects are taken one at a time."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from redis_toolkit._core.flows.work import Held
from redis_toolkit.worker.alone import ALONE_SECONDS, Alone
from tests.kit.servers import Server
from tests.lua.driving import pending
from tests.lua.queues import HIGH, LOW, SOURCE, submit
from tests.worker.turns import QUEUE, Turns, bodies, done


def leave(server: Server, *texts: str, delivered: int, priority: str = "low") -> None:
    """Have a dead worker leave tasks behind that were delivered so often."""
    submit(server, *texts, priority=priority)
    with Turns(server, consumer="dead") as other:
        stream = HIGH if priority == "high" else LOW
        for one in other.turn(free=100).claimed:
            how = ("IDLE", 60_000, "RETRYCOUNT", delivered, "JUSTID")
            server.execute("XCLAIM", stream, SOURCE.group, "dead", 0, one.entry, *how)


def test_the_first_look_comes_soon(server: Server) -> None:
    leave(server, "1", delivered=1)
    with Turns(server) as me:
        me.turn()
        assert me.rounds.next((), 10, 30).block == 0.5  # no longer: then it looks
        me.clock.now += 0.5
        assert bodies(me.until_claimed()) == [b'{"id":"1"}']
        me.turn()
        me.turn(block=0.01)
        assert me.rounds.next((), 10, 30).block == 3


@pytest.mark.fault(3, "durable", "tasks")
def test_what_was_delivered_once_comes_at_once_and_suspects_one_by_one(server: Server) -> None:
    leave(server, "a", "b", "c", delivered=2)
    leave(server, "x", delivered=4, priority="high")
    leave(server, "1", "2", delivered=1)
    with Turns(server) as me:
        me.rounds.hurry()
        assert bodies(me.until_claimed()) == [b'{"id":"1"}', b'{"id":"2"}']
        for name, deliveries in (("x", 5), ("a", 3), ("b", 3), ("c", 3)):
            [one] = me.until_claimed()
            assert (one.body, one.deliveries) == (b'{"id":"%s"}' % name.encode(), deliveries)
            for _ in range(3):
                assert me.turn().claimed == [], "beside a suspect"
            submit(server, "new")
            [new] = me.turn().claimed  # what is new is not held up
            me.turn(done(one), done(new))
            me.alone.leave([one])
        assert me.turn(block=0.01).claimed == []
        assert {who for who, _ in pending(server, LOW, SOURCE.group).values()} == {"me"}


@pytest.mark.fault(3, "durable", "tasks")
def test_a_process_has_one_place_for_suspects_of_all_its_sources(server: Server) -> None:
    leave(server, "a", "b", delivered=2)
    with Turns(server) as me, Turns(server, QUEUE, "another") as another:
        me.rounds.hurry()
        [one] = me.until_claimed()
        another.rounds.hurry()
        for _ in range(4):
            assert another.turn().claimed == []
            assert another.rounds.next((), 10, 30).block in (0, 0.1)  # it looks again soon
        me.turn(done(one))
        me.alone.leave([one])
        assert bodies(another.until_claimed()) == [b'{"id":"b"}']


@pytest.mark.fault(3, "durable", "tasks")
def test_one_that_takes_long_holds_up_the_others_for_a_minute(server: Server) -> None:
    leave(server, "a", "b", delivered=2)
    with Turns(server) as me:
        me.rounds.hurry()
        assert len(me.until_claimed()) == 1
        me.turn()
        me.clock.now += ALONE_SECONDS - 1
        me.turn()
        assert me.turn().claimed == []
        me.clock.now += 1
        assert bodies(me.until_claimed()) == [b'{"id":"b"}']


@pytest.mark.fault(3, "durable", "tasks")
def test_the_end_of_one_that_takes_a_moment_is_not_waited_for_in_a_block(server: Server) -> None:
    """A worker of thousands that died twice leaves thousands: 0.1 s for each would be minutes."""
    leave(server, "a", "b", "c", delivered=2)
    with Turns(server) as me:
        me.rounds.hurry()
        [one] = me.until_claimed()
        for passed, pause in ((0.0, 0.001), (0.01, 0.005), (0.08, 0.02)):
            me.clock.now += passed
            for _ in range(2):
                packet = me.rounds.next((), 10, 30)
                assert packet.block == 0
                assert me.post(packet).pause == pytest.approx(pause)
        me.clock.now += 0.1
        assert me.turn().pause == 0
        assert me.rounds.next((), 10, 30).block == 0.1
        me.alone.leave([one])
        assert bodies(me.turn().claimed) == [b'{"id":"b"}'], "with the next packet"


def test_a_lost_answer_frees_the_place(server: Server) -> None:
    leave(server, "a", delivered=2)
    with Turns(server) as me, Turns(server, QUEUE, "another") as another:
        me.rounds.hurry()
        packet = me.rounds.next((), 10, 0)
        while not any(ask.entered for ask in packet.asks):
            me.post(packet)
            packet = me.rounds.next((), 10, 0)
        assert not another.alone.enter()
        me.rounds.take(packet, [])
        assert another.alone.enter()


def test_only_the_end_of_the_suspect_frees_the_place_or_a_fork() -> None:
    alone, other = Alone(), Alone()
    suspect = Held(0, b"1-0", 3)
    assert alone.enter()
    alone.keep(suspect)
    alone.leave([Held(0, b"1-0", 2), Held(1, b"1-0", 3)])
    other.close()
    assert not other.enter()
    alone.leave([suspect])
    assert other.enter()
    Alone._forked()  # in the child
    assert alone.enter()
    alone.close()


def came_late(me: Turns, free: int = 10) -> None:
    """Claim, and look at the answer when the lease may have run out."""
    packet = me.rounds.next((), free, 0)
    replies = me.replies(packet)
    me.clock.now += 6.1
    assert me.rounds.take(packet, replies).claimed == []


@pytest.mark.fault(7, "durable", "tasks")
def test_of_what_came_late_is_begun_what_nobody_else_has(server: Server) -> None:
    """The process stood still for so long that its lease may have run out: others may run it."""
    submit(server, "1", "2", "3")
    with Turns(server) as me:
        came_late(me, 2)
        server.execute("XCLAIM", LOW, SOURCE.group, "other", 0, min(pending(server, LOW, SOURCE.group)))
        again = me.turn()
        assert me.asked == ["heartbeat"]
        assert bodies(again.claimed) == [b'{"id":"2"}']
        assert bodies(me.turn(free=1).claimed) == [b'{"id":"3"}']
        packet = me.rounds.next((), 1, 0)
        replies = me.replies(packet)
        me.clock.now += 5.9
        me.rounds.take(packet, replies)
        assert not me.rounds._doubts.held


@pytest.mark.fault(7, "durable")
def test_what_came_late_stays_in_its_order(server: Server) -> None:
    submit(server, *"12345")
    with Turns(server) as me:
        came_late(me, 2)
        late = me.rounds.next((), 1, 0)
        replies = me.replies(late)
        me.clock.now += 6.1  # once more
        assert me.rounds.take(late, replies).claimed == []
        me.rounds.take(me.rounds.next((), 1, 0), ())  # the connection was lost
        found = [body for _ in range(5) for body in bodies(me.turn(free=1).claimed)]
        assert found == [b'{"id":"%d"}' % number for number in range(1, 6)]


def test_what_came_late_is_given_back_when_nothing_is_begun_any_more(server: Server) -> None:
    submit(server, "1")
    with Turns(server) as me, Turns(server, consumer="other") as other:
        came_late(me)
        me.turn(free=0)
        assert me.asked == ["release"]
        other.rounds.hurry()
        [again] = other.until_claimed()
        assert (again.body, again.deliveries) == (b'{"id":"1"}', 1)


def test_a_server_that_does_not_answer_about_what_came_late_is_asked_again(server: Server) -> None:
    submit(server, "1", "2")
    with Turns(server) as me:
        came_late(me)
        packet = me.rounds.next((), 10, 0)
        refused = me.rounds.take(packet, [ResponseError("READONLY You can't write")])
        assert (refused.claimed, refused.refused is None) == ([], False)
        assert len(me.turn().claimed) == 2
        submit(server, "3")
        came_late(me)
        server.execute("XGROUP", "DESTROY", LOW, SOURCE.group)
        assert me.turn().claimed == []
        assert me.asked == ["heartbeat"]
        assert me.until_claimed(), "the group was made again"
