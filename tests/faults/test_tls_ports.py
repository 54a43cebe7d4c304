"""A plain connection to a port that speaks TLS: whatever the port does with it, the error says ``rediss://``."""

from __future__ import annotations

import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from socket import MSG_PEEK, SO_LINGER, SOL_SOCKET, socket
from typing import Any

import pytest

from redis_toolkit import App, RedisToolkit, ServerUnreachable
from tests.core.accepting import Accepting
from tests.core.callers import LATE
from tests.e2e.conftest import MakeApp
from tests.kit.ports import HOST
from tests.kit.servers import Server
from tests.kit.tls import Certificates, TLSFront

HANDSHAKE = b"\x16"
"""The first byte of a TLS connection."""
ALERT = b"\x15\x03\x03\x00\x02\x02\x0a"
"""A TLS record: fatal, unexpected message."""


class Port(Accepting):
    """Speaks TLS to who does, and does something else to who does not; counts both."""

    def __init__(self, certificates: Certificates, refuse: Callable[[socket], None] | None) -> None:
        self.accepted = 0
        self._refuse = refuse
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificates.server.configure_cert(self._context)
        super().__init__()

    def _serve(self, client: socket) -> None:
        self.accepted += 1
        with suppress(OSError):
            first = client.recv(1, MSG_PEEK)
            if self._refuse is None or first[:1] == HANDSHAKE:
                with self._context.wrap_socket(client, server_side=True):
                    return
            self._refuse(client)


class HangsUp(Port):
    def _serve(self, client: socket) -> None:
        with client:
            client.recv(4096)


def says_it_in_tls(client: socket) -> None:
    client.sendall(ALERT)
    client.close()


def hangs_up(client: socket) -> None:
    client.recv(4096)
    client.close()


def resets(client: socket) -> None:
    client.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=[says_it_in_tls, hangs_up, resets, None], ids=["alert", "fin", "rst", "openssl"])
def port(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Port]:
    with closing(Port(certificates, request.param)) as port:
        yield port


def refused(call: Callable[[], Any], within: float) -> str:
    started = time.monotonic()
    with pytest.raises(ServerUnreachable) as caught:
        call()
    assert time.monotonic() - started < within
    assert type(caught.value) is ServerUnreachable  # not OutcomeUnknown: nothing was executed
    return str(caught.value)


CALLS: dict[str, Callable[[App], Any]] = {
    "publish": lambda app: app.publish("news", 1),
    "request": lambda app: app.request("orders", 1, timeout=60),
    "request_many": lambda app: app.request_many("orders", [1, 2], timeout=60),
    "start": lambda app: app.start(),
}


@pytest.mark.parametrize("database", [0, 1])  # with 1 there is a login, without any there is none
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.fault(36, "events", "requests")
def test_it_is_said_at_once(
    port: Port, make_app: MakeApp, every_style: None, call: str, database: int
) -> None:
    app = make_app(port.url.replace("/0", f"/{database}"), connect_timeout=30, command_timeout=60)
    app.on("news", requests=False)(lambda data: data)
    said = refused(lambda: CALLS[call](app), 15)
    assert "that port speaks TLS: use rediss://" in said
    assert port.accepted <= (4 if call == "request_many" else 2)  # awaited, those are two calls


@pytest.mark.fault(36, "events")
def test_the_small_front_door_says_it_too(port: Port) -> None:
    assert "use rediss://" in refused(lambda: RedisToolkit(["news"], print, url=port.url), 15)


@pytest.mark.fault(36, "requests")
def test_a_front_that_asks_for_a_certificate_speaks_tls_too(
    own_server: Server, tmp_path: Path, make_app: MakeApp
) -> None:
    with TLSFront(own_server.port, Certificates(tmp_path), ask_client=True) as front:
        app = make_app(f"redis://{HOST}:{front.port}")
        assert "use rediss://" in refused(lambda: app.publish("news", 1), app.settings.command_timeout)


@pytest.mark.fault(36, "requests")
def test_a_port_that_says_nothing_is_asked_about(
    certificates: Certificates, make_app: MakeApp, every_style: None
) -> None:
    with closing(Port(certificates, lambda _client: None)) as port:
        app = make_app(port.url, connect_timeout=0.3, command_timeout=0.5)
        said = refused(lambda: app.publish("news", 1), 0.5 + LATE)
    assert "does that port speak TLS? Then use rediss://" in said or "took too long" in said


@pytest.mark.fault(36, "requests")
def test_a_port_that_hangs_up_on_everybody_does_not_speak_tls(
    certificates: Certificates, make_app: MakeApp, every_style: None
) -> None:
    with closing(HangsUp(certificates, None)) as port:
        app = make_app(port.url, connect_timeout=30, command_timeout=1)
        said = refused(lambda: app.publish("news", 1), 15)
    assert "TLS" not in said
    assert "closed" in said
