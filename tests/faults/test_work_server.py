"""A server that is killed, forgets, stands still, loads, is a replica or full, while durable work flows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from redis_toolkit import StoreFull
from redis_toolkit.patterns import ReliableMessaging, TaskQueue
from tests.e2e.conftest import MakeApp, released
from tests.faults.conftest import StartWork
from tests.faults.troubles import full, not_serving
from tests.kit.faults import Tier
from tests.kit.ports import HOST
from tests.kit.proxy import Proxy
from tests.kit.servers import Server
from tests.kit.waiting import eventually


class TestWithEveryWriteOnDisk:
    @pytest.fixture
    def own_server(self, tmp_path: Path) -> Iterator[Server]:
        with Server(directory=tmp_path / "server", persistence="always") as server:
            yield server

    @pytest.fixture
    def proxy(self, own_server: Server) -> Iterator[Proxy]:
        with Proxy(HOST, own_server.port) as proxy:
            yield proxy

    @pytest.mark.fault(9, "durable", "tasks")
    def test_nothing_acknowledged_is_lost_when_it_is_killed(
        self, own_server: Server, work: StartWork, tier: Tier
    ) -> None:
        with work() as flowing:
            for _ in range(tier(1, 20)):
                own_server.kill()
                flowing.lasts(tier(0.2, 1.0))
                own_server.start()
                flowing.flows()


@pytest.mark.fault(11, "durable", "tasks")
@pytest.mark.parametrize("how", ["restarted", "flushed"])
def test_what_it_forgot_is_reported_and_new_work_flows(
    own_server: Server, work: StartWork, tier: Tier, how: str
) -> None:
    with work(whole=False) as flowing:
        for _ in range(tier(2, 20)):
            if how == "restarted":
                own_server.restart()
            else:
                own_server.execute("FLUSHALL")
            flowing.flows()
        eventually(lambda: flowing.serving.counters.get("state_lost", 0) >= 2, what="the report")


@pytest.mark.fault(12, "durable", "tasks")
def test_forgotten_scripts_are_not_noticed(own_server: Server, work: StartWork, tier: Tier) -> None:
    with work() as flowing:
        flowing.lasts(tier(1.0, 15.0), lambda: own_server.execute("SCRIPT", "FLUSH"))
        flowing.flows()
        assert not flowing.outcomes


@pytest.mark.fault(15, "durable", "tasks")
@pytest.mark.parametrize("how", ["paused", "stopped"])
def test_it_stands_still(own_server: Server, work: StartWork, tier: Tier, how: str) -> None:
    """For longer than the lease, so that all of it has run out."""
    options = {"lease": tier(1.0, 10.0), "ping_interval": tier(15.0, 4.0)}
    with work(options) as flowing:
        seconds = tier(1.3, 5.0 if how == "paused" else 20.0)
        if how == "paused":
            own_server.execute("CLIENT", "PAUSE", int(seconds * 1000))
            flowing.lasts(seconds)
        else:
            own_server.pause()
            try:
                flowing.lasts(seconds)
            finally:
                own_server.resume()
        flowing.flows()


@pytest.mark.fault(24, "durable", "tasks")
@pytest.mark.parametrize("state", ["READONLY", "MASTERDOWN", "LOADING"])
def test_a_server_that_does_not_serve_now(
    own_server: Server, work: StartWork, tier: Tier, state: str
) -> None:
    seconds = tier(0.8, 10.0)
    with work() as flowing:
        with not_serving(own_server, state, seconds):
            flowing.lasts(seconds)
        flowing.flows()


@pytest.mark.fault(25, "durable", "tasks")
def test_a_full_server_refuses_what_is_new_and_has_the_rest_finished(
    own_server: Server, make_app: MakeApp, quickly: dict[str, Any], every_style: None
) -> None:
    app, caller = make_app(own_server.url, **quickly), make_app(own_server.url, **quickly)
    ran: list[Any] = []
    entered, go_on = threading.Semaphore(0), threading.Event()

    def take(data: Any) -> None:
        entered.release()
        assert go_on.wait(60)
        ran.append(data)

    app.on("orders", group="billing")(take)
    serving, queue, acks = TaskQueue("q", app=app), TaskQueue("q", app=caller), ReliableMessaging(app=caller)
    with released(go_on), serving.create_worker("w", take_task(take)), app:
        caller.publish("orders", "event")
        queue.submit("any", "task")
        for _ in range(2):
            assert entered.acquire(timeout=60)
        with full(own_server):
            refused: list[Callable[[], object]] = [
                lambda: caller.publish("orders", 2),
                lambda: queue.submit("any", 2),
                lambda: queue.submit("any", 2, delay=60),
                lambda: acks.publish_with_ack("acks", {"number": 2}, timeout=20),
            ]
            for call in refused:
                with pytest.raises(StoreFull, match="OOM"):
                    call()
            go_on.set()
            eventually(lambda: sorted(ran) == ["event", "task"])
            eventually(lambda: queue.stats().pending == 0, what="the end of the task")
            eventually(lambda: caller.groups("orders")[0].pending == 0, what="the end of the event")
        acks.stop()
        caller.publish("orders", "after")
        eventually(lambda: "after" in ran)


def take_task(take: Callable[[Any], None]) -> Callable[[dict[str, Any]], None]:
    def handle(task: dict[str, Any]) -> None:
        take(task["payload"])

    return handle
