"""Garbage, bombs, too much and the unknown in what is kept: a dead letter, and the next goes on."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest

from redis_toolkit import App, PayloadTooLarge, SignedCodec, keys
from redis_toolkit.patterns import ReliableMessaging, TaskQueue
from tests.e2e.conftest import MakeApp
from tests.faults.test_bombs import JSON_BOMBS, MSGPACK_BOMBS, ROOM_MB
from tests.kit.faults import Tier
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.programs import Programs

LOG, LIST = keys.stream("orders"), keys.task_ready("q", "normal")
BODIES = [
    b"",
    b"\x00",
    b"\xff\xfe garbage",
    b"{",
    b"null",
    b'"text',
    b"\xc1",
    b"[1,2",
    b'{"id":1}',
    b"\xdf\xff",
]
FOREIGN: list[list[bytes]] = [
    [b"b", b"\xff\x00garbage"],
    [b"x", b"no such field"],
    [b"b", b""],
    [b"", b""],
    [b"a", b"not a number", b"b", b"1"],
    [b"b", b"{", b"i", b"\xff\xff", b"a", b"-1"],
    [b"\x00" * 10, b"\r\n\x1b[31m"],
]


class Got:
    """What the handlers of an app have got."""

    def __init__(self, app: App, caller: App, *, lease: float = 10.0) -> None:
        self.events: list[Any] = []
        self.tasks: list[Any] = []
        self.app, self.caller = app, caller
        app.on("orders", group="billing")(self.events.append)
        self.queue = TaskQueue("q", app=caller)
        served = TaskQueue("q", app=app, lease=lease)
        served.task(name="take")(lambda data: self.tasks.append(data))

    def goes_on(self, mark: str) -> None:
        """What is sent now is handled."""
        self.caller.publish("orders", mark)
        self.queue.submit("take", mark)
        eventually(lambda: mark in self.events and mark in self.tasks, what=f"{mark} in both")

    def at_rest(self) -> None:
        def look() -> bool:
            [group] = self.caller.groups("orders")
            return (group.lag, group.pending, self.queue.stats().pending) == (0, 0, 0)

        eventually(look, what="nothing held")


@pytest.mark.fault(29, "durable", "tasks")
def test_garbage_is_a_dead_letter_with_its_bytes(
    own_server: Server, make_app: MakeApp, quickly: dict[str, Any], every_style: None
) -> None:
    got = Got(make_app(own_server.url, **quickly), make_app(own_server.url, **quickly))
    with got.app:
        got.goes_on("before")
        for number, body in enumerate(BODIES):
            for key in (LOG, LIST):
                own_server.execute("XADD", key, "*", "b", body)
            if number % 4 == 0:
                got.goes_on(f"after {number}")
        for fields in FOREIGN:
            for key in (LOG, LIST):
                own_server.execute("XADD", key, "*", *fields)
        got.goes_on("after all")
        got.at_rest()
        letters = [got.caller.dead("orders", "billing"), got.queue.dead()]
    readable = {b"null", b'{"id":1}', b"1"}  # these are JSON: a group takes any
    for found, bodies in zip(letters, ([one for one in BODIES if one not in readable], BODIES), strict=True):
        assert {letter.reason for letter in found} == {"undecodable"}
        assert {letter.body for letter in found} >= set(bodies)
    assert len(letters[1]) == len(BODIES) + len(FOREIGN)


@pytest.mark.fault(29, "durable", "tasks")
def test_garbage_where_delayed_work_is_kept_stops_nothing(
    own_server: Server,
    make_app: MakeApp,
    quickly: dict[str, Any],
    every_style: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("redis_toolkit.worker.chores.LOOK", 0.1)  # nobody says that garbage is due
    got = Got(make_app(own_server.url, **quickly), make_app(own_server.url, **quickly))
    places = [
        (keys.task_delayed("q"), keys.task_bodies("q")),
        (keys.group_delayed("orders", "billing"), keys.group_bodies("orders", "billing")),
    ]
    values = [b"", b"garbage", b"\xff\xff \xff \xff", b"normal x {", b"again", b"again 1 {", b"low -1 \x00"]
    with got.app:
        got.goes_on("before")
        for delayed, bodies in places:
            for number, value in enumerate(values):
                own_server.execute("HSET", bodies, f"foreign {number}", value)
                own_server.execute("ZADD", delayed, number, f"foreign {number}")
            own_server.execute("ZADD", delayed, 5, b"\xff no body")
        for number in range(3):
            got.queue.submit("take", f"later {number}", delay=0.01)
        eventually(lambda: {f"later {number}" for number in range(3)} <= set(map(str, got.tasks)))
        got.goes_on("after")
        got.at_rest()


@pytest.mark.fault(31, "durable", "tasks")
def test_too_large_is_refused_before_sending_and_foreign_is_a_dead_letter(
    own_server: Server, make_app: MakeApp, quickly: dict[str, Any], every_style: None, tier: Tier
) -> None:
    got = Got(make_app(own_server.url, **quickly), make_app(own_server.url, **quickly))
    acks = ReliableMessaging(app=got.caller)
    size = tier(2, 100) * 1024 * 1024
    with got.app:
        got.goes_on("before")
        for call in (
            lambda: got.caller.publish("orders", "x" * size),
            lambda: got.caller.publish("orders", "x" * size, id="1"),
            lambda: got.queue.submit("take", "x" * size),
            lambda: got.queue.submit("take", "x" * size, delay=9),
            lambda: acks.publish_with_ack("acks", {"x": "x" * size}),
        ):
            with pytest.raises(PayloadTooLarge):
                call()
        for key in (LOG, LIST):
            own_server.execute("XADD", key, "*", "b", b'"' + b"x" * (size - 2) + b'"')
        got.goes_on("after")
        got.at_rest()
        for letters in (got.caller.dead("orders", "billing"), got.queue.dead()):
            [letter] = letters
            assert (letter.reason, len(letter.body)) == ("undecodable", size)
    acks.stop()


@pytest.mark.fault(33, "durable", "tasks")
def test_another_codec_and_a_newer_envelope_are_dead_letters_that_say_so(
    own_server: Server, make_app: MakeApp, quickly: dict[str, Any], every_style: None
) -> None:
    got = Got(make_app(own_server.url, **quickly), make_app(own_server.url, **quickly))
    other = make_app(own_server.url, codec=SignedCodec("json", "a secret of 16 bytes or more"))
    with got.app:
        got.goes_on("before")
        other.publish("orders", {"by": "another"}, headers={"an": "envelope"})
        TaskQueue("q", app=other).submit("take", {"by": "another"})
        got.goes_on("after")
        got.at_rest()
        for letters in (got.caller.dead("orders", "billing"), got.queue.dead()):
            [letter] = letters
            assert letter.reason == "undecodable"
            assert b"by" in letter.body
            assert "codec" in letter.error


@pytest.mark.fault(33, "tasks")
def test_an_unknown_type_is_put_off_for_those_who_know_it(
    own_server: Server, make_app: MakeApp, quickly: dict[str, Any], every_style: None
) -> None:
    """As in a deploy: those who do not know it are there for a while longer, and may take it again."""
    old, new = make_app(own_server.url, **quickly), make_app(own_server.url, **quickly)
    got = Got(old, make_app(own_server.url, **quickly))
    ran: list[int] = []
    with old:
        got.goes_on("before")
        handle = got.queue.submit("new type", 7)
        eventually(lambda: got.queue.stats().delayed == 1, what="that it is put off")
        got.goes_on("after")
        later = TaskQueue("q", app=new)
        later.task(name="new type")(lambda data: ran.append(data))
        later.task(name="take")(lambda data: got.tasks.append(data))
        with new:
            old.stop()
            eventually(lambda: ran == [7], what="that it runs")
            eventually(lambda: handle.status() == "done", what="its end")


SERVING = """
from redis_toolkit.patterns import TaskQueue

@app.on("orders", group="threads")
def threads(data):
    history.write("heard", by="threads", data=data)

@app.on("orders", group="coroutines")
async def coroutines(data):
    history.write("heard", by="coroutines", data=data)

queue, more = TaskQueue("threads", app=app), TaskQueue("coroutines", app=app)

@queue.task(name="take")
def take(data):
    history.write("heard", by="queue of threads", data=data)

@more.task(name="take")
async def take_later(data):
    history.write("heard", by="queue of coroutines", data=data)

@app.on("state", events=False)
def state():
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) / 1024

app.run(workers=0)
"""
EVERYWHERE = {"threads", "coroutines", "queue of threads", "queue of coroutines"}


def as_task(bomb: bytes, name: str, *, is_json: bool) -> bytes:
    """Return the body of a task whose payload is a bomb."""
    if is_json:
        return json.dumps({"id": name, "task": "take"}).encode()[:-1] + b',"data":' + bomb + b"}"
    return b"\x83" + b"".join(map(msgpack.packb, ("id", name, "task", "take", "data"))) + bomb


@pytest.mark.fault(30, "durable", "tasks")
@pytest.mark.parametrize(
    "codec",
    ["json", pytest.param("msgpack", marks=pytest.mark.long), pytest.param("orjson", marks=pytest.mark.long)],
)
def test_bombs_are_dead_letters_in_little_memory(
    programs: Programs, client: App, own_server: Server, codec: str, tier: Tier
) -> None:
    programs.start(SERVING, settings={"codec": codec})
    eventually(lambda: len(client.groups("orders")) == 2, what="the groups")
    eventually(lambda: own_server.execute("EXISTS", keys.servers("state")), what="the registration")
    before = client.request("state", timeout=60)
    queues = [TaskQueue(name, app=client) for name in ("threads", "coroutines")]
    bombs = [(True, *bomb) for bomb in JSON_BOMBS.items()]
    bombs += [(False, *bomb) for bomb in MSGPACK_BOMBS.items()]
    raw = client.client
    for is_json, name, bomb in bombs * tier(1, 5):
        raw.xadd(LOG, {"b": bomb})
        for queue in queues:
            body = as_task(bomb, f"bomb {name}", is_json=is_json)
            raw.xadd(keys.task_ready(queue.name, "normal"), {"b": body})
    client.publish("orders", "after")
    for queue in queues:
        queue.submit("take", "after")
    programs.history.wait_for(
        lambda seen: {entry["by"] for entry in seen} >= EVERYWHERE, event="heard", timeout=60
    )
    assert {entry["data"] for entry in programs.history.read("heard")} == {"after"}
    count = len(bombs) * tier(1, 5)
    names = [group.name for group in client.groups("orders")]
    for name in names:
        key = keys.group_dead("orders", name)
        eventually(lambda key=key: own_server.execute("XLEN", key) == count)  # type: ignore[misc]
    for queue in queues:
        eventually(lambda queue=queue: queue.stats().dead == count)  # type: ignore[misc]
    after = client.request("state", timeout=60)
    assert after - before < ROOM_MB, f"{before:.0f} MB before, {after:.0f} MB after"
