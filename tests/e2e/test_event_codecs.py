from __future__ import annotations

from typing import Any

import pytest

from redis_toolkit import App, Headers
from tests.e2e.conftest import MakeApp
from tests.kit.redis_cli import redis_cli
from tests.kit.servers import Server
from tests.kit.waiting import eventually

ORDER = {"id": 1, "lines": ["tea", "Milch, süß"], "paid": None, "price": 3.5}

# -- with the rest of the world ----------------------------------------------------------------------


def test_a_plain_publish_is_heard(server: Server, app: App) -> None:
    got: list[Any] = []
    app.on("orders", "plain:*")(got.append)
    with app:
        redis_cli(server, "PUBLISH", "orders", '{"id": 1}')
        redis_cli(server, "PUBLISH", "plain:1", " [1, 2.5, null] ")
        eventually(lambda: got == [{"id": 1}, [1, 2.5, None]])


def test_a_plain_subscriber_reads_plain_json(server: Server, app: App) -> None:
    with server.client().pubsub() as plain:  # type: ignore[no-untyped-call]
        plain.subscribe("orders")
        assert plain.get_message(timeout=30)["type"] == "subscribe"
        assert app.publish("orders", {"id": 1, "name": "süß"}) == 1
        assert app.publish_many("orders", ["text", 7]) == [1, 1]
        bodies = [plain.get_message(timeout=30)["data"] for _ in range(3)]
    assert bodies == ['{"id":1,"name":"süß"}', '"text"', "7"]


# -- codecs ------------------------------------------------------------------------------------------


class Reversed:
    """A codec of one's own."""

    name = "reversed"

    def encode(self, value: Any) -> bytes:
        return str(value)[::-1].encode()

    def decode(self, body: bytes) -> str:
        return body.decode()[::-1]


@pytest.mark.parametrize(
    ("codec", "payloads"),
    [
        ("json", [ORDER, None, True, 7, 1.5, "x", [], {}]),
        ("msgpack", [ORDER, None, True, 7, 1.5, "x", [], {}, b"\x00\xff"]),
        ("text", ["", "süß", "{", "7"]),
        (Reversed(), ["abc", "süß"]),
    ],
)
@pytest.mark.parametrize("headers", [None, {"trace": "1"}])
def test_codecs(
    server: Server, make_app: MakeApp, codec: Any, payloads: list[Any], headers: dict[str, str] | None
) -> None:
    got: list[tuple[Any, Headers]] = []
    app = make_app(server.url, codec=codec)

    @app.on("data")
    def take(data: Any, headers: Headers) -> None:
        got.append((data, headers))

    with app:
        for payload in payloads:
            app.publish("data", payload, headers=headers)
        eventually(lambda: len(got) == len(payloads))
    assert got == [(payload, headers or {}) for payload in payloads]


def test_apps_with_different_envelope_codecs_understand_each_other(server: Server, make_app: MakeApp) -> None:
    got: dict[str, list[Any]] = {"json": [], "msgpack": []}
    apps = {name: make_app(server.url, codec=name) for name in got}
    for name, app in apps.items():
        app.on("orders")(got[name].append)
        app.start()
    for app in apps.values():
        assert app.publish("orders", ORDER) == 2
        assert app.publish("orders", ORDER, headers={"a": "b"}) == 2
    eventually(lambda: all(len(seen) == 4 for seen in got.values()))
    assert got["json"] == got["msgpack"] == [ORDER] * 4
