"""Payloads over the cap, ours before they are sent and foreign ones when they arrive."""

from __future__ import annotations

import json
from typing import Any

import pytest

from redis_toolkit import PayloadTooLarge, RemoteError, keys
from tests.e2e.conftest import MakeApp
from tests.kit.faults import Tier
from tests.kit.servers import Server
from tests.kit.waiting import eventually

CAP = 1024 * 1024


@pytest.mark.fault(31, "events", "requests")
def test_a_payload_over_the_cap(
    own_server: Server, make_app: MakeApp, quickly: dict[str, Any], every_style: None, tier: Tier
) -> None:
    own_server.execute("CONFIG", "SET", "proto-max-bulk-len", "512mb")
    app, caller = make_app(own_server.url, **quickly), make_app(own_server.url, **quickly)
    heard: list[Any] = []
    app.on("news", requests=False)(heard.append)
    app.on("echo", events=False)(lambda data: "x" * data if isinstance(data, int) else len(data))
    big = "x" * tier(4 * CAP, 100 * CAP)
    with app:
        for call in (
            lambda: caller.publish("news", big),
            lambda: caller.request("echo", big, timeout=30),
            lambda: caller.publish_many("news", ["small", big]),
        ):
            with pytest.raises(PayloadTooLarge, match="max_payload"):
                call()
        with pytest.raises(RemoteError, match="PayloadTooLarge"):
            caller.request("echo", CAP + 1, timeout=30)
        own_server.execute("PUBLISH", "news", json.dumps(big))
        envelope = json.dumps({"id": "big", "reply_to": keys.reply("echo", "big"), "data": big})
        own_server.execute("RPUSH", keys.requests("echo"), f"0 {envelope}")
        # Over 32 MB the server cuts any subscriber off by its own limit: that is a gap, as any cut.
        eventually(
            lambda: app.counters.get("undecodable", 0) + app.counters.get("gaps", 0) == 2,
            what="two that were skipped",
        )
        assert caller.request("echo", "next", timeout=30) == 4
        eventually(app.health_check, what="health")
        assert caller.publish("news", "next") == 1
        eventually(lambda: heard == ["next"], what="the next event")
