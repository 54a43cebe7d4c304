"""A fleet that changes its codec while it runs: old and new processes talk, strangers are told."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from redis_toolkit import App, DecodeError, RemoteError, SignedCodec
from tests.e2e.conftest import MakeApp
from tests.kit.processes import Process
from tests.kit.servers import Server
from tests.kit.waiting import eventually

ORDER = {
    "id": 2**64 - 1,
    "lines": ["tea", "süß"],
    "paid": None,
    "price": 3.5,
    "nested": {"rt": 1, "data": {}},
}

SERVING = """
import os
import threading
from redis_toolkit import App

name = os.environ["CODEC"]
app = App(os.environ["URL"], codec=name)


@app.on(f"ask-{name}")
def ask(data):
    return data


@app.on("news", requests=False)
def news(data):
    app.publish(f"heard-{name}", data, headers={"by": name})


if __name__ == "__main__":
    with app:
        print("ready", flush=True)
        threading.Event().wait()
"""


def test_old_and_new_processes_talk_in_both_directions(
    own_server: Server, make_app: MakeApp, tmp_path: Path
) -> None:
    names = ["json", "msgpack", "orjson"]
    heard: dict[tuple[str, str], list[Any]] = {}
    apps = {name: make_app(own_server.url, codec=name) for name in names}
    for ours, app in apps.items():
        for theirs in names:
            app.on(f"heard-{theirs}", requests=False)(heard.setdefault((ours, theirs), []).append)
        app.start()
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                Process(
                    directory=tmp_path,
                    source=SERVING,
                    env={"URL": own_server.url, "CODEC": name},
                    name=f"with-{name}",
                )
            )
            for name in names
        ]
        for process in processes:
            process.wait_for_line("ready")
        for app in apps.values():
            for theirs in names:
                assert app.request(f"ask-{theirs}", ORDER, timeout=60) == ORDER
            app.publish("news", ORDER)
            app.publish("news", ORDER, headers={"trace": "1"})
        eventually(
            lambda: all(len(seen) == 6 for seen in heard.values()), what="every event of every process"
        )
    assert all(seen == [ORDER] * 6 for seen in heard.values())


def test_a_codec_that_the_reader_does_not_have_is_named(own_server: Server, make_app: MakeApp) -> None:
    app = make_app(own_server.url)
    app.on("echo")(lambda data: data)
    stranger = make_app(own_server.url, codec=SignedCodec("json", "k" * 16))
    with app:
        with pytest.raises(RemoteError, match=r"DecodeError.*'signed-json'.*'json'"):
            stranger.request("echo", 1, timeout=60)
        stranger.publish("echo", 1, headers={"a": "b"})
        eventually(lambda: app.counters == {"undecodable": 2}, what="the count")
        assert app.request("echo", 1, timeout=60) == 1


def test_signed_requests_and_events(own_server: Server, make_app: MakeApp) -> None:
    got: list[Any] = []
    app = make_app(own_server.url, codec=SignedCodec("json", "new" * 8, "old" * 8))
    app.on("echo", events=False)(lambda data: data)
    app.on("news", requests=False)(got.append)
    behind = make_app(own_server.url, codec=SignedCodec("json", "old" * 8, "new" * 8))
    plain = make_app(own_server.url)
    with app:
        assert behind.request("echo", ORDER, timeout=60) == ORDER
        with pytest.raises(RemoteError, match="signed-json"):
            plain.request("echo", 1, timeout=60)
        plain.publish("news", 1)
        behind.publish("news", ORDER)
        eventually(lambda: got == [ORDER], what="the signed event")


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_a_request_over_the_servers_limit_is_answered(
    own_server: Server, make_app: MakeApp, codec: str
) -> None:
    app = make_app(own_server.url, max_payload=1000)
    app.on("echo", events=False)(lambda data: data)
    generous: App = make_app(own_server.url, codec=codec)
    with app:
        with pytest.raises(RemoteError, match=r"DecodeError.*limit is 1,000"):
            generous.request("echo", "x" * 10_000, timeout=60)
        assert generous.request("echo", "x", timeout=60) == "x"


def test_a_reply_that_is_signed_with_an_unknown_key_is_a_decode_error(
    own_server: Server, make_app: MakeApp
) -> None:
    old, new = "old" * 8, "new" * 8
    app = make_app(own_server.url, codec=SignedCodec("json", new, old))
    app.on("ask")(lambda data: data)
    app.start()
    behind = make_app(own_server.url, codec=SignedCodec("json", old))
    found: list[Any] = behind.request_many("ask", [1], timeout=60, return_exceptions=True)
    for call in (behind.request, lambda *ask, **more: asyncio.run(behind.arequest(*ask, **more))):
        with pytest.raises(
            DecodeError, match="'ask' cannot be read: the payload has no valid signature"
        ) as caught:
            call("ask", 1, timeout=60)
        found.append(caught.value)
    found += asyncio.run(behind.arequest_many("ask", [1], timeout=60, return_exceptions=True))
    assert [type(error) for error in found] == [DecodeError] * 4
