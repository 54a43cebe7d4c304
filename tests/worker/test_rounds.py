"""Packets by hand: what is asked when, and what the replies of every kind of server mean."""

from __future__ import annotations

from typing import Any

import pytest

from redis_toolkit import KeyConflict, PermissionDenied
from redis_toolkit._core.flows import durable, events, leases
from redis_toolkit._core.flows.events import Event
from redis_toolkit._core.recovery import Fate
from redis_toolkit.jobs import Durable
from redis_toolkit.worker.packet import Packet
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.lua.driving import drive, pending
from tests.lua.queues import DELAYED, HIGH, LOW, SOURCE, submit
from tests.worker.turns import GROUP, Turns, bodies, done, later, ok

LOG = GROUP.source.streams[1]


def publish(server: Server, *texts: str) -> list[str]:
    some = [Event(text.encode()) for text in texts]
    published: list[Any] = drive(server, events.publish_many("c", some))
    return [one.entry for one in published]


def in_group(server: Server, of: Durable = GROUP) -> Turns:
    turns = Turns(server, of)
    assert drive(server, turns.rounds.begin())
    return turns


# -- claiming -------------------------------------------------------------------------------------


def test_it_sweeps_in_order_and_waits_when_nothing_is_there(server: Server) -> None:
    submit(server, "l")
    submit(server, "h", priority="high")
    with Turns(server) as me:
        assert bodies(me.turn(block=1).claimed) == [b'{"id":"h"}', b'{"id":"l"}']
        assert me.asked == ["claim"]
        assert me.turn(block=1).claimed == []
        assert me.asked == ["claim"]
        packet = me.rounds.next((), 10, 0.05)
        assert packet.block == 0.05
        assert me.post(packet).claimed == []
        assert me.asked == ["XREADGROUP", "EXISTS"]
        submit(server, "2", "3")
        assert bodies(me.turn(block=30).claimed) == [b'{"id":"2"}']
        assert me.asked == ["XREADGROUP", "EXISTS"]
        assert bodies(me.turn(block=30).claimed) == [b'{"id":"3"}']
        assert me.asked == ["claim"]


def test_it_does_not_wait_unless_it_may(server: Server) -> None:
    with Turns(server) as me:
        for _ in range(3):
            assert me.rounds.next((), 10, 0).block == 0
            me.turn()
            assert me.asked == ["claim"]


def test_with_no_room_it_only_settles(server: Server) -> None:
    submit(server, "1")
    with Turns(server) as me:
        [claimed] = me.turn().claimed
        assert me.turn(done(claimed), free=0).counted == [done(claimed)]
        assert me.asked == ["settle"]
        assert me.rounds.next((), 0, 1) == Packet(sent=me.clock.now)


def test_an_end_that_somebody_may_wait_for_is_not_settled_in_front_of_a_wait(server: Server) -> None:
    submit(server, *"123")
    with Turns(server) as me:
        one, two, three = me.turn().claimed
        me.turn(block=30)  # nothing: it would wait now
        me.turn(done(one), block=30)
        assert me.asked == ["settle", "claim"]
        me.turn(ok(two), later(three), block=0.05)
        assert me.asked == ["settle", "XREADGROUP", "EXISTS"]


def test_a_backlog_is_claimed_from_its_own_stream(server: Server) -> None:
    submit(server, *map(str, range(70)))
    with Turns(server) as me:
        assert len(me.turn(free=20).claimed) == 20
        assert len(me.turn(free=20).claimed) == 20
        assert me.asked == ["claim", "XREADGROUP"]
        submit(server, "urgent", priority="high")
        found = me.turn(free=20).claimed
        assert (len(found), found[0].body) == (21, b'{"id":"urgent"}')  # what is urgent comes on top
        assert len(me.turn(free=20).claimed) == 10
        assert me.asked == ["claim", "XREADGROUP"]
        assert me.turn(free=20).claimed == []
        assert me.asked == ["claim"]


def test_a_backlog_in_a_higher_stream_goes_first(server: Server) -> None:
    submit(server, *map(str, range(60)))
    with Turns(server) as me:
        me.turn(free=20)
        submit(server, *(f"h{number}" for number in range(60)), priority="high")
        assert len(me.turn(free=20).claimed) == 40
        assert {one.stream for one in me.turn(free=20).claimed} == {0}


def test_with_few_places_no_more_is_claimed_than_fits(server: Server) -> None:
    submit(server, *"1234")
    submit(server, "h", priority="high")
    with Turns(server) as me:
        for _ in range(5):
            assert len(me.turn(free=1).claimed) == 1
            assert me.asked == ["claim"]


def test_claims_tell_what_is_due_and_that_something_was_cancelled(server: Server) -> None:
    with Turns(server) as me:
        me.turn()
        [(now, due)] = me.due
        assert due is None
        assert me.cancelled == []
        server.execute("ZADD", DELAYED, now + 5000, "x")
        server.execute("ZADD", SOURCE.cancelled, now + 5000, "y")
        me.turn()
        assert me.due[1][1] == now + 5000
        assert me.cancelled == ["y"]


# -- settling -------------------------------------------------------------------------------------


def test_settlements_count_or_are_lost(server: Server) -> None:
    submit(server, *"123")
    with Turns(server) as me:
        one, two, three = me.turn().claimed
        server.execute("XCLAIM", LOW, SOURCE.group, "other", 0, two.entry)
        server.execute("RPUSH", "someone", "waits")
        server.execute("HSET", SOURCE.waiters, "1", "rt:i:{x}\nrt:i:{y}")
        taken = me.turn(done(one, "1"), done(two, "2"), ok(three))
        assert (taken.counted, taken.lost) == ([done(one, "1"), ok(three)], [done(two, "2")])
        assert taken.waiters == [(b"1", ["rt:i:{x}", "rt:i:{y}"])]
        assert taken.unsettled == []
        assert pending(server, LOW, SOURCE.group) == {two.entry.decode(): ("other", 2)}


def test_settling_twice_counts_once(server: Server) -> None:
    submit(server, "1")
    with Turns(server) as me:
        [one] = me.turn().claimed
        assert me.post(me.rounds.settle([done(one)])).counted == [done(one)]
        assert me.post(me.rounds.settle([done(one)])).lost == [done(one)]


def test_what_the_server_refuses_is_unsettled_and_can_be_sent_again(server: Server) -> None:
    submit(server, *"12")
    with Turns(server) as me:
        one, two = me.turn().claimed
        server.execute("SET", SOURCE.bodies, "a foreign value")
        taken = me.turn(later(one, "1"), ok(two))
        assert taken.counted == [ok(two)]
        [(unsettled, why)] = taken.unsettled
        assert unsettled == later(one, "1")
        assert "WRONGTYPE" in why
        server.execute("DEL", SOURCE.bodies)
        assert me.turn(unsettled).counted == [unsettled]


def test_a_batch_that_the_server_refuses_is_unsettled_as_a_whole(server: Server) -> None:
    submit(server, *"12")
    with Turns(server) as me:
        both = [done(claimed) for claimed in me.turn().claimed]
        server.execute("RENAME", LOW, "{q}away")
        server.execute("SET", LOW, "a foreign value")
        taken = me.post(me.rounds.settle(both))
        assert [one for one, _ in taken.unsettled] == both
        assert all("WRONGTYPE" in why for _, why in taken.unsettled)
        server.execute("RENAME", "{q}away", LOW)
        assert me.post(me.rounds.settle(both)).counted == both


def test_in_full_memory_what_needs_more_is_unsettled_and_what_ends_is_not(own_server: Server) -> None:
    submit(own_server, *"12")
    with Turns(own_server) as me:
        one, two = me.turn().claimed
        own_server.execute("CONFIG", "SET", "maxmemory", 1)
        taken = me.turn(ok(one), later(two))
        assert taken.counted + [one for one, _ in taken.unsettled] == [ok(one), later(two)]
        own_server.execute("CONFIG", "SET", "maxmemory", 0)
        assert len(me.turn(*[one for one, _ in taken.unsettled]).counted) == len(taken.unsettled)


def test_settlements_of_a_group_that_is_gone_are_lost(server: Server) -> None:
    submit(server, "1")
    with Turns(server) as me:
        [one] = me.turn().claimed
        server.execute("DEL", LOW)
        taken = me.turn(done(one))
        assert taken.lost == [done(one)]
        assert taken.refused is None
        assert me.lost == 1  # the claim has made it again


# -- a connection that is lost --------------------------------------------------------------------


def test_what_was_answered_before_the_connection_was_lost_counts(server: Server) -> None:
    submit(server, *map(str, range(40)))
    with Turns(server) as me:
        claimed = me.turn(free=20).claimed
        packet = me.rounds.next([done(one) for one in claimed], 20, 0)
        replies = me.replies(packet)
        assert me.asked == ["settle", "claim", "XREADGROUP"]
        nothing = me.rounds.take(packet, [])
        assert nothing.unanswered == [done(one) for one in claimed]
        assert (nothing.counted, nothing.claimed) == ([], [])
        half = me.rounds.take(packet, replies[:1])
        assert (len(half.counted), half.unanswered, half.claimed) == (20, [], [])
        some = me.rounds.take(packet, replies[:2])
        assert (len(some.counted), some.claimed) == (20, [])
        assert len(me.rounds.take(packet, replies).claimed) == 20


def test_what_was_claimed_by_an_answer_that_was_lost_comes_again_after_the_lease(server: Server) -> None:
    submit(server, "1")
    with Turns(server, lease=0.05) as me:
        me.rounds.take(packet := me.rounds.next((), 10, 0), me.replies(packet)[:0])
        me.rounds.distrust()
        me.clock.now += 10
        [one] = me.until_claimed()
        assert (one.body, one.deliveries) == (b'{"id":"1"}', 2)
        assert me.turn(done(one)).counted == [done(one)]


def test_scripts_that_the_server_has_forgotten_go_again(server: Server) -> None:
    submit(server, *map(str, range(40)))
    with Turns(server) as me:
        claimed = me.turn(free=20).claimed
        server.execute("SCRIPT", "FLUSH")
        packet = me.rounds.next([done(one) for one in claimed], 20, 0)
        replies = me.replies(packet)
        assert me.rounds.missing(replies) == []
        taken = me.rounds.take(packet, replies)
        assert (len(taken.counted), len(taken.claimed)) == (20, 20)


# -- others' work ---------------------------------------------------------------------------------


def test_it_takes_over_what_was_left_for_a_lease(server: Server) -> None:
    submit(server, "1")
    with Turns(server, consumer="dead") as other:
        other.turn()
    with Turns(server, lease=0.05) as me:
        me.turn()
        me.turn(block=0.01)
        assert me.asked == ["XREADGROUP", "EXISTS"]
        me.clock.now += 3.1
        [one] = me.until_claimed()
        assert me.asked == ["recover", "recover"]
        assert (one.deliveries, pending(server, LOW, SOURCE.group)) == (2, {one.entry.decode(): ("me", 2)})


def test_looking_for_it_does_not_wait_and_costs_a_command_for_each_stream(server: Server) -> None:
    with Turns(server) as me:
        me.turn()
        me.clock.now += 3.1
        packet = me.rounds.next((), 10, 2)
        assert (len(packet.commands), packet.block) == (2, 0)
        me.post(packet)
        assert me.asked == ["XPENDING", "XPENDING"]
        me.turn(block=0.01)
        assert me.asked == ["XREADGROUP", "EXISTS"]
        submit(server, "1")
        me.turn(block=0.01)
        me.clock.now += 3.1
        me.turn()
        assert me.asked == ["XPENDING", "XPENDING", "claim"]  # with a claim that does not wait


def test_what_was_released_is_taken_at_once_when_somebody_says_so(server: Server) -> None:
    submit(server, "1", "2")
    with Turns(server, consumer="other") as other, Turns(server) as me:
        one, two = other.turn().claimed
        me.turn()
        assert other.post(other.rounds.release([one])).refused is None
        assert me.turn(block=0.01).claimed == []
        me.rounds.hurry()
        [again] = me.until_claimed()
        assert (again.entry, again.deliveries) == (one.entry, 1)
        assert pending(server, LOW, SOURCE.group)[two.entry.decode()] == ("other", 1)


def test_after_a_lost_connection_others_are_given_time(server: Server) -> None:
    submit(server, "1")
    with Turns(server, consumer="other") as other, Turns(server) as me:
        other.post(other.rounds.release(other.turn().claimed))
        me.rounds.distrust()
        me.rounds.hurry()
        me.turn()
        me.clock.now += 7.4
        for _ in range(3):
            me.turn(block=0.01)
            assert "XPENDING" not in me.asked
        me.clock.now += 0.2
        assert len(me.until_claimed()) == 1


def test_an_answer_that_took_long_counts_like_a_lost_connection(server: Server) -> None:
    submit(server, "1")
    with Turns(server, consumer="other") as other, Turns(server) as me:
        other.post(other.rounds.release(other.turn().claimed))
        me.rounds.hurry()
        packet = me.rounds.next((), 10, 0)
        replies = me.replies(packet)
        assert "XPENDING" in me.asked
        me.clock.now += 1.1
        me.rounds.take(packet, replies)
        me.turn()
        assert "recover" not in me.asked
        me.clock.now += 7.6
        assert len(me.until_claimed()) == 1


def test_more_than_fits_is_taken_in_several_turns(server: Server) -> None:
    submit(server, *map(str, range(5)))
    with Turns(server, consumer="other") as other, Turns(server) as me:
        other.post(other.rounds.release(other.turn().claimed))
        me.rounds.hurry()
        assert [len(me.until_claimed(free=2)) for _ in range(3)] == [2, 2, 1]


# -- pausing --------------------------------------------------------------------------------------


def test_a_paused_source_is_asked_whether_it_still_is(server: Server) -> None:
    submit(server, "1")
    drive(server, leases.pause(SOURCE))
    with Turns(server) as me:
        for asked in (["claim"], ["EXISTS"], ["EXISTS"]):
            taken = me.turn(block=30)
            assert (me.asked, taken.claimed, taken.pause) == (asked, [], 2.0)
        drive(server, leases.resume(SOURCE))
        assert me.turn(block=30).pause == 0
        assert len(me.turn(block=30).claimed) == 1


def test_what_was_taken_while_it_was_being_paused_is_given_back(server: Server) -> None:
    with Turns(server) as me:
        me.turn()
        packet = me.rounds.next((), 10, 30)
        assert packet.block
        submit(server, "1")
        drive(server, leases.pause(SOURCE))
        assert me.post(packet).claimed == []
        assert me.turn(block=30).claimed == []
        assert me.asked == ["release", "EXISTS"]
        drive(server, leases.resume(SOURCE))
        me.rounds.hurry()
        [one] = me.until_claimed()
        assert one.deliveries == 1


def test_a_backlog_is_given_back_too(server: Server) -> None:
    submit(server, *map(str, range(60)))
    with Turns(server) as me:
        claimed = me.turn(free=20).claimed
        drive(server, leases.pause(SOURCE))
        assert me.turn(*map(done, claimed), free=20).claimed == []
        assert me.asked == ["settle", "claim", "XREADGROUP"]
        me.turn(free=20)
        assert me.asked == ["release", "EXISTS"]


def test_when_it_is_said_to_be_paused_it_asks_first(server: Server) -> None:
    submit(server, "1")
    woken: list[str] = []
    with Turns(server) as me:
        me.rounds.awake = lambda: woken.append("awake")
        me.rounds.pause()
        me.turn()
        assert me.asked == ["EXISTS"]
        assert len(me.turn().claimed) == 1
        me.rounds.resume()
        assert woken == ["awake"]


# -- state that is lost ---------------------------------------------------------------------------


def test_a_queue_that_was_lost_is_made_again_and_said_to_be(server: Server) -> None:
    with Turns(server) as me:
        me.turn()
        me.turn(block=0.01)
        assert me.lost == 0
        server.execute("FLUSHALL")
        submit(server, "1")
        assert bodies(me.until_claimed()) == [b'{"id":"1"}']
        assert me.lost == 1


def test_a_stream_that_is_reached_later_was_not_lost(server: Server) -> None:
    submit(server, *"1234", priority="high")
    with Turns(server) as me:
        assert len(me.turn(free=2).claimed) == 2
        assert server.execute("EXISTS", LOW) == 0
        assert len(me.turn(free=3).claimed) == 2
        assert server.execute("EXISTS", LOW) == 1
        assert me.lost == 0
        server.execute("XGROUP", "DESTROY", LOW, SOURCE.group)
        me.turn()
        assert me.lost == 1


def test_a_group_that_was_destroyed_goes_on_at_the_last_id_seen(server: Server) -> None:
    with in_group(server) as me:
        publish(server, *"abc")
        first = me.turn().claimed
        assert bodies(first) == [b"a", b"b", b"c"]
        me.turn(*map(ok, first))
        publish(server, "d")
        server.execute("XGROUP", "DESTROY", LOG, "g")
        publish(server, "e")
        assert bodies(me.until_claimed()) == [b"d", b"e"]
        assert me.lost == 1


def test_a_log_that_is_younger_is_taken_from_its_beginning(server: Server) -> None:
    with in_group(server) as me:
        publish(server, *"abc")
        me.turn()
        me.turn(block=0.01)
        server.execute("FLUSHALL")
        server.execute("XADD", LOG, "1-1", "b", "new")
        assert bodies(me.until_claimed()) == [b"new"]
        assert me.lost == 1


def test_a_group_destroyed_before_it_had_claimed_goes_on_where_it_began(server: Server) -> None:
    with in_group(server) as me:
        publish(server, *"ab")
        server.execute("XGROUP", "DESTROY", LOG, "g")
        assert bodies(me.until_claimed()) == [b"a", b"b"]


def test_while_it_takes_again_what_it_put_off_a_lost_log_is_noticed(server: Server) -> None:
    with in_group(server) as me:
        me.turn()
        server.execute("XADD", GROUP.source.streams[0], "*", "b", "again", "i", "1-0")
        server.execute("DEL", LOG)
        found = me.until_claimed()
        assert (bodies(found), found[0].id) == ([b"again"], b"1-0")
        assert me.turn().refused is None
        assert server.execute("EXISTS", LOG) == 1
        assert me.lost == 1


def test_the_limit_of_a_group_is_set_again(server: Server) -> None:
    of = Durable(GROUP.source, {}, "c", is_queue=False, max_backlog=5, drop=True)
    with in_group(server, of=of) as me:
        me.turn()
        server.execute("FLUSHALL")
        eventually(lambda: me.turn().refused is None and server.execute("EXISTS", LOG))
        [group] = drive(server, durable.groups("c"))
        assert group.limit == "5 drop"


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [0.0, 0.01])
def test_a_foreign_value_in_the_way_is_named(server: Server, block: float) -> None:
    with Turns(server) as me:
        me.turn()
        server.execute("DEL", HIGH)
        server.execute("SET", HIGH, "a foreign value")
        me.turn(block=block)
        taken = me.turn(block=block)
        assert taken.refused is not None
        assert taken.refused.fate is Fate.REFUSED
        assert isinstance(taken.refused.error, KeyConflict)
        assert taken.pause == 1.0
        server.execute("DEL", HIGH)
        submit(server, "1", priority="high")
        assert len(me.until_claimed()) == 1


def test_a_foreign_value_behind_what_was_taken_is_named_too(server: Server) -> None:
    submit(server, "1", priority="high")
    server.execute("SET", LOW, "a foreign value")
    with Turns(server) as me:
        taken = me.turn()
        assert len(taken.claimed) == 1
        assert taken.refused is not None
        assert isinstance(taken.refused.error, KeyConflict)


def test_a_right_that_is_missing_is_named(own_server: Server) -> None:
    submit(own_server, "1")
    with Turns(own_server) as me:
        [one] = me.turn().claimed
        own_server.execute("ACL", "SETUSER", "default", "-xreadgroup", "-xpending")
        taken = me.turn(done(one))
        assert taken.refused is not None
        assert isinstance(taken.refused.error, PermissionDenied)
        assert "xreadgroup" in str(taken.refused.error).lower()
        assert [unsettled for unsettled, _ in taken.unsettled] == [done(one)]
        own_server.execute("ACL", "SETUSER", "default", "+@all")
        assert me.turn(done(one)).counted == [done(one)]


def test_a_group_that_does_not_stay_is_refused_in_the_end(server: Server) -> None:
    """Somebody destroys it as often as it is made."""
    with in_group(server) as me:
        server.execute("XGROUP", "DESTROY", LOG, "g")
        [gone] = me.replies(packet := me.rounds.next((), 10, 0))
        taken = me.rounds.take(packet, [gone])
        for _ in range(3):
            assert taken.refused is None
            made, _ = me.replies(packet := me.rounds.next((), 10, 0))
            assert me.asked == ["group", "claim"]
            taken = me.rounds.take(packet, [made, gone])
        assert taken.refused is not None
        assert taken.pause == 1.0


@pytest.mark.fault(19, "durable", "tasks")
def test_claims_that_are_late_or_lost_become_smaller_until_they_come_in_time(server: Server) -> None:
    """Large payloads on a slow way here: the same claim again would be late again, for ever."""
    submit(server, *map(str, range(100)))
    with Turns(server) as me:
        for expected in (40, 20, 10):
            packet = me.rounds.next((), 40, 0)
            replies = me.replies(packet)
            me.clock.now += 7
            assert me.rounds.take(packet, replies).claimed == []
            assert len(me.turn().claimed) == expected, "what is still ours"
        packet = me.rounds.next((), 40, 0)
        me.replies(packet)
        assert me.rounds.take(packet, ()).claimed == []  # the connection was lost
        assert [len(me.turn(free=40).claimed) for _ in range(3)] == [2, 4, 8]
