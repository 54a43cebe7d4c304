"""kill -9 of worker processes: who notices, what is lost, and who takes over (row 1 of the faults)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from redis_toolkit import App, NoResponders, RequestTimeout, keys
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.programs import GATED, PID, Programs, both_answer, kill, registered, subscribers

RUN = "app.run(workers=2)\n"
NEWS = """
@app.on("news", "new?")
def hear(data):
    history.write("heard", data=data)

@app.on("all", every_worker=True)
def hear_all(data):
    history.write("heard by all", data=data)

@app.on_gap
def report(gap):
    history.write("gap", channels=gap.channels, reason=gap.reason, seconds=gap.ended - gap.started)
"""


@pytest.mark.fault(1, "requests")
def test_a_killed_worker_is_replaced_and_the_other_keeps_answering(
    programs: Programs, bus: Server, client: App
) -> None:
    program = programs.serving(PID, RUN)
    pids = both_answer(client)
    lost, other = sorted(pids)
    before = registered(bus, "pid")
    programs.hold_new_ones()
    kill(lost)
    eventually(lambda: len(registered(bus, "pid")) == 1, what="end of the dead worker's registration")
    assert registered(bus, "pid")[0] in before
    assert set(client.request_many("pid", [None] * 200, timeout=30)) == {other}
    programs.go_on()
    new = both_answer(client) - {other}
    assert new.isdisjoint(pids)
    eventually(lambda: set(program.children()) == {other, *new}, what="two workers")
    assert f"worker process {lost} ended with signal SIGKILL, starting another in 0." in program.stderr


@pytest.mark.fault(1, "requests")
def test_no_answer_is_lost_but_those_of_the_killed_worker(
    programs: Programs, client: App, pool: ThreadPoolExecutor
) -> None:
    source = """
    @app.on("add", events=False)
    def add(a: int, b: int):
        return [a + b, os.getpid()]
    """
    program = programs.serving(PID, source, RUN)
    lost, other = program.children()
    both_answer(client)

    def ask() -> list[object]:
        payloads = [{"a": number, "b": 1} for number in range(2000)]
        return client.request_many("add", payloads, timeout=3, return_exceptions=True)

    asked = pool.submit(ask)
    eventually(lambda: client.request("pid", timeout=30) in (lost, other), what="an answer")
    kill(lost)
    results = asked.result(60)
    failures = [result for result in results if isinstance(result, Exception)]
    assert all(isinstance(failure, RequestTimeout) for failure in failures)
    assert len(failures) <= 2 * 100  # what one claim takes, and the replies that go with the next one
    right = [result[0] == place + 1 for place, result in enumerate(results) if isinstance(result, list)]
    assert all(right)


@pytest.mark.fault(1, "requests")
def test_the_request_of_a_killed_worker_ends_with_its_timeout(
    programs: Programs, client: App, pool: ThreadPoolExecutor
) -> None:
    programs.serving(GATED, RUN)
    asked = pool.submit(client.request, "gated", timeout=2)
    [started] = programs.history.wait_for(bool, event="started")
    kill(started["pid"])
    error = asked.exception(30)
    assert type(error) is RequestTimeout
    assert len(programs.history.read("started")) == 1


@pytest.mark.fault(1, "requests")
def test_with_retries_the_request_of_a_killed_worker_runs_again(
    programs: Programs, client: App, pool: ThreadPoolExecutor
) -> None:
    programs.serving(GATED, RUN)
    asked = pool.submit(client.request, "gated", timeout=2, retries=1)
    [started] = programs.history.wait_for(bool, event="started")
    kill(started["pid"])
    attempt, pid = asked.result(30)
    assert attempt == 2
    assert pid != started["pid"]
    assert [entry["attempt"] for entry in programs.history.read("started")] == [1, 2]


@pytest.mark.fault(1, "requests")
def test_when_all_workers_are_dead_a_caller_hears_it_at_once(
    programs: Programs, bus: Server, client: App
) -> None:
    program = programs.serving(PID, RUN)
    programs.hold_new_ones()
    for pid in program.children():
        kill(pid)
    # Leases of a minute: it is the supervisor that takes them back.
    eventually(lambda: registered(bus, "pid") == [], what="end of the registrations")
    eventually(lambda: subscribers(bus, keys.serve("pid")) == 0, what="end of the subscriptions")
    with pytest.raises(NoResponders):
        client.request("pid", timeout=300)
    programs.go_on()
    assert len(both_answer(client)) == 2


@pytest.mark.fault(1, "events")
def test_events_go_to_one_worker_and_to_the_next_when_it_dies(programs: Programs, client: App) -> None:
    program = programs.serving(NEWS, RUN)
    eventually(lambda: client.publish("news", "first") > 0, what="a listener")
    [first] = programs.history.wait_for(bool, event="heard")
    client.publish_many("news", range(100))
    heard = programs.history.wait_for(lambda entries: len(entries) >= 101, event="heard")
    assert {entry["pid"] for entry in heard} == {first["pid"]}

    kill(first["pid"])
    published: list[int] = []

    def publish() -> bool:
        published.append(len(published) + 1000)
        client.publish("news", published[-1])
        return any(entry["data"] == published[-1] for entry in programs.history.read("heard"))

    eventually(publish, what="events at the next listener")
    client.publish_many("news", range(100, 200))
    programs.history.wait_for(lambda entries: entries[-1]["data"] == 199, event="heard")
    heard = programs.history.read("heard")
    later = [entry for entry in heard if entry["data"] != "first" and entry["data"] >= 100]
    assert len({entry["pid"] for entry in later}) == 1
    assert later[0]["pid"] != first["pid"]
    data = [entry["data"] for entry in heard]
    assert len(data) == len(set(data))  # none twice

    [gap] = programs.history.wait_for(bool, event="gap")
    assert gap["pid"] == later[0]["pid"]
    assert {"news", "new?"} <= set(gap["channels"])
    assert f"worker process {first['pid']}, the listener, ended" in gap["reason"]
    assert 0 <= gap["seconds"] < 60
    eventually(lambda: len(program.children()) == 2, what="two workers")


@pytest.mark.fault(1, "events")
def test_the_death_of_a_worker_that_does_not_listen_is_no_gap(
    programs: Programs, bus: Server, client: App
) -> None:
    program = programs.serving(NEWS, PID, RUN)
    eventually(lambda: client.publish("news", "first") > 0, what="a listener")
    [first] = programs.history.wait_for(bool, event="heard")
    [other] = set(program.children()) - {first["pid"]}
    kill(other)
    eventually(lambda: len(set(program.children()) - {other}) == 2, what="another worker")
    eventually(lambda: len(registered(bus, "pid")) == 2, what="its registration")
    assert client.publish("news", "second") == 1 + 1  # by name and by glob, one process
    heard = programs.history.wait_for(lambda entries: len(entries) == 2, event="heard")
    assert [entry["pid"] for entry in heard] == [first["pid"]] * 2
    assert programs.history.read("gap") == []


def test_every_worker_hears_what_is_meant_for_all(programs: Programs, client: App) -> None:
    program = programs.serving(NEWS, RUN)
    pids = set(program.children())
    assert client.publish("all", 1) == 2
    heard = programs.history.wait_for(lambda entries: len(entries) == 2, event="heard by all")
    assert {entry["pid"] for entry in heard} == pids
    kill(min(pids))

    def two_again() -> bool:
        client.publish("all", 2)
        entries = programs.history.read("heard by all")
        return len({entry["pid"] for entry in entries if entry["data"] == 2} - {min(pids)}) == 2

    eventually(two_again, what="two listeners again")


@pytest.mark.fault(8, "tasks")
def test_a_process_whose_places_are_all_taken_by_handlers_that_never_end_is_replaced(
    programs: Programs, bus: Server, client: App
) -> None:
    program = programs.serving(
        PID,
        """
        @app.on("orders", group="billing", timeout=0.05, concurrency=1)
        def bill(order):
            history.write("billed", order=order)
            if order == "stuck":
                threading.Event().wait()
        """,
        RUN,
    )
    before = set(program.children())
    client.publish_many("orders", ["stuck", "other"])
    eventually(lambda: len({*program.children()} - before) == 1, what="another process")
    programs.history.wait_for(lambda entries: any(one["order"] == "other" for one in entries), event="billed")
    eventually(lambda: client.dead("orders", "billing"))
    assert [letter.reason for letter in client.dead("orders", "billing")] == ["timeout"]
    assert "this process ends" in program.stderr
