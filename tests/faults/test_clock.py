"""Worker processes and callers whose clock is an hour wrong: expiries are on the server's clock alone."""

from __future__ import annotations

import json

import pytest

from redis_toolkit import keys
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.programs import Programs

WRONG_CLOCK = """
right = time.time
time.time = lambda: right() + {seconds}
time.time_ns = lambda: int(time.time() * 1e9)

@app.on("threads", events=False)
def threads(data):
    history.write("ran", data=data)
    return [data, time.time() - right()]

@app.on("coroutines", events=False)
async def coroutines(data):
    history.write("ran", data=data)
    return [data, time.time() - right()]
"""
ASKING = """
import asyncio

async def ask_later(channel):
    try:
        return await app.arequest(channel, "awaited", timeout=30)
    finally:
        await app.astop()

for channel in ("threads", "coroutines"):
    history.write("answer", data=app.request(channel, "called", timeout=30))
    history.write("answer", data=asyncio.run(ask_later(channel)))
"""


@pytest.mark.fault(28, "requests")
@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_no_request_expires_early_or_runs_late(programs: Programs, own_server: Server, seconds: int) -> None:
    clock = WRONG_CLOCK.format(seconds=seconds)
    programs.serving(clock, "app.run(workers=2)\n")
    caller = programs.start(clock, ASKING, name="caller")
    assert caller.wait() == 0, caller.output
    answers = [entry["data"] for entry in programs.history.read("answer")]
    assert [word for word, _ in answers] == ["called", "awaited"] * 2
    assert all(abs(wrong - seconds) < 1 for _, wrong in answers)  # it is really the wrong time there

    now, _ = own_server.execute("TIME")
    for channel in ("threads", "coroutines"):
        for data, left in (("expired", -60), ("not expired", 60)):
            envelope = json.dumps({"id": data, "reply_to": keys.reply(channel, data), "data": data})
            own_server.execute("RPUSH", keys.requests(channel), f"{(now + left) * 1000} {envelope}")
        answer = keys.reply(channel, "not expired")
        eventually(lambda key=answer: own_server.execute("EXISTS", key), what="the reply")  # type: ignore[misc]
        eventually(lambda key=channel: not own_server.execute("EXISTS", keys.requests(key)))  # type: ignore[misc]
        assert not own_server.execute("EXISTS", keys.reply(channel, "expired"))
    ran = [entry["data"] for entry in programs.history.read("ran")]
    assert ran.count("not expired") == 2
    assert "expired" not in ran
