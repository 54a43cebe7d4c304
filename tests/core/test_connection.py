"""Connections to real servers: how they are named, made, checked, given back and lost."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import redis

from redis_toolkit import App
from redis_toolkit._core.connection import NOTHING, Connections, shared_connections
from redis_toolkit._core.recovery import Failed, Fate
from redis_toolkit.errors import (
    AuthenticationFailed,
    ConfigurationError,
    PermissionDenied,
    ServerUnreachable,
)
from tests.kit.ports import HOST, free_port
from tests.kit.proxy import Proxy
from tests.kit.servers import Server
from tests.kit.threads import in_threads
from tests.kit.waiting import eventually

SECRET = "s3cr3t"


def soon() -> float:
    return time.monotonic() + 30


@pytest.fixture
def connections(server: Server) -> Iterator[Connections]:
    made = Connections(server.url)
    yield made
    made.close()


def answers(made: Connections) -> bool:
    link = made.acquire(soon())
    try:
        return link.call([("PING",)], soon()) == [b"PONG"]
    finally:
        link.close()


class TestURLs:
    @pytest.mark.parametrize(
        "form",
        [
            "redis://{host}:{port}/0",
            "redis://{host}:{port}",
            "redis://{host}:{port}/0?health_check_interval=5&protocol=3&decode_responses=true&max_connections=1",
            "valkey://{host}:{port}/0",
            "redis://localhost:{port}/0",
        ],
    )
    def test_by_tcp(self, own_server: Server, form: str) -> None:
        assert answers(Connections(form.format(host=HOST, port=own_server.port)))

    def test_by_unix_socket(self, tmp_path: Path) -> None:
        (tmp_path / "s").mkdir()
        path = tmp_path / "s" / "sock"
        with Server(directory=tmp_path, config={"unixsocket": str(path)}):
            assert answers(Connections(f"unix://{path}"))
            assert answers(Connections(f"unix://{path}?db=3"))

    def test_the_database_number_counts(self, server: Server) -> None:
        made = Connections(f"redis://{HOST}:{server.port}/3")
        link = made.acquire(soon())
        link.call([("SET", "a", "b")], soon())
        link.close()
        assert server.execute("DBSIZE") == 0

    @pytest.mark.fault(36, "events", "requests")
    def test_user_and_password(self, own_server: Server) -> None:
        own_server.execute("ACL", "SETUSER", "ann", "on", f">{SECRET}/@:", "~*", "&*", "+@all")
        encoded = f"{SECRET}%2F%40%3A"

        assert answers(Connections(f"redis://ann:{encoded}@{HOST}:{own_server.port}/0"))
        for wrong in (
            f"redis://ann:wrong{SECRET}@{HOST}:{own_server.port}",
            f"redis://bob:{SECRET}@{HOST}:{own_server.port}",
        ):
            app = App(wrong)
            started = time.monotonic()
            with pytest.raises(AuthenticationFailed, match="check user and password") as caught:
                app.publish("a", 1)
            assert SECRET not in str(caught.value)
            assert ":***@" in str(caught.value)
            assert time.monotonic() - started < 4  # at once, not at the end of command_timeout

    @pytest.mark.fault(35, "events", "requests")
    def test_what_a_user_may_not_do_is_said(self, own_server: Server) -> None:
        own_server.execute("ACL", "SETUSER", "ann", "on", f">{SECRET}", "~*", "&*", "+@all", "-publish")
        app = App(f"redis://ann:{SECRET}@{HOST}:{own_server.port}/0")
        with pytest.raises(PermissionDenied, match="ACL SETUSER") as caught:
            app.publish("a", 1)
        assert SECRET not in str(caught.value)
        app.stop()

    @pytest.mark.parametrize(
        "url",
        [
            "localhost:6379",
            "http://localhost",
            "redis:/localhost",
            "",
            "redis://localhost:port",
            "redis://localhost:99999",
            "redis://localhost?socket_timeout=soon",
            "redis://localhost?colour=blue",
            "redis://localhost/first",
            f"redis://ann:12/{SECRET}@localhost",
            f"redis://ann:{SECRET}@localhost?colour=blue",
            f"redis://ann:{SECRET}@localhost:99999",
            f"redis://ann:a{SECRET}#b{SECRET}@localhost",
            f"redis://:{SECRET}/{SECRET}@localhost",
            f"redis://:{SECRET}@x@localhost:bad",
            f"redis://localhost:bad?password={SECRET}",
            f"htp://ann:{SECRET}@localhost",
        ],
    )
    def test_a_bad_one_is_refused_before_anything_is_sent(self, url: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            Connections(url)
        chain: BaseException | None = caught.value
        while chain is not None:
            assert SECRET not in str(chain)
            chain = None if chain.__suppress_context__ else chain.__cause__ or chain.__context__

    @pytest.mark.parametrize(
        "url",
        [
            f"redis://ann:{SECRET}@{{at}}",
            f"redis://:{SECRET}@{{at}}/0",
            f"redis://{{at}}/0?password={SECRET}",
        ],
    )
    def test_a_password_is_never_shown(self, url: str, caplog: pytest.LogCaptureFixture) -> None:
        app = App(url.format(at=f"{HOST}:{free_port()}"))
        with caplog.at_level(logging.DEBUG):
            with pytest.raises(ServerUnreachable) as caught:
                app.publish("a", 1)
            assert not app.health_check()
        assert SECRET not in str(caught.value) + caplog.text
        assert HOST in str(caught.value)

    def test_of_a_client(self, server: Server) -> None:
        client = redis.Redis(host=HOST, port=server.port, decode_responses=True, db=2)
        app = App(redis=client)
        assert app.health_check()
        assert app.client is client
        app.stop()
        client.close()

    @pytest.mark.parametrize("client", [5, "redis://localhost", redis.asyncio.Redis()])
    def test_what_is_no_client(self, client: object) -> None:
        with pytest.raises(ConfigurationError, match=r"redis\.Redis"):
            App(redis=client)


class TestNoServer:
    @pytest.mark.fault(36, "events", "requests")
    def test_one_sentence_says_where_why_and_what_to_do(self) -> None:
        url = f"redis://{HOST}:{free_port()}/0"
        with pytest.raises(ServerUnreachable) as caught:
            App(url).publish("a", 1)
        text = str(caught.value)
        assert text.startswith(f"cannot reach {url}: ")
        assert "refused" in text.lower()
        assert 'App("embedded://")' in text
        assert "\n" not in text

    def test_one_that_was_never_there_is_not_waited_for(self) -> None:
        app = App(f"redis://{HOST}:{free_port()}/0", command_timeout=600)
        for ask in (lambda: app.publish("a", 1), lambda: app.request("a", 1, timeout=600)):
            started = time.monotonic()
            with pytest.raises(ServerUnreachable):
                ask()
            assert time.monotonic() - started < 60

    def test_building_an_app_connects_to_nothing(self, own_server: Server) -> None:
        with Proxy(HOST, own_server.port) as proxy:
            app = App(proxy.url)
            app.on("a")(lambda data: data)
            assert proxy.accepted == 0
            assert app.health_check()
            assert proxy.accepted == 1
            app.stop()


class TestHowTheyAreBuilt:
    def test_resp2_without_retries_and_notifications(self, connections: Connections) -> None:
        link = connections.acquire(soon())
        inner = link._connection
        assert inner.protocol in (2, "2")
        assert inner.retry.get_retries() == 0
        assert not inner.maint_notifications_config.enabled
        assert inner.health_check_interval == 0
        link.close()

    def test_the_public_client_is_too(self, connections: Connections) -> None:
        assert connections.client.ping()
        options = connections.client.connection_pool.connection_kwargs
        assert options["retry"].get_retries() == 0
        assert options["protocol"] == 2

    def test_a_clients_own_retries_are_not_taken_over(self, server: Server) -> None:
        with redis.Redis(host=HOST, port=server.port) as client:
            made = Connections(None, client=client)
            link = made.acquire(soon())
            assert link._connection.retry.get_retries() == 0
            assert link.call([("PING",)], soon()) == [b"PONG"]
            link.close()


class TestThePool:
    def test_a_connection_is_used_again(self, connections: Connections) -> None:
        link = connections.acquire(soon())
        connections.release(link)
        assert connections.acquire(soon()) is link
        link.close()

    def test_one_with_an_unread_reply_is_not(self, connections: Connections) -> None:
        stale = connections.acquire(soon())
        stale.send([("ECHO", "the reply to another call")])
        eventually(lambda: not stale.is_clean())
        connections.release(stale)

        link = connections.acquire(soon())
        assert link is not stale
        assert link.call([("ECHO", "mine")], soon()) == [b"mine"]
        link.close()

    def test_one_with_half_a_reply_read_is_not(self, connections: Connections) -> None:
        stale = connections.acquire(soon())
        stale.send([("ECHO", "one"), ("ECHO", "two"), ("ECHO", "three")])
        assert stale.read(30) == b"one"
        eventually(lambda: not stale.is_clean())
        connections.release(stale)

        link = connections.acquire(soon())
        assert link.call([("ECHO", "mine")], soon()) == [b"mine"]
        link.close()

    def test_one_that_the_server_has_closed_is_not(self, server: Server, connections: Connections) -> None:
        link = connections.acquire(soon())
        [client_id] = link.call([("CLIENT", "ID")], soon())
        server.execute("CLIENT", "KILL", "ID", client_id)
        eventually(lambda: not link.is_clean())
        connections.release(link)

        assert answers(connections)

    def test_what_failed_is_closed(self, connections: Connections) -> None:
        link = connections.acquire(soon())
        link.send([("BLPOP", "nothing", 0)])
        with pytest.raises(Failed) as caught:
            link.read(0.05)
        assert caught.value.fate is Fate.UNKNOWN
        assert link._connection._sock is None

    def test_polling_leaves_it_open(self, connections: Connections) -> None:
        link = connections.acquire(soon())
        assert link.poll(0.01) is NOTHING
        assert link.call([("PING",)], soon()) == [b"PONG"]
        link.close()

    def test_error_replies_are_returned_in_their_place(self, connections: Connections) -> None:
        link = connections.acquire(soon())
        one, error, two = link.call([("ECHO", "1"), ("NONSENSE",), ("ECHO", "2")], soon())
        assert (one, two) == (b"1", b"2")
        assert isinstance(error, redis.ResponseError)
        link.close()

    def test_apps_with_one_url_share_it(self) -> None:
        url = f"redis://{HOST}:{free_port()}/0"
        one = shared_connections(url, 5.0)
        assert shared_connections(url, 5.0) is one
        assert shared_connections(url, 1.0) is not one
        assert App(url)._connections is App(url)._connections is one

    def test_fifty_threads_at_once(self, server: Server, connections: Connections) -> None:
        def work(number: int) -> None:
            for turn in range(20):
                link = connections.acquire(soon())
                text = b"%d.%d" % (number, turn)
                assert link.call([("ECHO", text)], soon()) == [text]
                connections.release(link)

        in_threads(*(partial(work, number) for number in range(50)))

    def test_closing_leaves_nothing_open(self, server: Server) -> None:
        made = Connections(server.url)
        links = [made.acquire(soon()) for _ in range(3)]
        ours = {link.call([("CLIENT", "ID")], soon())[0] for link in links} | {made.client.client_id()}
        for link in links:
            made.release(link)
        made.close()

        look = server.client()
        eventually(lambda: not ours & {int(client["id"]) for client in look.client_list()})
        assert answers(made)


FORKING = """
import os, sys, time
from redis_toolkit import App

app = App(sys.argv[1], command_timeout=30)
app.publish("a", 1)
mine = app._connections.acquire(time.monotonic() + 30)
number = mine.call([("CLIENT", "ID")], time.monotonic() + 30)
app._connections.release(mine)
child = os.fork()
if child == 0:
    link = app._connections.acquire(time.monotonic() + 30)
    theirs = link.call([("CLIENT", "ID")], time.monotonic() + 30)
    link.close()
    app.publish("a", 2)
    os._exit(0 if theirs != number else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
again = app._connections.acquire(time.monotonic() + 30)
assert again is mine
assert again.call([("CLIENT", "ID")], time.monotonic() + 30) == number
again.close()
app.stop()
print("apart")
"""


@pytest.mark.fault(21, "events", "requests")
def test_a_forked_child_has_connections_of_its_own(server: Server) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING, server.url], capture_output=True, text=True, timeout=120,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("apart", "")
