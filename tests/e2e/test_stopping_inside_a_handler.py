"""A handler may stop the app that calls it: nothing waits for a handler that waits for it."""

from __future__ import annotations

import threading

from redis_toolkit import App
from tests.e2e.conftest import MakeApp
from tests.kit.servers import Server

GRACE = 600.0
"""Seconds: a stop that waited for its own handler would run into the test's deadline."""


def test_a_handler_of_live_events_stops_its_own_app(own_server: Server, make_app: MakeApp) -> None:
    app = make_app(own_server.url, grace=GRACE)
    stopped = threading.Event()

    @app.on("stop")
    def handle(data: str) -> None:
        app.stop()
        stopped.set()

    app.start()
    app.publish("stop", "now")

    assert stopped.wait(timeout=30)
    assert app.publish("stop", "again") == 0


def test_a_request_handler_stops_its_own_app_and_still_answers(own_server: Server, make_app: MakeApp) -> None:
    app: App = make_app(own_server.url, grace=GRACE)

    @app.on("bye")
    def bye() -> str:
        app.stop()
        return "stopped"

    app.start()

    assert make_app(own_server.url).request("bye", timeout=30) == "stopped"
