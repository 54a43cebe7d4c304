"""Logging in: passwords, also rotated ones, and every way in which a server cannot be joined."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.credentials import UsernamePasswordCredentialProvider

from redis_toolkit import App, AuthenticationFailed, CommandRefused, ConfigurationError, ServerUnreachable
from redis_toolkit._core.reaching import TCPConnection
from tests.core.callers import LATE
from tests.e2e.conftest import MakeApp
from tests.kit.ports import HOST, free_port, listen
from tests.kit.servers import Server
from tests.kit.waiting import eventually

pytestmark = pytest.mark.usefixtures("every_style", "server")
SECRET = "s3cr3t"


def asking(app: App, kind: type[Exception], text: str, timeout: float = 1.0) -> None:
    """Publish, ask and start: each fails at once with an error that says why."""
    app.on("echo")(lambda data: data)
    for act in (
        lambda: app.publish("news", 1),
        lambda: app.request("echo", 1, timeout=60),
        app.start,
    ):
        started = time.monotonic()
        with pytest.raises(kind, match=text) as caught:
            act()
        assert time.monotonic() - started < timeout + LATE
        assert SECRET not in str(caught.value)
        assert "\n" not in str(caught.value)


class TestPasswords:
    def test_from_a_function_at_each_connection(
        self, own_server: Server, make_app: MakeApp, quickly: dict[str, Any]
    ) -> None:
        current, asked = [f"{SECRET}1"], list[str]()

        def password() -> str:
            asked.append(current[0])
            return current[0]

        own_server.execute("ACL", "SETUSER", "ann", "on", f">{SECRET}1", "~*", "&*", "+@all")
        app = make_app(f"redis://ann@{HOST}:{own_server.port}/0", password=password, **quickly)
        got: list[Any] = []
        app.on("news", requests=False)(got.append)
        app.on("echo", events=False)(lambda data: data)
        app.start()
        assert app.request("echo", 1) == 1
        before = len(asked)
        own_server.execute("ACL", "SETUSER", "ann", f"<{SECRET}1", f">{SECRET}2")
        current[0] = f"{SECRET}2"
        own_server.execute("CLIENT", "KILL", "USER", "ann")
        eventually(lambda: len(asked) > before and app.health_check(), what="the new password at work")
        assert app.request("echo", 2, timeout=60, retries=3) == 2
        eventually(lambda: app.publish("news", 3) == 1)
        eventually(lambda: 3 in got)

    def test_from_a_credential_provider(self, own_server: Server) -> None:
        own_server.execute("ACL", "SETUSER", "ann", "on", f">{SECRET}", "~*", "&*", "+@all")
        provider = UsernamePasswordCredentialProvider("ann", SECRET)
        with redis.Redis(host=HOST, port=own_server.port, credential_provider=provider) as client:
            app = App(redis=client)
            assert app.publish("news", 1) == 0
            assert SECRET not in repr(app._connections._server) + repr(app._connections) + repr(app)
            app.stop()

    @pytest.mark.parametrize("wrong", [lambda: dict[str, str]()["vault"], lambda: None])
    def test_a_function_that_fails_is_named(self, own_server: Server, make_app: MakeApp, wrong: Any) -> None:
        app = make_app(own_server.url, password=wrong)
        asking(app, AuthenticationFailed, "no password for .*the password function.*(KeyError|NoneType)")

    def test_none_is_shown(
        self, own_server: Server, make_app: MakeApp, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        app = make_app(own_server.url, password=SECRET)
        with pytest.raises(AuthenticationFailed) as caught:
            app.publish("news", 1)
        shown = repr(app) + repr(app._connections) + repr(app._connections._server) + repr(app.client)
        assert SECRET not in shown + caplog.text + repr(caught.value) + app.url

    def test_what_cannot_work_is_refused(self) -> None:
        for url, password in ((f"redis://:{SECRET}@x", "two"), ("redis://x", 5), ("embedded://", "any")):
            with pytest.raises(ConfigurationError, match="password"):
                App(url, password=password)  # type: ignore[arg-type]


@pytest.mark.fault(36, "events", "requests")
class TestNotLetIn:
    def test_a_wrong_password(self, own_server: Server, make_app: MakeApp) -> None:
        own_server.execute("ACL", "SETUSER", "ann", "on", ">right", "~*", "&*", "+@all")
        url = own_server.url.replace("redis://", f"redis://ann:{SECRET}@")
        asking(make_app(url), AuthenticationFailed, "ann.*check user and password")

    def test_none_where_one_is_needed(self, own_server: Server, make_app: MakeApp) -> None:
        own_server.execute("CONFIG", "SET", "requirepass", "right")
        asking(make_app(own_server.url), AuthenticationFailed, "NOAUTH.*password=")

    def test_a_wrong_database(self, own_server: Server, make_app: MakeApp) -> None:
        url = own_server.url[:-1] + "99"
        asking(make_app(url), CommandRefused, "no database of that number")

    def test_a_wrong_port(self, make_app: MakeApp) -> None:
        asking(make_app(f"redis://{HOST}:{free_port()}/0"), ServerUnreachable, "refused")

    def test_protected_mode(self, make_app: MakeApp) -> None:
        denial = b"-DENIED Redis is running in protected mode because protected mode is enabled\r\n"
        with Answering(denial) as port:
            asking(make_app(f"redis://{HOST}:{port}/0"), AuthenticationFailed, "protected mode")

    def test_a_name_that_does_not_resolve_in_time(
        self, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        go_on = threading.Event()
        real = socket.getaddrinfo

        def slow(host: Any, *args: Any, **more: Any) -> Any:
            if host == "slow.invalid" and not more.get("flags"):
                go_on.wait(60)
                raise socket.gaierror(-2, "Name or service not known")
            return real(host, *args, **more)

        monkeypatch.setattr(socket, "getaddrinfo", slow)
        try:
            app = make_app("redis://slow.invalid:6379/0", connect_timeout=0.3)
            asking(app, ServerUnreachable, "slow.invalid", timeout=5)
        finally:
            go_on.set()

    def test_many_addresses_share_one_deadline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with Answering(None, backlog=0) as port:
            addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOST, port))]
            monkeypatch.setattr(TCPConnection, "_addresses", lambda *_: addresses * 100)
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex((HOST, port))
            app = App(f"redis://{HOST}:{port}/0", connect_timeout=0.3)
            started = time.monotonic()
            with pytest.raises(ServerUnreachable):
                app.publish("news", 1)
            assert time.monotonic() - started < 0.3 + LATE
            for filler in fillers:
                filler.close()


class Answering:
    """Accepts and answers every connection with the same bytes; None: accepts nothing."""

    def __init__(self, answer: bytes | None, backlog: int = 100) -> None:
        self._answer = answer
        self._listener = listen(free_port(), backlog)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._accept)

    def _accept(self) -> None:
        self._listener.settimeout(0.05)
        while not self._ended.is_set():
            if self._answer is None:
                self._ended.wait(0.05)
                continue
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            with client:
                client.sendall(self._answer)
                client.settimeout(5)
                try:
                    client.recv(65536)
                except OSError:
                    continue

    def __enter__(self) -> int:
        self._thread.start()
        port: int = self._listener.getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(30)
        self._listener.close()


@pytest.fixture
def full(own_server: Server) -> Iterator[list[socket.socket]]:
    """Sockets that keep a server full; closing them makes room."""
    held: list[socket.socket] = []
    yield held
    for sock in held:
        sock.close()


@pytest.mark.fault(37, "events", "requests")
def test_a_full_server_is_named_and_joined_when_there_is_room(
    own_server: Server, make_app: MakeApp, quickly: dict[str, Any], full: list[socket.socket]
) -> None:
    app = make_app(own_server.url, **{**quickly, "command_timeout": 1.0})
    got: list[Any] = []
    app.on("news", requests=False)(got.append)
    app.on("echo", events=False)(lambda data: data)
    app.start()
    assert app.request("echo", 1) == 1
    admin = own_server.client()
    admin.config_set("maxclients", 5)
    me = admin.client_id()

    def refused() -> bool:
        """Take the app's connections away and fill their places, until it is the app that finds none."""
        for client in admin.client_list():
            if client["cmd"] != "NULL" and int(client["id"]) != me:
                admin.client_kill_filter(_id=client["id"])
        full.extend(socket.create_connection((HOST, own_server.port)) for _ in range(20))
        try:
            app.publish("news", 0)
        except ServerUnreachable as error:
            return "maxclients" in str(error)
        return False

    eventually(refused, what="an error that names maxclients")
    while full:
        full.pop().close()
    admin.config_set("maxclients", 1000)
    eventually(lambda: app.health_check(), what="health")
    assert app.request("echo", 2, timeout=60, retries=3) == 2
    eventually(lambda: app.publish("news", 3) == 1 and 3 in got)
