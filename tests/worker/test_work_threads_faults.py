"""The thread engine of durable work when connections are cut, scripts are forgotten and processes die."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from redis_toolkit import App
from tests.kit.ports import HOST
from tests.kit.proxy import Proxy
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.crews import MakeCrew, Queue, ThreadGate
from tests.worker.programs import Programs, kill

LEASE = 1.0
CUTS = 10


@contextmanager
def again_and_again(do: Callable[[], object]) -> Iterator[None]:
    """Do something every 50 ms in another thread."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(0.05):
            do()

    thread = threading.Thread(target=go_on, name="fault")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.fault(12, "tasks")
def test_scripts_that_the_server_forgets_are_sent_again(
    make_crew: MakeCrew, queue: Queue, bus: Server
) -> None:
    ran: Counter[int] = Counter()
    make_crew(lambda number: ran.update([number])).start()
    queue.submit([0])
    queue.wait_done(1)
    bus.execute("SCRIPT", "FLUSH")
    queue.submit([1])
    queue.wait_done(2)
    with again_and_again(lambda: bus.execute("SCRIPT", "FLUSH")):
        queue.submit(range(2, 3000))
        queue.wait_done(3000)
    assert ran == Counter(range(3000))


@pytest.mark.fault(16, "tasks")
@pytest.mark.fault(14, "tasks")
@pytest.mark.parametrize("how", ["rst", "fin", "CLIENT KILL"])
def test_nothing_is_lost_when_all_connections_are_cut_again_and_again(
    make_crew: MakeCrew, queue: Queue, bus: Server, how: str
) -> None:
    ran: Counter[int] = Counter()
    with Proxy(HOST, bus.port) as proxy:
        url = bus.url if how == "CLIENT KILL" else proxy.url
        crew = make_crew(
            lambda number: ran.update([number]), url=url, lease=LEASE, block=0.2, reconnect_cap=0.01
        )
        crew.start()
        cuts = Counter[str]()

        def cut() -> None:
            {"rst": proxy.rst, "fin": proxy.fin, "CLIENT KILL": kill_all}[how]()
            cuts[how] += 1

        def kill_all() -> None:
            for link_id in [one.link_id for one in [*crew.threads._members] if one.link_id is not None]:
                bus.execute("CLIENT", "KILL", "ID", link_id)

        ids: list[str] = []
        with again_and_again(cut):
            while cuts[how] < CUTS:
                start = len(ids)
                ids += queue.submit(range(start, start + 100))
        crew.consumer.rounds.hurry()
        eventually(lambda: queue.all_ended(ids), what="all ends", timeout=60)
        eventually(lambda: crew.held == 0, what="nothing held")
        crew.stop()
    assert set(ran) == set(range(len(ids)))
    assert queue.pending() == []


@pytest.mark.fault(18, "tasks")
@pytest.mark.parametrize("script", [b"EVALSHA", b"XREADGROUP"])
def test_a_reply_that_is_dropped_costs_one_lease_at_most(
    make_crew: MakeCrew, queue: Queue, bus: Server, script: bytes
) -> None:
    ran: Counter[int] = Counter()
    with Proxy(HOST, bus.port) as proxy:
        crew = make_crew(lambda number: ran.update([number]), url=proxy.url, lease=LEASE, block=0.2).start()
        queue.submit([0])
        queue.wait_done(1)
        proxy.drop_reply(script)
        queue.submit(range(1, 500))
        queue.wait_done(500)
        crew.stop()
    assert set(ran) == set(range(500))


def test_the_end_of_a_handler_whose_connection_was_cut_counts(
    make_crew: MakeCrew, queue: Queue, bus: Server, crew_gate: ThreadGate
) -> None:
    with Proxy(HOST, bus.port) as proxy:
        crew = make_crew(lambda number: crew_gate.wait(), url=proxy.url).start()
        queue.submit([1])
        crew_gate.wait_entered()
        proxy.rst()
        crew_gate.event.set()
        queue.wait_done(1)
        crew.stop()


GROUP = """
@app.on("orders", group="billing", lease=1.0, concurrency=4)
def bill(number: int):
    if number >= 500:
        history.write("halfway")
        wait_at_gate()
    history.write("billed", number=number)

"""


@pytest.mark.fault(1, "durable")
@pytest.mark.fault(2, "durable")
def test_nothing_is_lost_when_a_process_is_killed_in_the_middle_of_a_batch(
    programs: Programs, bus: Server, client: App
) -> None:
    program = programs.serving(GROUP, "app.run(workers=1)\n", workers=1)
    client.publish_many("orders", range(1000))
    [halfway, *_] = programs.history.wait_for(bool, event="halfway")
    kill(halfway["pid"])
    programs.open_gate()
    wanted = set(range(1000))

    def billed() -> set[int]:
        return {entry["number"] for entry in programs.history.read("billed")}

    eventually(lambda: billed() == wanted, what="each of them", timeout=60)
    eventually(lambda: client.groups("orders")[0].pending == 0, what="nothing claimed")
    assert client.groups("orders")[0].lag == 0
    assert {entry["pid"] for entry in programs.history.read("billed")} == {
        halfway["pid"],
        *program.children(),
    }
