"""What the timer does for one source: due times, orders, cancelled ids, trimming and cleaning."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest

from redis_toolkit._core.connection import Connections
from redis_toolkit._core.flow import Call
from redis_toolkit._core.flows import events, tasks
from redis_toolkit._core.flows.events import Event
from redis_toolkit._core.flows.tasks import Submission
from redis_toolkit._core.recovery import Failed
from redis_toolkit._core.sync_driver import LinkDriver
from redis_toolkit.worker.chores import Cancellations, Lookout, Orders, Promotion
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.heartbeat import ServerClock
from redis_toolkit.worker.janitor import Cleaning, Trimming
from redis_toolkit.worker.timer import Chore
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.lua import trips
from tests.lua.driving import ask, drive, entries
from tests.lua.queues import DELAYED, GROUP, LOW, PRIORITIES, SOURCE, submit
from tests.worker.holding import consumer_of, hold
from tests.worker.turns import GROUP as EVENTS
from tests.worker.turns import ok

NEVER = float("inf")


@pytest.fixture
def driver(bus: Server) -> Iterator[LinkDriver]:
    driver = LinkDriver(Connections(bus.url), timeout=30)
    yield driver
    driver.close()


@pytest.fixture
def clock(bus: Server) -> ServerClock:
    return in_time(bus)


def in_time(server: Server) -> ServerClock:
    clock, sent = ServerClock(), time.monotonic()
    seconds, micros = server.execute("TIME")
    clock.update(seconds * 1000 + micros // 1000, sent, time.monotonic())
    return clock


def submit_later(server: Server, id: str, delay_ms: int) -> int:
    [done] = drive(
        server, tasks.submit_many("q", [Submission(id, b"{}", "low", delay_ms=delay_ms)], PRIORITIES)
    )
    assert not isinstance(done, Exception)
    return int(done.detail)


def left(chore: Chore) -> float:
    return chore.at - time.monotonic()


# -- due times ------------------------------------------------------------------------------------


def test_what_is_due_is_moved_and_the_next_is_known(
    bus: Server, driver: LinkDriver, clock: ServerClock
) -> None:
    submit_later(bus, "now", 1)
    submit_later(bus, "later", 600_000)
    promotion = Promotion(consumer_of(), clock)
    eventually(lambda: promotion.run(driver) or entries(bus, LOW))
    assert list(ask(bus, "ZRANGE", DELAYED, 0, -1)) == ["later"]
    assert 500 < left(promotion) < 700


def test_a_claim_tells_when_something_is_due(clock: ServerClock) -> None:
    promotion = Promotion(consumer_of(), clock)
    promotion.due(1_000_000, None)
    assert promotion.at == NEVER
    promotion.due(1_000_000, 1_600_000)
    assert 500 < left(promotion) < 700
    promotion.due(1_000_000, 1_900_000)  # an older word, or about something that is due later
    assert 500 < left(promotion) < 700
    promotion.due(1_000_000, 900_000)
    assert left(promotion) <= 0


def test_the_channel_tells_when_something_is_due(clock: ServerClock) -> None:
    now = clock.now_ms()
    assert now is not None
    promotion = Promotion(consumer_of(), clock)
    promotion.heard(b"%d" % (now + 600_000))
    assert 500 < left(promotion) < 700
    for garbage in (b"", b"soon", b"-1", b"1e9", b"\xff", "\u0661".encode(), b"9" * 5000):
        promotion.heard(garbage)
    assert 500 < left(promotion) < 700
    promotion.heard(None)  # messages may have been missed
    assert left(promotion) <= 0


def test_a_backlog_of_due_times_leaves_time_for_others(
    clock: ServerClock, bus: Server, driver: LinkDriver
) -> None:
    promotion = Promotion(consumer_of(), clock)
    promotion.run(driver)
    promotion.due(2, 1)
    assert promotion.at == pytest.approx(promotion._last + 0.005)


def test_what_cannot_be_moved_is_said(bus: Server, driver: LinkDriver, clock: ServerClock) -> None:
    due = submit_later(bus, "1", 1)
    bus.execute("SET", LOW, "a foreign value")
    promotion = Promotion(consumer_of(), clock)
    eventually(lambda: clock.has_passed(due))

    def run() -> Any:
        with pytest.raises(Failed, match="WRONGTYPE"):
            promotion.run(driver)
        return True

    assert run()
    assert left(promotion) <= 1.5  # the script has put it off by a second


def test_a_message_that_was_lost_is_made_up_for(bus: Server, driver: LinkDriver, clock: ServerClock) -> None:
    promotion = Promotion(consumer_of(), clock)
    lookout = Lookout(consumer_of(), clock, promotion)
    assert lookout.run(driver) == 30.0
    assert promotion.at == NEVER
    submit_later(bus, "1", 600_000)
    lookout.run(driver)
    assert 500 < left(promotion) < 700


# -- orders ---------------------------------------------------------------------------------------


def test_orders_are_noted_when_they_are_heard_and_carried_out_by_the_timer(driver: LinkDriver) -> None:
    me = consumer_of()
    done: list[str] = []
    me.rounds.pause = lambda: done.append("pause")  # type: ignore[method-assign]
    me.rounds.resume = lambda: done.append("resume")  # type: ignore[method-assign]
    me.rounds.hurry = lambda: done.append("hurry")  # type: ignore[method-assign]
    cancellations = Cancellations(me)
    orders = Orders(me, cancellations)
    for said in (b"pause", b"cancel 7", b"cancel a b", b"released", b"?", b"", b"cancel \xff", b"resume"):
        orders.heard(said)
    assert (done, me.holdings.is_cancelled("7"), orders.at) == ([], False, 0.0)
    assert orders.run(driver) is None
    assert done == ["pause", "hurry", "resume"]
    assert all(map(me.holdings.is_cancelled, ("7", "a b", "\ufffd")))
    assert left(cancellations) <= 0.5


def test_when_messages_may_have_been_missed_everything_is_asked_for(driver: LinkDriver) -> None:
    me = consumer_of()
    woken: list[str] = []
    me.rounds.awake = lambda: woken.append("awake")
    cancellations = Cancellations(me)
    orders = Orders(me, cancellations)
    orders.heard(None)
    orders.run(driver)
    assert woken == ["awake"]
    assert left(cancellations) <= 0


# -- what was cancelled ---------------------------------------------------------------------------


def test_cancelled_ids_are_known_until_they_have_ended(bus: Server, driver: LinkDriver) -> None:
    submit(bus, "1", "2")
    me = consumer_of()
    one, two = hold(me, bus)
    cancellations = Cancellations(me)
    assert cancellations.run(driver) is None
    bus.execute("ZADD", SOURCE.cancelled, 1, "2", 1, "other")
    cancellations.noticed(["2"])
    assert (one.cancelled, two.cancelled, me.holdings.is_cancelled("other")) == (False, True, False)
    assert left(cancellations) <= 0.5
    cancellations.noticed(["2", *map(str, range(1000, 1099))])  # as many as a claim tells
    assert left(cancellations) <= 0
    assert cancellations.run(driver) == 0.5
    assert (one.cancelled, two.cancelled, me.holdings.is_cancelled("other")) == (False, True, True)
    bus.execute("DEL", SOURCE.cancelled)
    assert cancellations.run(driver) is None
    assert not me.holdings.is_cancelled("other")


# -- the janitor ----------------------------------------------------------------------------------


def test_a_log_is_trimmed_when_something_in_it_has_ended(bus: Server, driver: LinkDriver) -> None:
    me = consumer_of(EVENTS)
    drive(bus, me.rounds.begin())
    for text in (b"1", b"2"):
        drive(bus, events.publish("c", Event(text)))
    log = EVENTS.source.streams[1]
    one, two = hold(me, bus)
    trimming = Trimming(me)
    assert left(trimming) <= 5
    packet = me.rounds.settle([ok(one.claimed)])
    [reply] = [driver.run(_call(command)) for command in packet.commands]
    me.rounds.take(packet, [reply])
    assert trimming.run(driver) == 5.0
    assert [entry for entry, _ in entries(bus, log)] == [two.claimed.entry.decode()]
    bus.execute("XACK", log, "g", two.claimed.entry)
    assert trimming.run(driver) == 5.0
    assert len(entries(bus, log)) == 1  # nothing of ours has ended since


def _call(command: Any) -> Any:
    [reply] = yield Call((command,))
    return reply


def test_consumers_of_dead_workers_go_and_orphans_are_put_back(
    bus: Server, driver: LinkDriver, caplog: pytest.LogCaptureFixture
) -> None:
    submit(bus, "1")
    drive(bus, trips.claim(SOURCE, "dead", 10))
    bus.execute("XGROUP", "DELCONSUMER", LOW, GROUP, "dead")
    me, counters = consumer_of(), Counters()
    cleaning = Cleaning(me, counters)
    assert left(cleaning) <= 120
    with caplog.at_level(logging.WARNING):
        first = cleaning.run(driver)
    assert first is not None
    assert 45 <= first <= 75
    assert counters.snapshot() == {"orphans": 1}
    assert "1 of 'q' had been claimed" in caplog.text
    assert len(drive(bus, trips.claim(SOURCE, "me", 10)).items) == 1


def test_where_nothing_is_found_it_looks_less_often(bus: Server, driver: LinkDriver) -> None:
    cleaning = Cleaning(consumer_of(), Counters())
    waits = [cleaning.run(driver) or 0 for _ in range(5)]
    assert 90 <= waits[0] <= 150
    assert all(180 <= wait <= 375 for wait in waits[1:])
