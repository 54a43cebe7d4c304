"""Bodies made to exhaust a decoder, as events and as requests, to a worker process whose memory is measured.

Rules: each bomb is sent raw, to ``def`` and to ``async def`` handlers. It is dropped, or answered with a
`DecodeError`; the next message is handled; and the process never had much more memory than before.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import msgpack
import pytest

from redis_toolkit import App, keys
from tests.kit.faults import Tier
from tests.kit.waiting import eventually
from tests.worker.programs import Programs

SIZE = 1_000_000
"""Bytes of a large bomb: just within the limit, with an envelope around it."""
ROOM_MB = 300
"""How much more memory the process may ever have had, after all bombs, however often: about twice what is
measured, as each of its threads keeps some. Lengths that lie would be gigabytes, taken at their word."""

JSON_BOMBS: dict[str, bytes] = {
    "depth": b"[" * 50_000 + b"]" * 50_000,
    "depth of maps": b'{"a":' * 90_000 + b"1" + b"}" * 90_000,
    "open": b"[" * SIZE,
    "digits": b"1" * 100_000,
    "digits of a float": b"1" * 100_000 + b".5",
    "many long numbers": b"[" + b"9" * 20 + b"," + b"1," * (SIZE // 2 - 20) + b"99999999999999999999]",
    "NaN": b'{"a":NaN}',
    "exponent": b"[1e400]",
    "many exponents": b"[" + b"1e99," * (SIZE // 5 - 2) + b"1e400]",
    "a key twice": b'{"a":1,"a":2}',
    "a key again and again": b'{"a":1' + b',"a":1' * (SIZE // 6 - 10) + b"}",
    "a key twice at the end": b"[[" + b"1," * (SIZE // 2 - 20) + b'1],{"a":1,"a":1}]',
    "lists": b"[" + b"[]," * (SIZE // 3 - 2) + b"1]",
    "deep lists": b"[" + (b"[" * 90 + b"]" * 90 + b",") * (SIZE // 181 - 1) + b"1]",
    "maps": b"[" + b'{"":[]},' * (SIZE // 8 - 2) + b"1]",
    "half a surrogate pair": b'["' + b"\\u0041" * (SIZE // 6 - 10) + b'\\ud800"]',
    "no UTF-8": b'["' + b"\xff" * SIZE + b'"]',
}


def array(count: int, items: bytes = b"") -> bytes:
    return b"\xdd" + struct.pack(">I", count) + items


MSGPACK_BOMBS: dict[str, bytes] = {
    "depth": b"\x91" * 100_000 + b"\x90",
    "NaN": b"\xcb\x7f\xf8" + bytes(6),
    "NaN at the end": array(SIZE - 20, b"\x01" * (SIZE - 21) + b"\xcb\x7f\xf8" + bytes(6)),
    "infinity among lists": array(90_001, b"\x90" * 90_000 + b"\xcb\x7f\xf0" + bytes(6)),
    "a key twice": b"\x82\xa1a\x01\xa1a\x02",
    "extension": b"\xc7\x03\x05abc",
    "extensions": array(SIZE // 3 - 9, b"\xd4\x05x" * (SIZE // 3 - 9)),
    "time": b"\xd6\xff\x00\x00\x00\x01",
    "a list as a key": b"\x81\x91\x01\x01",
    "a map as a key": b"\x81\x80\x01",
    "a number as a key": b"\x81\x01\x01",
    "a length that lies": array(2**32 - 1),
    "lengths that lie": array(900_000) * 1000 + bytes(SIZE - 5100),
    "maps that lie": (b"\xdf\x00\x0d\xbb\xa0\xa1a") * 1000 + bytes(SIZE - 7100),
    "text that lies": b"\xdb\xff\xff\xff\xffabc",
    "lists": array(SIZE - 20, b"\x90" * (SIZE - 20)),
    "deep lists": array(SIZE // 91 - 1, (b"\x91" * 90 + b"\x90") * (SIZE // 91 - 1)),
    "maps": array(SIZE // 4 - 9, b"\x81\xa1a\x90" * (SIZE // 4 - 9)),
}
SERVING = """
@app.on("threads")
def threads(data):
    history.write("heard", by="threads", data=data)
    return data

@app.on("coroutines")
async def coroutines(data):
    history.write("heard", by="coroutines", data=data)
    return data

@app.on("state", events=False)
def state():
    status = Path("/proc/self/status").read_text().split()
    return [int(status[status.index("VmHWM:") + 1]) / 1024, app.counters]

app.run(workers=0)
"""


def as_request(bomb: bytes, name: str, reply_to: str, *, is_json: bool) -> bytes:
    """Return the item of a request list whose payload is a bomb."""
    if is_json:
        head = json.dumps({"id": name, "reply_to": reply_to}).encode()[:-1]
        return b"0 " + head + b',"data":' + bomb + b"}"
    fields = b"".join(map(msgpack.packb, ("id", name, "reply_to", reply_to, "data")))
    return b"0 \x83" + fields + bomb


@pytest.mark.fault(30, "events", "requests")
@pytest.mark.parametrize("codec", ["json", "msgpack", "orjson"])
def test_bombs_are_refused_in_little_memory_and_the_next_message_is_handled(
    programs: Programs, client: App, codec: str, tier: Tier
) -> None:
    programs.start(SERVING, settings={"codec": codec})
    eventually(lambda: client.publish("threads", "first") == 1, what="the subscription")
    for channel in ("threads", "coroutines"):
        assert client.request(channel, "asked", timeout=60) == "asked"
    before, _ = client.request("state", timeout=60)
    sent = 0
    bombs = [(True, *bomb) for bomb in JSON_BOMBS.items()]
    bombs += [(False, *bomb) for bomb in MSGPACK_BOMBS.items()]
    for is_json, name, bomb in bombs * tier(1, 5):
        for channel in ("threads", "coroutines"):
            sent += 1
            reply_to = keys.reply(channel, f"bomb {sent}")
            item = as_request(bomb, name, reply_to, is_json=is_json)
            assert len(item) <= 1024 * 1024
            raw = client.client  # redis-py's own
            assert raw.publish(channel, bomb) == 1
            raw.rpush(keys.requests(channel), item)
            error = refusal(raw.blpop([reply_to], 60))
            assert error["type"] == "DecodeError", (channel, name, error)
            client.publish(channel, f"after {sent}")
            assert client.request(channel, name, timeout=60) == name
            programs.history.wait_for(
                lambda seen, sent=sent: any(entry["data"] == f"after {sent}" for entry in seen),  # type: ignore[misc]
                event="heard",
                what=f"the event after {name!r} on {channel!r}",
            )
    after, counters = client.request("state", timeout=60)
    assert counters == {"undecodable": 2 * sent}
    assert after - before < ROOM_MB, f"{before:.0f} MB before, {after:.0f} MB after"


def refusal(popped: Any) -> dict[str, Any]:
    """Return the error of an error reply, in either format."""
    assert popped is not None
    body = popped[1]
    reply = msgpack.unpackb(body) if body[:1] >= b"\x80" else json.loads(body)
    error: dict[str, Any] = reply["error"]
    return error
