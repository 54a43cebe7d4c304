"""How the thread engine of durable work stops, what it gives back, and what becomes of handlers beyond their
timeout."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from redis_toolkit import keys
from redis_toolkit.jobs import Policy
from redis_toolkit.worker import work_threads
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.crews import DEADLINE, TRAINED, Crewed, MakeCrew, Queue, ThreadGate

SHORT = Policy(timeout=0.05)


def runnable(queue: Queue) -> int:
    """Return how many nobody has begun: not claimed, or given back."""
    return queue.stats().ready["normal"] + [count for _, count in queue.pending()].count(0)


def test_stop_ends_a_blocking_claim_at_once(make_crew: MakeCrew, queue: Queue) -> None:
    for number in range(3):
        crew = make_crew(lambda number: number).start()
        queue.submit([number])
        queue.wait_done(number + 1)
        started = time.monotonic()
        assert crew.stop()
        assert time.monotonic() - started < 100  # a claim blocks for 300 s


@pytest.mark.fault(4, "tasks")
def test_what_runs_gets_its_time_and_what_was_not_begun_is_given_back_at_once(
    make_crew: MakeCrew, queue: Queue, crew_gate: ThreadGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_threads, "STRANDED_SECONDS", 300.0)

    def work(number: int) -> None:
        if number == 5:
            crew_gate.wait()

    crew = make_crew(work, places=1).start()
    queue.train()
    queue.submit(range(40))
    crew_gate.wait_entered()
    eventually(lambda: crew.threads._leader is None, what="a leader that was deposed")
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(crew.stop)
        eventually(lambda: runnable(queue) == 34, what="the rest given back")
        assert not stopping.done()
        assert ("me", 1) in queue.pending()
        eventually(lambda: crew.held == 1, what="the others settled")
        crew_gate.event.set()
        assert stopping.result(DEADLINE)
    assert queue.ended(range(40)) == [0, 1, 2, 3, 4, 5]
    other = make_crew(work, name="other")
    other.consumer.rounds.hurry()
    other.start()
    queue.wait_done(TRAINED + 40)
    assert {queue.record(number).fields["deliveries"] for number in range(40)} == {b"1"}


@pytest.mark.fault(4, "tasks")
def test_what_runs_beyond_the_deadline_is_given_back_and_its_end_does_not_count(
    make_crew: MakeCrew, queue: Queue, crew_gate: ThreadGate
) -> None:
    crew = make_crew(lambda number: crew_gate.wait()).start()
    queue.submit([1])
    crew_gate.wait_entered()
    assert not crew.stop(grace=0.05)
    assert queue.pending() == [("me", 0)]
    assert crew.held == 0
    other = make_crew(lambda number: "by the other", name="other")
    other.consumer.rounds.hurry()
    other.start()
    queue.wait_done(1)
    crew_gate.event.set()
    eventually(lambda: crew.threads._members == [], what="the end of the thread")
    assert b"by the other" in (queue.record(1).reply or b"")
    assert queue.record(1).fields["deliveries"] == b"1"


def test_a_handler_that_stops_its_own_crew_is_not_waited_for(make_crew: MakeCrew, queue: Queue) -> None:
    ended: list[bool] = []
    crews: list[Crewed] = []

    def work(number: int) -> str:
        ended.append(crews[0].stop())
        return "stopped"

    crews.append(make_crew(work).start())
    queue.submit([1])
    queue.wait_done(1)
    assert ended == [True]


def test_stop_settles_what_could_not_be_settled_before(
    make_crew: MakeCrew, queue: Queue, bus: Server, caplog: pytest.LogCaptureFixture
) -> None:
    crew = make_crew(lambda number: number).start()
    in_the_way = keys.task_record("jobs", "1")
    bus.execute("SET", in_the_way, "no hash")
    queue.submit([1])
    eventually(lambda: "cannot be settled" in caplog.text, what="a line in the log")
    bus.execute("DEL", in_the_way)
    assert crew.stop()
    assert queue.ended([1]) == [1]


def test_a_server_that_is_gone_does_not_keep_a_stop(
    make_crew: MakeCrew,
    queue: Queue,
    own_server: Server,
    crew_gate: ThreadGate,
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = Queue(own_server)
    crew = make_crew(lambda number: crew_gate.wait(), url=own_server.url).start()
    own.submit([1])
    crew_gate.wait_entered()
    own.close()
    own_server.kill()
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(crew.stop)
        crew_gate.event.set()
        assert stopping.result(DEADLINE)
    assert "could not be settled" in caplog.text
    assert crew.counters.snapshot()["undelivered"] == 1


# -- timeouts -----------------------------------------------------------------------------------------


@pytest.mark.fault(8, "tasks")
def test_a_thread_that_runs_beyond_the_timeout_is_replaced(
    make_crew: MakeCrew, queue: Queue, crew_gate: ThreadGate
) -> None:
    def work(number: int) -> int:
        if number < 2:
            crew_gate.wait()
        return number

    crew = make_crew(work, places=1, policy=SHORT).start()
    queue.submit(range(10))
    eventually(lambda: len(queue.ended(range(2, 10))) == 8, what="the end of the others")
    eventually(lambda: len(queue.dead()) == 2, what="two dead letters")
    assert {letter.fields["reason"] for letter in queue.dead()} == {b"timeout"}
    assert crew.threads.abandoned == 2
    assert crew.threads.wants_recycling
    assert crew.counters.snapshot()["abandoned"] == 2
    crew_gate.event.set()
    eventually(lambda: crew.threads.abandoned == 0, what="the end of the threads")
    assert queue.ended([0, 1], "failed") == [0, 1]
    assert queue.stats().counters == {"done": 8, "dead": 2}
    eventually(lambda: crew.held == 0, what="nothing held")


@pytest.mark.fault(8, "tasks")
def test_a_timeout_is_tried_again_as_any_failure(
    make_crew: MakeCrew, queue: Queue, crew_gate: ThreadGate
) -> None:
    crew = make_crew(lambda number: crew_gate.wait(), policy=Policy(timeout=0.05, retries=1)).start()
    queue.submit([1])
    eventually(lambda: queue.stats().later == 1, what="a retry")
    assert queue.pending() == []
    assert crew.counters.snapshot()["abandoned"] == 1


@pytest.mark.fault(8, "tasks")
@pytest.mark.parametrize("stuck", [0, 20])
def test_quick_work_that_gets_stuck_times_out_too(
    make_crew: MakeCrew, queue: Queue, crew_gate: ThreadGate, stuck: int
) -> None:
    def work(number: int) -> None:
        if number == stuck:
            crew_gate.wait()

    crew = make_crew(work, places=1, policy=SHORT).start()
    queue.train()
    queue.submit(range(40))
    eventually(lambda: len(queue.dead()) == 1, what="a dead letter")
    crew.consumer.rounds.hurry()  # what was given back meanwhile
    eventually(lambda: len(queue.ended(range(40))) == 39, what="the end of the others")
    assert crew.threads.abandoned == 1


def test_one_that_ends_before_its_timeout_is_let_alone(make_crew: MakeCrew, queue: Queue) -> None:
    crew = make_crew(lambda number: time.sleep(0.01), places=2, policy=Policy(timeout=60)).start()
    queue.submit(range(20))
    queue.wait_done(20)
    assert crew.threads.abandoned == 0
    assert crew.counters.snapshot() == {}


def test_a_stop_does_not_wait_for_abandoned_threads(
    make_crew: MakeCrew, queue: Queue, crew_gate: ThreadGate
) -> None:
    crew = make_crew(lambda number: crew_gate.wait(), places=1, policy=SHORT).start()
    queue.submit([1])
    eventually(lambda: queue.dead(), what="a dead letter")
    started = time.monotonic()
    assert crew.stop(grace=300)
    assert time.monotonic() - started < 100


@pytest.mark.fault(15, "tasks")
def test_a_server_that_does_not_answer_holds_up_no_stop(
    make_crew: MakeCrew, own_server: Server, crew_gate: ThreadGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a stuck handler runs on cannot be given back: others take it when its lease is over."""
    monkeypatch.setattr(work_threads, "LAST_SECONDS", 0.1)
    queue = Queue(own_server)
    crew = make_crew(lambda number: crew_gate.wait(), url=own_server.url).start()
    queue.submit([1])
    crew_gate.wait_entered()
    monkeypatch.setattr(work_threads, "READ_TIMEOUT", 300.0)
    own_server.pause()
    try:
        started = time.monotonic()
        assert not crew.stop(grace=0.1)
        assert time.monotonic() - started < 100
    finally:
        own_server.resume()
        crew_gate.event.set()
        queue.close()
