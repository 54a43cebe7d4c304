"""``rediss://``: calls, handlers and subscriptions over TLS, and what is said when it cannot be."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from redis_toolkit import App, ConfigurationError, ServerUnreachable
from tests.core.callers import LATE
from tests.e2e.conftest import MakeApp
from tests.kit.ports import HOST
from tests.kit.proxy import Proxy
from tests.kit.servers import Server
from tests.kit.tls import Certificates, TLSFront
from tests.kit.waiting import eventually
from tests.worker.programs import PID, Programs, both_answer, nothing_is_left

BIG = "x" * 700_000  # more than a socket's buffers and a TLS record


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def front(own_server: Server, certificates: Certificates) -> Iterator[TLSFront]:
    with TLSFront(own_server.port, certificates) as front:
        yield front


def serve(app: App) -> list[Any]:
    got: list[Any] = []
    app.on("news", requests=False)(got.append)
    app.on("echo", events=False)(lambda data: data)
    return got


@pytest.mark.usefixtures("every_style", "server")
class TestWorks:
    def test_everything(self, front: TLSFront, certificates: Certificates, make_app: MakeApp) -> None:
        app = make_app(front.url(certificates))
        got = serve(app)
        app.start()
        assert app.request("echo", {"a": 1}) == {"a": 1}
        assert app.request("echo", BIG, timeout=60) == BIG
        assert app.request_many("echo", range(300), timeout=60) == list(range(300))
        assert app.publish_many("news", range(1000)) == [1] * 1000
        assert app.publish("news", BIG) == 1
        eventually(lambda: got == [*range(1000), BIG])
        assert app.health_check()

    def test_a_connection_that_is_cut_is_made_again(
        self, front: TLSFront, certificates: Certificates, make_app: MakeApp, quickly: dict[str, Any]
    ) -> None:
        app = make_app(front.url(certificates), **quickly)
        got = serve(app)
        app.start()
        assert app.request("echo", 1) == 1
        front.cut()
        eventually(app.health_check, what="subscriptions again")
        assert app.request("echo", 2, timeout=60, retries=3) == 2
        assert app.publish("news", 3) == 1
        eventually(lambda: got == [3])

    def test_slow_and_in_slices(self, front: TLSFront, certificates: Certificates, make_app: MakeApp) -> None:
        with Proxy(HOST, front.port) as proxy:
            proxy.slice(7)
            app = make_app(front.url(certificates).replace(f":{front.port}/", f":{proxy.port}/"))
            serve(app)
            app.start()
            assert app.request("echo", "y" * 5000, timeout=60) == "y" * 5000
            app.stop()


def test_worker_processes(
    own_server: Server, front: TLSFront, certificates: Certificates, make_app: MakeApp, tmp_path: Path
) -> None:
    caller = make_app(front.url(certificates))
    with ExitStack() as stack:
        programs = Programs(own_server, tmp_path, stack)
        program = programs.serving(PID, HEARING, "app.run(workers=2)\n", url=front.url(certificates))
        assert both_answer(caller) == set(program.children())
        assert caller.publish("news", 1) == 1  # one of the two listens
        programs.history.wait_for(len, event="heard")
        front.cut()
        eventually(lambda: answers(caller, "pid"), what="workers again")
        assert both_answer(caller) == set(program.children())
        eventually(lambda: caller.publish("news", 2) == 1, what="the subscription again")
        heard = programs.history.wait_for(lambda seen: len(seen) == 2, event="heard")
        assert [entry["data"] for entry in heard] == [1, 2]
        program.terminate()
        assert program.wait() == 0, program.output
    nothing_is_left(own_server, [], "pid", "news")


HEARING = """
@app.on("news", requests=False)
async def news(data):
    history.write("heard", data=data)
"""


def answers(caller: App, channel: str) -> bool:
    try:
        return bool(caller.request(channel, timeout=5))
    except (ConnectionError, TimeoutError):
        return False


def test_a_pooled_connection_is_used_again(front: TLSFront, certificates: Certificates) -> None:
    app = App(front.url(certificates))
    for number in range(20):
        app.publish("news", number)
    assert front.accepted == 1
    app.stop()


def test_one_with_decrypted_bytes_that_nobody_read_is_not(
    front: TLSFront, certificates: Certificates
) -> None:
    app = App(front.url(certificates))
    link = app._connections.acquire(time.monotonic() + 30)
    link.send([("ECHO", "one"), ("ECHO", "x" * 10_000)])
    sock = link._connection._sock

    def first_byte() -> bytes | None:
        with suppress(ssl.SSLWantReadError):
            return bytes(sock.recv(1))
        return None

    eventually(first_byte)  # the rest of the record stays in OpenSSL
    assert not link.is_clean()
    app._connections.release(link)
    assert app.publish("news", 1) == 0
    assert front.accepted == 2
    app.stop()


def test_a_certificate_of_the_client(own_server: Server, certificates: Certificates) -> None:
    with TLSFront(own_server.port, certificates, ask_client=True) as front:
        app = App(
            front.url(certificates, f"&ssl_certfile={certificates.client}&ssl_keyfile={certificates.client}")
        )
        assert app.publish("news", 1) == 0
        app.stop()
        with pytest.raises(ServerUnreachable):
            App(front.url(certificates)).publish("news", 1)


def says(app: App, text: str, kind: type[Exception] = ServerUnreachable) -> None:
    started = time.monotonic()
    with pytest.raises(kind, match=text) as caught:
        app.publish("news", 1)
    assert time.monotonic() - started < app.settings.connect_timeout + LATE
    assert "\n" not in str(caught.value)


@pytest.mark.fault(36, "events", "requests")
class TestRefused:
    @pytest.fixture
    def every(self, make_app: MakeApp) -> MakeApp:
        return make_app

    def test_an_unknown_authority(self, front: TLSFront, every: MakeApp) -> None:
        says(every(front.url()), "ssl_ca_certs")
        assert front.accepted <= 2

    def test_another_name(self, own_server: Server, tmp_path: Path, every: MakeApp) -> None:
        other = Certificates(tmp_path, "somewhere.example")
        with TLSFront(own_server.port, other) as front:
            says(every(front.url(other)), "ssl_check_hostname")
            app = every(front.url(other, "&ssl_check_hostname=false"))
            assert app.publish("news", 1) == 0

    def test_tls_to_a_port_without(
        self, own_server: Server, certificates: Certificates, every: MakeApp
    ) -> None:
        url = f"rediss://{HOST}:{own_server.port}/0?ssl_ca_certs={certificates.ca}"
        says(every(url, connect_timeout=1.0), "redis://")

    def test_files_that_are_not_there(self) -> None:
        with pytest.raises(ConfigurationError, match="ssl_ca_certs=/nowhere"):
            App(f"rediss://{HOST}:1/0?ssl_ca_certs=/nowhere")
