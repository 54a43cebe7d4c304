"""The thread engine of durable work on a real server: who claims, who waits for whom, what is settled."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from redis_toolkit import keys
from redis_toolkit._core.connection import Connections
from redis_toolkit._core.flows import leases
from redis_toolkit._core.flows.work import Claimed, Settlement
from redis_toolkit._core.sync_driver import LinkDriver
from redis_toolkit.worker import work_threads
from redis_toolkit.worker.holdings import Item
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.crews import DEADLINE, SOURCE, TRAINED, WIRE, Crewed, MakeCrew, Queue, ThreadGate


def threads_of(crew: Crewed) -> int:
    return len(crew.threads._members)


def test_every_task_runs_and_ends_once(make_crew: MakeCrew, queue: Queue) -> None:
    ran: Counter[int] = Counter()
    crew = make_crew(lambda number: ran.update([number])).start()
    for start in range(0, 10_000, 2_500):
        queue.submit(range(start, start + 2_500))
    queue.wait_done(10_000)
    assert ran == Counter(range(10_000))
    eventually(lambda: crew.held == 0, what="nothing held")
    assert queue.pending() == []
    assert WIRE.read_reply(queue.record(4711).reply or b"").id == "4711"
    assert crew.counters.snapshot() == {}


def test_an_idle_leader_wakes_for_a_task_of_any_priority(make_crew: MakeCrew, queue: Queue) -> None:
    make_crew(lambda number: number).start()
    for number, priority in enumerate(["low", "high", "normal"]):
        queue.submit([number], priority=priority)
        queue.wait_done(number + 1)


def test_threads_are_started_when_they_are_needed(
    make_crew: MakeCrew, queue: Queue, crew_gate: ThreadGate
) -> None:
    crew = make_crew(lambda number: crew_gate.wait(), places=3).start()
    assert threads_of(crew) == 1
    queue.submit(range(10))
    crew_gate.wait_entered(3)
    assert threads_of(crew) == 3
    crew_gate.event.set()
    queue.wait_done(10)


def test_as_many_handlers_run_at_once_as_there_are_places(make_crew: MakeCrew, queue: Queue) -> None:
    together = threading.Barrier(4)
    crew = make_crew(lambda number: together.wait(DEADLINE) and None, places=4).start()
    queue.submit(range(12))
    queue.wait_done(12)
    assert threads_of(crew) == 4


def test_quick_tasks_do_not_wait_for_a_slow_one(
    make_crew: MakeCrew, queue: Queue, crew_gate: ThreadGate
) -> None:
    make_crew({"work": lambda number: number, "slow": lambda number: crew_gate.wait()}, places=2).start()
    queue.submit([-1], "slow")
    crew_gate.wait_entered()
    queue.submit(range(1000))
    eventually(lambda: len(queue.ended(range(1000))) == 1000, what="all quick ones")
    crew_gate.event.set()
    queue.wait_done(1001)


def test_of_what_is_ready_the_highest_priority_goes_first(
    make_crew: MakeCrew, queue: Queue, crew_gate: ThreadGate
) -> None:
    order: list[str] = []

    def work(name: str) -> None:
        order.append(name)
        time.sleep(0.002)  # not quick: one by one

    def hold(number: int) -> None:
        crew_gate.wait()
        time.sleep(0.002)

    make_crew({"work": work, "gate": hold}, places=1).start()
    queue.submit([0], "gate")
    crew_gate.wait_entered()
    expected: list[str] = []
    for priority in ("low", "normal", "high"):
        expected[:0] = queue.submit([f"{priority} {number}" for number in range(5)], priority=priority)
    crew_gate.event.set()
    queue.wait_done(16)
    assert order == expected


@pytest.mark.parametrize("stuck", [0, 10, 39])
def test_a_quick_handler_that_gets_stuck_holds_back_nothing_of_its_batch(
    make_crew: MakeCrew, queue: Queue, crew_gate: ThreadGate, stuck: int
) -> None:
    def work(number: int) -> int:
        if number == stuck:
            crew_gate.wait()
        return number

    crew = make_crew(work, places=2).start()
    queue.train()
    queue.submit(range(40))
    crew_gate.wait_entered()
    others = [number for number in range(40) if number != stuck]
    eventually(lambda: queue.ended(range(40)) == others, what="the end of all others")
    eventually(lambda: crew.held == 1, what="one that is held")
    crew_gate.event.set()
    queue.wait_done(TRAINED + 40)


def test_handlers_that_get_stuck_one_after_the_other_hold_back_nothing(
    make_crew: MakeCrew, queue: Queue, crew_gate: ThreadGate
) -> None:
    def work(number: int) -> None:
        if number in (3, 7, 20):
            crew_gate.wait()

    make_crew(work, places=4).start()
    queue.train()
    queue.submit(range(40))
    crew_gate.wait_entered(3)
    eventually(lambda: len(queue.ended(range(40))) == 37, what="the end of all others")
    crew_gate.event.set()
    queue.wait_done(TRAINED + 40)


def test_what_nobody_here_is_free_for_goes_to_another_process(
    make_crew: MakeCrew, queue: Queue, crew_gate: ThreadGate
) -> None:
    def work(number: int) -> None:
        if number == 5:
            crew_gate.wait()

    make_crew(work, places=1).start()
    queue.train()
    queue.submit(range(40))
    crew_gate.wait_entered()
    eventually(lambda: [count for _, count in queue.pending()].count(0) == 34, what="34 given back")
    other = make_crew(lambda number: number, places=1, name="other")
    other.consumer.rounds.hurry()  # as the control message makes it
    other.start()
    eventually(lambda: len(queue.ended(range(40))) == 39, what="the end of all others")
    assert {queue.record(number).fields["deliveries"] for number in range(39, 5, -1)} == {b"1"}
    crew_gate.event.set()
    queue.wait_done(TRAINED + 40)


def test_of_a_mixed_batch_the_quick_ones_end_before_a_slow_one_begins(
    make_crew: MakeCrew, queue: Queue, crew_gate: ThreadGate
) -> None:
    make_crew({"work": lambda number: number, "slow": lambda number: crew_gate.wait()}, places=1).start()
    queue.train()
    queue.submit(range(20))
    queue.submit([20], "slow")
    crew_gate.wait_entered()
    assert len(queue.ended(range(20))) == 20
    crew_gate.event.set()
    queue.wait_done(TRAINED + 21)


def test_who_waits_hears_before_anything_slow_begins(
    make_crew: MakeCrew, queue: Queue, bus: Server, crew_gate: ThreadGate
) -> None:
    """One place: nobody else would tell it while the slow one runs, claimed as the quick one ends."""
    second = Queue(bus)

    def work(number: int) -> int:
        if number == 1:
            second.submit([2], "slow")
        return number

    make_crew({"work": work, "slow": lambda number: crew_gate.wait()}, places=1).start()
    queue.train()
    address = keys.task_reply("jobs", "a wait")
    bus.execute("HSET", SOURCE.waiters, "1", address)
    queue.submit([1])
    crew_gate.wait_entered()
    eventually(lambda: bus.execute("LLEN", address) == 1, what="a reply")
    assert queue.record(2).state is None
    crew_gate.event.set()
    queue.wait_done(TRAINED + 2)
    second.close()


def test_what_cannot_be_told_is_counted(
    make_crew: MakeCrew, queue: Queue, bus: Server, crew_gate: ThreadGate
) -> None:
    crew = make_crew(lambda number: crew_gate.wait() if number == 1 else number).start()
    reply_key = keys.reply("jobs", "7")
    queue.submit([1])
    crew_gate.wait_entered()
    bus.execute("SET", reply_key, "no list")
    bus.execute("HSET", SOURCE.waiters, "1", reply_key)
    crew_gate.event.set()
    eventually(lambda: crew.counters.snapshot() == {"undelivered": 1}, what="the count")
    queue.submit([2])
    queue.wait_done(2)


def test_garbage_is_buried_and_the_next_goes_on(make_crew: MakeCrew, queue: Queue, bus: Server) -> None:
    make_crew(lambda number: number).start()
    stream = keys.task_ready("jobs", "normal")
    bus.execute("XADD", stream, "*", "b", b"\xff{")
    bus.execute("XADD", stream, "*", "foreign", "entry")
    queue.submit([1])
    eventually(lambda: queue.ended([1]), what="the end of the good one")
    eventually(lambda: len(queue.dead()) == 2, what="two dead letters")
    assert queue.pending() == []


def test_a_settlement_that_the_server_refuses_is_sent_again(
    make_crew: MakeCrew,
    queue: Queue,
    bus: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(work_threads, "UNSETTLED_SECONDS", 0.02)
    crew = make_crew(lambda number: number).start()
    in_the_way = keys.task_record("jobs", "3")
    bus.execute("SET", in_the_way, "no hash")
    queue.submit(range(10))
    others = [number for number in range(10) if number != 3]
    eventually(lambda: [n for n in range(10) if n != 3 and queue.ended([n])] == others, what="the others")
    eventually(lambda: "cannot be settled" in caplog.text, what="a line in the log")
    eventually(lambda: crew.held == 1, what="one that is held")
    assert len(queue.pending()) == 1
    bus.execute("DEL", in_the_way)
    queue.wait_done(10)
    eventually(lambda: crew.held == 0, what="nothing held")
    assert caplog.text.count("WARNING") == 1


def test_a_queue_that_is_paused_is_left_alone_until_it_is_resumed(
    make_crew: MakeCrew, queue: Queue, bus: Server
) -> None:
    connections = Connections(queue.server.url)
    driver = LinkDriver(connections, DEADLINE)
    crew = make_crew(lambda number: number).start()
    queue.submit([1])
    queue.wait_done(1)
    eventually(lambda: bus.execute("INFO", "clients")["blocked_clients"] == 1, what="a leader that waits")
    driver.run(leases.pause(SOURCE))
    queue.submit([2, 3])
    eventually(lambda: queue.pending() == [("me", 0)], what="what was taken, given back")
    driver.run(leases.resume(SOURCE))
    crew.consumer.rounds.hurry()
    crew.consumer.rounds.resume()
    queue.wait_done(3)
    driver.close()
    connections.close()


def test_a_mistake_of_ours_loses_neither_the_thread_nor_the_others(
    make_crew: MakeCrew, queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    crew = make_crew(lambda number: number)
    performer = crew.consumer.performer
    read, perform = performer.read, performer.perform

    def failing_read(claimed: Claimed) -> Item | Settlement:
        found = read(claimed)
        if isinstance(found, Item) and found.id == "3":
            raise RuntimeError("unreadable")
        return found

    def failing_perform(item: Item) -> Settlement:
        if item.id == "5":
            raise RuntimeError("unperformable")
        return perform(item)

    monkeypatch.setattr(performer, "read", failing_read)
    monkeypatch.setattr(performer, "perform", failing_perform)
    crew.start()
    queue.submit(range(10))
    eventually(lambda: len(queue.ended(range(10))) == 8, what="the others")
    eventually(lambda: crew.held == 0, what="nothing held, so that their leases run out")
    assert [count for _, count in queue.pending()] == [1, 1]
    assert "unreadable" in caplog.text
    assert "unperformable" in caplog.text
