from __future__ import annotations

from typing import Any

import pytest
import redis

from redis_toolkit import keys
from redis_toolkit._core import scripts
from redis_toolkit._core.flows import notifications
from redis_toolkit._core.flows.notifications import Limits, Notice, NoticeId, Position, Unread
from tests.kit.servers import Server
from tests.lua.driving import ask, drive, entries, fields
from tests.lua.run import all_keys, expires_within, run, server_ms

OWN, DROPPED, READ = keys.notifications("7"), keys.notification_dropped("7"), keys.notification_read("7")
ALL = keys.broadcasts()
WEEK = 7 * 24 * 3600 * 1000
LIMITS = Limits(5, WEEK)


def send(server: Server, body: str = "{}", *, limits: Limits = LIMITS, **more: Any) -> NoticeId:
    return drive(server, notifications.send(Notice(body.encode(), "7", b'"7"', **more), limits))


def broadcast(server: Server, body: str = "{}", *, limits: Limits = LIMITS, **more: Any) -> NoticeId:
    return drive(server, notifications.send(Notice(body.encode(), None, b"null", **more), limits))


def unread(server: Server, user: str = "7", limits: Limits = LIMITS, **more: Any) -> Unread:
    return drive(server, notifications.unread(user, limits, **{"limit": 100, "count": True, **more}))


def ids(found: Unread) -> list[NoticeId]:
    return [item.id for item in found.items]


def mark(server: Server, *named: NoticeId, user: str = "7") -> int:
    return drive(server, notifications.mark_read(user, list(named), b"said", LIMITS))


def mark_all(server: Server, user: str = "7") -> int:
    return drive(server, notifications.mark_all(user, b"said", LIMITS))


def put_broadcast(server: Server, *, ms: int) -> NoticeId:
    """Store one as if it had been sent at another time."""
    server.execute("XADD", ALL, f"{ms}-1", "b", "{}")
    return NoticeId(ms, 1, broadcast=True)


class TestSending:
    def test_it_is_kept_and_published_with_its_id_and_time(self, server: Server) -> None:
        with server.client().pubsub() as heard:  # type: ignore[no-untyped-call]
            heard.subscribe("notifications:user:7", "notifications:all", "notifications:broadcast")
            assert [heard.get_message(timeout=30) for _ in range(3)]
            found = send(server, '{"text":"hi"}')
            everywhere = broadcast(server, timed=False)
            said = [heard.get_message(timeout=30) for _ in range(4)]
        seconds = f"{found.ms // 1000}.{found.ms % 1000:03}"
        text = f'{{"id":"{found}","timestamp":{seconds},"text":"hi"}}'
        assert [(one["channel"], one["data"]) for one in said] == [
            ("notifications:all", f'{{"user_id":"7","notification":{text}}}'),
            ("notifications:user:7", text),
            ("notifications:all", f'{{"user_id":null,"notification":{{"id":"{everywhere}"}}}}'),
            ("notifications:broadcast", f'{{"id":"{everywhere}"}}'),
        ]
        assert entries(server, OWN) == [(found.entry, {"b": '{"text":"hi"}'})]
        assert entries(server, ALL) == [(everywhere.entry, {"b": "{}"})]
        assert all_keys(server) == {OWN, ALL}
        assert expires_within(server, OWN, WEEK)
        assert expires_within(server, ALL, WEEK)

    @pytest.mark.parametrize("one", [send, broadcast])
    def test_one_id_is_one_notification(self, server: Server, one: Any) -> None:
        first = one(server, id="x")
        assert one(server, id="x") == first
        assert one(server, id="y") > first
        assert unread(server).count == 2
        for key in (keys.notification_id("7", "x"), keys.broadcast_id("x")):
            if key in all_keys(server):
                assert ask(server, "GET", key) == first.entry
                assert expires_within(server, key, notifications.ONCE_MS)

    def test_the_oldest_make_room_and_are_counted(self, server: Server) -> None:
        sent = [send(server) for _ in range(7)]
        assert ids(unread(server)) == sent[2:]
        assert fields(server, DROPPED) == {"dropped": "2", "upto": sent[1].entry}
        assert expires_within(server, DROPPED, WEEK)
        send(server, limits=Limits(2, WEEK))
        assert fields(server, DROPPED)["dropped"] == "6"
        assert drive(server, notifications.dropped("7")) == 6
        assert drive(server, notifications.dropped(None)) == 0

    def test_what_is_too_old_is_not_counted_as_unread_and_goes_with_the_next(self, server: Server) -> None:
        server.execute("XADD", OWN, "1000-0", "b", "{}")
        old = put_broadcast(server, ms=1000)
        assert unread(server).count == 0
        assert not unread(server).items
        sent = [send(server), broadcast(server)]
        assert ids(unread(server)) == sent
        assert fields(server, DROPPED) == {"upto": "1000-0"}
        assert fields(server, keys.broadcast_dropped()) == {"upto": old.entry}

    @pytest.mark.fault(25, "chat")
    def test_full_memory_refuses_it_whole_and_lets_it_be_read(self, server: Server) -> None:
        sent = send(server)
        server.execute("CONFIG", "SET", "maxmemory", "1")
        try:
            with pytest.raises(redis.ResponseError, match="maxmemory"):
                send(server, id="x")
            assert ids(unread(server)) == [sent]
            assert mark(server, sent) == 1
        finally:
            server.execute("CONFIG", "SET", "maxmemory", "0")
        assert entries(server, OWN) == []
        assert all_keys(server) == {OWN}

    @pytest.mark.fault(34, "chat")
    @pytest.mark.parametrize("key", [OWN, DROPPED, keys.notification_id("7", "x")])
    def test_a_foreign_value_leaves_no_half_effect(self, server: Server, key: str) -> None:
        server.execute("SADD", key, "foreign")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            send(server, id="x")
        assert all_keys(server) == {key}

    @pytest.mark.fault(35, "chat")
    @pytest.mark.parametrize("right", ["-publish", "-set", "-pexpire", "resetchannels"])
    def test_a_missing_right_leaves_nothing_unread(self, server: Server, right: str) -> None:
        server.execute("ACL", "SETUSER", "default", right)
        try:
            with pytest.raises(redis.ResponseError):
                send(server, id="x")
        finally:
            server.execute("ACL", "SETUSER", "default", "+@all", "allchannels")
        assert unread(server).count == 0
        assert all_keys(server) == {OWN}


class TestReading:
    def test_both_kinds_are_merged_by_time_a_page_at_a_time(self, server: Server) -> None:
        sent = [one(server) for one in (send, broadcast, broadcast, send, send, broadcast)]
        assert ids(unread(server)) == sorted(sent)
        assert unread(server).count == 6
        got: list[NoticeId] = []
        while True:
            after = Position.after(got[-1]) if got else Position()
            page = unread(server, limit=1, after=after)
            got += ids(page)
            if not page.more:
                break
        assert got == sorted(sent)

    def test_after_one_of_two_that_have_the_same_entry_id(self, server: Server) -> None:
        now = server_ms(server)
        expected = []
        for ms, number in ((now, 0), (now, 1), (now + 1, 0)):
            for key, kind in ((OWN, False), (ALL, True)):
                server.execute("XADD", key, f"{ms}-{number}", "b", "{}")
                expected.append(NoticeId(ms, number, kind))
        assert ids(unread(server)) == expected
        for place, one in enumerate(expected):
            assert ids(unread(server, after=Position.after(one))) == expected[place + 1 :]

    def test_a_user_who_was_never_seen_has_the_broadcasts_and_leaves_no_key(self, server: Server) -> None:
        sent = broadcast(server)
        assert ids(unread(server, "new")) == [sent]
        assert all_keys(server) == {ALL}

    def test_more_broadcasts_than_are_looked_at_at_once(self, server: Server) -> None:
        many = Limits(1000, WEEK)
        sent = [broadcast(server, limits=many) for _ in range(250)]
        mark(server, *sent[:120])
        mark(server, sent[200])
        assert fields(server, READ) == {"upto": sent[119].entry, sent[200].entry: "1"}
        found = unread(server, limits=many, limit=10)
        assert (ids(found), found.count, found.more) == (sent[120:130], 129, True)

    def test_what_was_dropped_behind_ones_back_is_told_once(self, server: Server) -> None:
        first = send(server)
        seen = Position().moved(first)
        assert unread(server, after=seen).lost == []
        later = [send(server) for _ in range(6)]
        found = unread(server, after=seen)
        assert len(found.lost) == 1
        assert ids(found) == later[1:]
        assert unread(server, after=found.since).lost == []

    @pytest.mark.fault(11, "chat")
    def test_what_the_server_has_lost_is_told_once(self, server: Server) -> None:
        seen = Position().moved(send(server)).moved(broadcast(server))
        server.execute("FLUSHALL")
        found = unread(server, after=seen)
        assert len(found.lost) == 2
        sent = send(server)
        again = unread(server, after=found.since)
        assert (ids(again), again.lost) == ([sent], [])

    def test_a_position_is_behind_all_that_was_sent(self, server: Server) -> None:
        assert drive(server, notifications.position("7")) == Position()
        for _ in range(7):
            send(server)
        broadcast(server)
        mark_all(server)
        now = drive(server, notifications.position("7"))
        found = unread(server, after=now)
        assert (found.items, found.lost) == ([], [])
        sent = [send(server), broadcast(server)]
        assert ids(unread(server, after=now)) == sorted(sent)


class TestMarking:
    def test_one_of_each_kind_and_the_devices_are_told(self, server: Server) -> None:
        sent = [send(server), send(server), broadcast(server), broadcast(server)]
        with server.client().pubsub() as heard:  # type: ignore[no-untyped-call]
            heard.subscribe(keys.notification_events("7"))
            assert heard.get_message(timeout=30)
            assert mark(server, sent[0], sent[3]) == 2
            assert heard.get_message(timeout=30)["data"] == "said"
        assert entries(server, OWN) == [(sent[1].entry, {"b": "{}"})]
        assert fields(server, READ) == {sent[3].entry: "1"}
        assert expires_within(server, READ, WEEK)
        assert unread(server).count == 2
        assert unread(server, "8").count == 2
        assert mark(server, sent[0], sent[3]) == 0
        assert mark(server, sent[2]) == 1
        assert fields(server, READ) == {"upto": sent[3].entry}

    def test_all(self, server: Server) -> None:
        sent = [broadcast(server), send(server), send(server), broadcast(server)]
        assert mark(server, sent[3]) == 1
        assert mark_all(server) == 3
        assert mark_all(server) == 0
        assert unread(server).count == 0
        assert entries(server, OWN) == []
        assert fields(server, READ) == {"upto": sent[3].entry}
        later = [send(server), broadcast(server)]
        assert ids(unread(server)) == sorted(later)

    def test_the_position_only_grows_whoever_comes_last(self, server: Server) -> None:
        sent = [broadcast(server) for _ in range(3)]
        mark_all(server, "7")
        slow: list[str | int] = [
            keys.notification_events("7"),
            "said",
            WEEK,
            sent[0].entry,
            "",
            0,
            sent[1].entry,
        ]
        run(server, scripts.MARK_READ, [OWN, READ], *slow)  # what another device had made up its mind to
        assert fields(server, READ) == {"upto": sent[2].entry}
        server.execute("HSET", READ, "upto", f"{server_ms(server) + 60_000}-0")
        mark(server, sent[0])
        assert unread(server).count == 0

    def test_ids_that_nobody_has_change_nothing(self, server: Server) -> None:
        broadcast(server)
        assert mark(server, NoticeId(5), NoticeId(server_ms(server) + 60_000, broadcast=True)) == 0
        assert READ not in all_keys(server)
        assert unread(server).count == 1

    def test_ids_between_those_that_there_are_are_not_kept(self, server: Server) -> None:
        now = server_ms(server)
        first, last = put_broadcast(server, ms=now - 2000), put_broadcast(server, ms=now - 1000)
        assert mark(server, NoticeId(now - 1500, 7, broadcast=True)) == 0
        assert mark(server, NoticeId(now - 1500, 8, broadcast=True), last) == 1
        assert fields(server, READ) == {last.entry: "1"}
        assert ids(unread(server)) == [first]

    @pytest.mark.fault(34, "chat")
    def test_a_foreign_value_leaves_no_half_effect(self, server: Server) -> None:
        sent = send(server)
        server.execute("SADD", READ, "foreign")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            mark(server, sent)
        assert len(entries(server, OWN)) == 1


@pytest.mark.parametrize(
    "text", ["", "x", "1", "1-", "-1", "c1-1", "b1-1 ", "1-1-1", "9" * 99 + "-1", 5, None]
)
def test_what_is_no_id(text: object) -> None:
    assert NoticeId.read(text) is None


@pytest.mark.parametrize("text", ["1795392000000-0", "b1795392000000-12"])
def test_ids_are_read_as_they_are_written(text: str) -> None:
    assert str(NoticeId.read(text)) == text
