"""Connections that cannot be made, or are lost at a bad moment: how often it is tried, what is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from redis_toolkit import App, KeyConflict, NoResponders, keys
from tests.kit.ports import HOST, listen
from tests.kit.proxy import Proxy
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.fakes import no_threads_left
from tests.worker.programs import Programs, registered, subscribers

DEADLINE = 30.0
WATCHED = 2.0
"""Seconds for which attempts to connect are counted."""
MANY = 50
"""Attempts in that time that a server would notice; a loop without a pause makes thousands."""
Make = Callable[..., App]


@pytest.fixture
def make() -> Iterator[Make]:
    """Make apps with events and requests; nothing of them is left after the test."""
    made: list[App] = []

    def new(url: str, **options: Any) -> App:
        app = App(url, **{"reconnect_cap": 1.0, "lease": 60, **options})
        app.on("news", requests=False)(lambda data: data)
        app.on("echo", events=False)(lambda data: data)
        made.append(app)
        return app

    with no_threads_left("rt-"):
        yield new
        for app in made:
            app.stop()


# -- a start that cannot succeed -------------------------------------------------------------------------


STARTING = """
@app.on("news", requests=False)
def hear(data):
    pass

app.start()
"""


def test_a_start_whose_connection_cannot_be_configured_says_so(programs: Programs, tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.touch()
    program = programs.start(STARTING, url=f"embedded://{place}")  # a process of its own, as it may hang
    assert program.wait() == 1
    assert "ConfigurationError" in program.stderr.splitlines()[-1]
    assert "a file is in its place" in program.stderr.splitlines()[-1]


def test_a_start_whose_connection_fails_in_an_unknown_way_says_so(programs: Programs) -> None:
    unheard_of = """
    from redis_toolkit._core.connection import Connections

    def dedicated(self, deadline=None):
        raise LookupError("unheard of")

    Connections.dedicated = dedicated
    """
    program = programs.start(unheard_of, STARTING)
    assert program.wait() == 1
    assert program.stderr.splitlines()[-1] == "LookupError: unheard of"


def test_a_start_that_fails_leaves_no_registration(bus: Server, client: App) -> None:
    app = App(bus.url, lease=60)
    for channel in ("first", "second"):
        app.on(channel, events=False)(lambda data: data)
    bus.execute("SET", keys.servers("second"), "foreign")
    with no_threads_left("rt-"), pytest.raises(KeyConflict):
        app.start()
    assert registered(bus, "first") == []
    eventually(lambda: subscribers(bus, keys.serve("first")) == 0, what="end of the subscription")
    with pytest.raises(NoResponders):
        client.request("first", timeout=300)
    bus.execute("DEL", keys.servers("second"))
    with app:  # it can be started afterwards
        assert client.request("first", 1, timeout=60) == 1


# -- how often it is tried -------------------------------------------------------------------------------


def attempts(count: Callable[[], int]) -> int:
    """Return how much a count of attempts grows while it is watched, which is until a few came."""
    before, started = count(), time.monotonic()
    eventually(
        lambda: (time.monotonic() - started > WATCHED and count() - before >= 2) or count() - before > MANY,
        what="attempts to connect",
    )
    return count() - before


def hears_again(client: App, app: App) -> None:
    eventually(lambda: client.publish("news", 1) == 1 and app.health_check(), what="a subscriber again")
    assert client.request("echo", 1, timeout=60) == 1


@pytest.mark.fault(35, "events", "requests")
def test_a_right_that_was_taken_away_is_asked_for_again_without_haste(make: Make, own_server: Server) -> None:
    own_server.execute("ACL", "SETUSER", "worker", "on", ">pw", "~*", "&*", "+@all")
    app = make(own_server.url.replace("redis://", "redis://worker:pw@"))
    app.start()
    info = own_server.client()
    own_server.execute("ACL", "SETUSER", "worker", "resetchannels")  # it also ends the subscriptions
    eventually(lambda: not app.health_check(), what="end of the subscriptions")
    assert attempts(lambda: int(info.info("commandstats")["cmdstat_subscribe"]["rejected_calls"])) < MANY
    own_server.execute("ACL", "SETUSER", "worker", "&*")
    client = App(own_server.url)
    hears_again(client, app)
    client.stop()
    app.stop()


class HangingUp:
    """Accepts every connection and closes it: a load balancer whose servers are down."""

    def __init__(self, port: int) -> None:
        self.accepted = 0
        self._listener = listen(port)
        self._listener.settimeout(0.05)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._accept)

    def _accept(self) -> None:
        while not self._ended.is_set():
            with suppress(TimeoutError):
                client, _ = self._listener.accept()
                client.close()
                self.accepted += 1

    def __enter__(self) -> HangingUp:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(DEADLINE)
        self._listener.close()


def test_a_server_that_hangs_up_is_called_again_without_haste(make: Make, bus: Server, client: App) -> None:
    with Proxy(HOST, bus.port) as proxy:
        app = make(proxy.url, lease=10)
        app.start()
        proxy.stop()
        with HangingUp(proxy.port) as hanging_up:
            assert attempts(lambda: hanging_up.accepted) < MANY
        proxy.start()
        hears_again(client, app)
        app.stop()


# -- the end of an app whose heartbeat has lost its connection -------------------------------------------


def cut_heartbeat(server: Server) -> None:
    """Cut the connection that has just run the script of a beat, as a router that forgets it does."""
    info = server.client()
    found = [client["id"] for client in info.client_list() if client["cmd"].startswith("eval")]
    [heartbeat] = found
    assert server.execute("CLIENT", "KILL", "ID", heartbeat) == 1


def test_a_heartbeat_that_was_cut_just_before_still_takes_the_registrations_back(
    own_server: Server,
) -> None:
    app, caller = App(own_server.url, concurrency=1, lease=60, grace=60), App(own_server.url)
    go_on, entered = threading.Event(), threading.Event()

    @app.on("job", events=False)
    def job(number: int) -> int:
        entered.set()
        assert go_on.wait(DEADLINE)
        return number

    with no_threads_left("rt-"), ThreadPoolExecutor(4) as pool:
        try:
            app.start()
            asked = [pool.submit(caller.request, "job", number, timeout=300) for number in range(3)]
            assert entered.wait(DEADLINE)
            waiting = keys.requests("job")
            eventually(lambda: own_server.execute("LLEN", waiting) == 2, what="two that wait")
            cut_heartbeat(own_server)
            stopping = pool.submit(app.stop)
            eventually(lambda: registered(own_server, "job") == [], what="end of the registration")
        finally:
            go_on.set()
        assert [one.result(DEADLINE) for one in asked] == [0, 1, 2]
        stopping.result(DEADLINE)
        with pytest.raises(NoResponders):
            caller.request("job", 3, timeout=300)
    caller.stop()
