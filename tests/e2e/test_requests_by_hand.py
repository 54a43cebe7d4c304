from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor

import pytest

from redis_toolkit import (
    App,
    DecodeError,
)
from tests.kit.redis_cli import redis_cli
from tests.kit.servers import Server

pytestmark = pytest.mark.usefixtures("keys_are_tidy")

# -- by hand -----------------------------------------------------------------------------------------


def test_a_request_made_by_hand_is_answered(server: Server, app: App) -> None:
    app.on("add")(lambda a, b: a + b)
    reply_key = "rt:c:{add}:reply:x1"
    with app:
        envelope = '{"id": "x1", "reply_to": "rt:c:{add}:reply:x1", "data": {"a": 1, "b": 2}}'
        redis_cli(server, "RPUSH", "rt:c:{add}:requests", f"0 {envelope}")
        assert redis_cli(server, "BLPOP", reply_key, "30").splitlines() == [
            reply_key,
            '{"id":"x1","data":3}',
        ]


@pytest.mark.fault(29, "requests")
def test_garbage_in_a_request_list_is_skipped_or_answered_with_an_error(server: Server, app: App) -> None:
    app.on("echo")(lambda data: data)
    client = server.client()
    silent = [
        *(b"", b"garbage", b"0", b"0 ", b"-5 {}", b"1e9 {}", b"0 {", b"0 \xc1", b"0 [1]", b"0 7"),
        *(b'0 {"id": 7}', b'0 {"id": "a"}', b'0 {"id": "a", "reply_to": "mine", "data": 1}'),
        *(b"9" * 5000 + b" {}", b"0 " + b"[" * 100_000, b"0 " + b"x" * 2_000_000),
    ]
    broken = [
        b'"headers": [1], "data": 1',
        b'"channel": 7, "data": 1',
        b'"attempt": "x", "data": 1',
        b'"x": 1',
    ]
    with app:
        for number, body in enumerate(silent):
            client.rpush("rt:c:{echo}:requests", body)
            assert app.request("echo", number) == number
        for number, fields in enumerate(broken):
            key = f"rt:c:{{echo}}:reply:{number}"
            start = f'0 {{"id": "{number}", "reply_to": "{key}", '.encode()
            client.rpush("rt:c:{echo}:requests", start + fields + b"}")
            answer = server.execute("BLPOP", key, 30)[1]
            assert f'"id":"{number}"' in answer
            assert '"DecodeError"' in answer
        assert app.counters == {"undecodable": len(silent) + len(broken)}
        assert client.exists("mine") == 0


@pytest.mark.fault(29, "requests")
def test_a_reply_that_is_garbage_is_a_decode_error(server: Server, app: App) -> None:
    client = server.client()
    client.zadd("rt:c:{odd}:servers", {"hand": 2**52})
    client.expire("rt:c:{odd}:servers", 600)
    bodies = [b"garbage", b"\xc1", b"[1]", b'{"data": 1}', b'{"id": "another", "data": 1}', b"5", b""]
    bodies += [b"[" * 100_000, b"x" * 2_000_000, base64.b64encode(b"x")]

    def serve() -> None:
        for body in bodies:
            item = server.execute("BLPOP", "rt:c:{odd}:requests", 30)[1]
            reply_key = item.split('"reply_to":"')[1].split('"')[0]
            client.rpush(reply_key, body)

    app.on("echo")(lambda data: data)
    with app, ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve)
        for _ in bodies:
            with pytest.raises(DecodeError):
                app.request("odd", 1, timeout=30)
            assert app.request("echo", 2) == 2
        served.result()


@pytest.mark.fault(12, "requests")
def test_a_script_flush_is_not_noticed(server: Server, app: App) -> None:
    app.on("echo", "deep:*", requests=True)(lambda data: data)
    with app:
        for number in range(5):
            server.execute("SCRIPT", "FLUSH")
            assert app.request("echo", number) == app.request("deep:er", number) == number
            assert app.request_many("echo", [1, 2]) == [1, 2]
        server.execute("SCRIPT", "FLUSH")
