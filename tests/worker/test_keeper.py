"""The keeper: what is held stays ours, what is lost is noticed, and the clock is in time."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from redis_toolkit import ServerUnreachable
from redis_toolkit._core.connection import Connections
from redis_toolkit._core.flows import durable, events
from redis_toolkit._core.flows.events import Event
from redis_toolkit.worker.consumer import Consumer
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.heartbeat import ServerClock
from redis_toolkit.worker.keeper import Keeper
from tests.kit.ports import HOST, free_port
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.lua.driving import ask, drive, pending
from tests.lua.queues import GROUP, HIGH, LOW, submit
from tests.worker.fakes import no_threads_left
from tests.worker.holding import age, consumer_of, hold, idle_ms, item_of, running
from tests.worker.turns import GROUP as EVENTS


@pytest.fixture(autouse=True)
def all_threads_end() -> Iterator[None]:
    with no_threads_left("rt-keeper"):
        yield


class Kept:
    """A keeper of some consumers."""

    def __init__(self, url: str, *consumers: Consumer) -> None:
        self.clock, self.counters = ServerClock(), Counters()
        self.keeper = Keeper(consumers, Connections(url), self.clock, self.counters)
        self.start, self.stop = self.keeper.start, self.keeper.stop


def young(server: Server, stream: str, entry: bytes, ms: int = 50_000) -> bool:
    return idle_ms(server, stream, GROUP)[entry.decode()] < ms


def test_it_renews_what_is_held_and_nothing_else(bus: Server) -> None:
    submit(bus, "1", "2")
    submit(bus, "h", priority="high")
    me = consumer_of()
    high, low, dropped = hold(me, bus)
    for stream, item in ((HIGH, high), (LOW, low), (LOW, dropped)):
        age(bus, stream, GROUP, item)
    me.holdings.remove([dropped.claimed])
    with running(Kept(bus.url, me)):
        eventually(lambda: young(bus, LOW, low.claimed.entry))
        eventually(lambda: young(bus, HIGH, high.claimed.entry))
    assert not young(bus, LOW, dropped.claimed.entry)
    assert pending(bus, LOW, GROUP)[low.claimed.entry.decode()] == ("me", 1)


def test_each_consumer_has_its_own_lease(bus: Server) -> None:
    submit(bus, "1")
    slow, quick = consumer_of(lease=4000), consumer_of(EVENTS)
    drive(bus, durable.make_group(durable.group_call("c", "g", after="0")))
    [one] = hold(slow, bus)
    age(bus, LOW, GROUP, one)
    kept = Kept(bus.url, slow, quick)
    with running(kept):
        eventually(lambda: young(bus, LOW, one.claimed.entry), what="the first beat of all")
        age(bus, LOW, GROUP, one)
        drive(bus, events.publish("c", Event(b"1")))
        log = EVENTS.source.streams[1]
        [event] = hold(quick, bus)
        age(bus, log, "g", event)
        eventually(lambda: idle_ms(bus, log, "g")[event.claimed.entry.decode()] < 50_000)
        assert not young(bus, LOW, one.claimed.entry)


def test_what_somebody_else_has_is_lost_and_stays_theirs(
    bus: Server, caplog: pytest.LogCaptureFixture
) -> None:
    submit(bus, "1", "2")
    me = consumer_of()
    mine, theirs = hold(me, bus)
    bus.execute("XCLAIM", LOW, GROUP, "other", 0, theirs.claimed.entry)
    kept = Kept(bus.url, me)
    with running(kept):
        eventually(lambda: theirs.lost)
        age(bus, LOW, GROUP, mine)
        eventually(lambda: young(bus, LOW, mine.claimed.entry), what="a beat after that")
    assert not mine.lost
    assert pending(bus, LOW, GROUP)[theirs.claimed.entry.decode()] == ("other", 2)
    assert kept.counters.snapshot() == {"lost": 1}
    [line] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "1 of 'q' belong to others" in line.getMessage()


def test_what_has_just_ended_is_not_lost(bus: Server) -> None:
    """The server has taken its settlement, but the engine has not read the answer."""
    submit(bus, "1", "2")
    me = consumer_of()
    one, two = hold(me, bus)
    kept = Kept(bus.url, me)
    bus.execute("XACK", LOW, GROUP, one.claimed.entry)
    kept.keeper._beat_all()
    me.holdings.remove([one.claimed])
    kept.keeper._due = dict.fromkeys(kept.keeper._due, 0.0)
    kept.keeper._beat_all()
    kept.keeper.stop()
    assert not one.lost
    assert not two.lost
    assert kept.counters.snapshot() == {}


def test_it_hears_what_was_cancelled(bus: Server) -> None:
    submit(bus, "1", "2")
    me = consumer_of()
    one, two = hold(me, bus)
    told: list[str] = []
    two.interrupt = lambda: told.append("two")
    bus.execute("ZADD", me.source.cancelled, 1, "2")
    with running(Kept(bus.url, me)):
        eventually(lambda: two.cancelled)
    assert not one.cancelled
    assert set(told) == {"two"}
    assert me.holdings.is_cancelled("2")


def test_a_stream_that_has_lost_its_group_harms_no_other(bus: Server) -> None:
    submit(bus, "1")
    submit(bus, "h", priority="high")
    me = consumer_of()
    high, low = hold(me, bus)
    bus.execute("XGROUP", "DESTROY", HIGH, GROUP)
    age(bus, LOW, GROUP, low)
    with running(Kept(bus.url, me)):
        eventually(lambda: high.lost)
        eventually(lambda: young(bus, LOW, low.claimed.entry))
    assert not low.lost


def test_a_source_that_is_refused_harms_no_other(bus: Server, caplog: pytest.LogCaptureFixture) -> None:
    submit(bus, "1")
    queue, events = consumer_of(), consumer_of(EVENTS)
    [task] = hold(queue, bus)
    bus.execute("SET", EVENTS.source.streams[1], "a foreign value")
    events.holdings.add(item_of(task.claimed, "1"))  # its stream 1, too
    age(bus, LOW, GROUP, task)
    with running(Kept(bus.url, events, queue)):
        eventually(lambda: young(bus, LOW, task.claimed.entry))
        bus.execute("DEL", EVENTS.source.streams[1])
        eventually(lambda: "leases are renewed again" in caplog.text or "WRONGTYPE" in caplog.text)
    assert "leases could not be renewed, trying again" in caplog.text


def test_after_a_beat_that_failed_others_work_is_left_alone(own_server: Server) -> None:
    me = consumer_of()
    distrusted: list[str] = []
    me.rounds.distrust = lambda: distrusted.append("")  # type: ignore[method-assign]
    kept = Kept(own_server.url, me)
    kept.start()
    own_server.kill()
    eventually(lambda: distrusted)
    own_server.start()
    submit(own_server, "1")
    [one] = hold(me, own_server)
    age(own_server, LOW, GROUP, one)
    eventually(lambda: young(own_server, LOW, one.claimed.entry))
    kept.stop()


def test_it_keeps_the_time(bus: Server) -> None:
    kept = Kept(bus.url, consumer_of(lease=0.1))
    assert kept.clock.now_ms() is None
    with running(kept):
        seconds, micros = bus.execute("TIME")
        now = kept.clock.now_ms()
        assert now is not None
        assert abs(now - (seconds * 1000 + micros / 1000)) < 20_000
        kept.clock.update(1, 0, 0)
        eventually(lambda: (kept.clock.now_ms() or 0) > 1_000_000_000_000)


def test_with_nothing_held_it_says_next_to_nothing(bus: Server) -> None:
    me = consumer_of(lease=0.2)
    with running(Kept(bus.url, me)):
        before = calls(bus)
        eventually(lambda: calls(bus).get("time", 0) >= before.get("time", 0) + 2)
        assert calls(bus).get("evalsha", 0) == before.get("evalsha", 0)


def calls(server: Server) -> dict[str, int]:
    lines = [line.split(":", 1) for line in ask(server, "INFO", "commandstats").splitlines() if ":" in line]
    return {name[8:]: int(said.split(",")[0].split("=")[1]) for name, said in lines}


def test_consumers_leave_when_it_stops_unless_they_hold_something(bus: Server) -> None:
    submit(bus, "1")
    submit(bus, "h", priority="high")
    me = consumer_of()
    _, low = hold(me, bus)
    bus.execute("XACK", LOW, GROUP, low.claimed.entry)
    with running(Kept(bus.url, me)):
        assert consumers(bus, HIGH) == consumers(bus, LOW) == 1
    assert (consumers(bus, HIGH), consumers(bus, LOW)) == (1, 0)


def consumers(server: Server, stream: str) -> int:
    return len(ask(server, "XINFO", "CONSUMERS", stream, GROUP))


def test_it_stops_without_a_server(own_server: Server) -> None:
    kept = Kept(own_server.url, consumer_of())
    kept.start()
    own_server.kill()
    kept.stop()


def test_it_does_not_start_without_a_server() -> None:
    kept = Kept(f"redis://{HOST}:{free_port()}", consumer_of())
    with pytest.raises(ServerUnreachable):
        kept.start()
    kept.stop()
