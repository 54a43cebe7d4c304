"""The login of a new connection: the commands of redis-py, unless a connection has its own."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from redis.credentials import UsernamePasswordCredentialProvider

from redis_toolkit._core.connection import Connections
from redis_toolkit._core.login import login, logs_in_plainly
from redis_toolkit._core.recovery import Failed, Fate
from redis_toolkit._core.server import server_of_url
from tests.core.test_connection import soon
from tests.kit.ports import HOST
from tests.kit.servers import Server


def connection(query: str) -> Any:
    server = server_of_url(f"redis://{query}")
    return server.kind(**server.options)


@pytest.mark.parametrize(
    ("url", "commands"),
    [
        ("localhost", []),
        ("localhost/0", []),
        ("localhost/3", [("SELECT", 3)]),
        (":secret@localhost", [("AUTH", "secret")]),
        ("ann:secret@localhost", [("AUTH", "ann", "secret")]),
        (
            "ann:secret@localhost/3?client_name=me",
            [("AUTH", "ann", "secret"), ("CLIENT", "SETNAME", "me"), ("SELECT", 3)],
        ),
    ],
)
def test_the_commands_of_a_url(url: str, commands: list[Any]) -> None:
    made = connection(url)
    assert logs_in_plainly(made)
    assert login(made) == commands


def test_a_provider_of_credentials_is_asked_for_each_connection(own_server: Server) -> None:
    own_server.execute("ACL", "SETUSER", "ann", "on", ">secret", "~*", "&*", "+@all")
    provider = UsernamePasswordCredentialProvider("ann", "secret")
    with redis.Redis(host=HOST, port=own_server.port, credential_provider=provider, db=2) as client:
        link = Connections(None, client=client).dedicated(soon())
        assert link.call([("ACL", "WHOAMI")], soon()) == [b"ann"]
        assert b" db=2 " in link.call([("CLIENT", "INFO")], soon())[0]
        link.close()


def test_a_login_function_of_the_clients_own_is_kept(server: Server) -> None:
    def own(made: Any = None) -> None:
        made.on_connect()
        made.send_command("CLIENT", "SETNAME", "mine")
        made.read_response()

    with redis.Redis(host=HOST, port=server.port, redis_connect_func=own) as client:
        link = Connections(None, client=client).dedicated(soon())
        assert link.call([("CLIENT", "GETNAME")], soon()) == [b"mine"]
        link.close()


def test_a_class_with_a_login_of_its_own_keeps_it() -> None:
    class Own(redis.Connection):
        def on_connect(self) -> None: ...

    assert not logs_in_plainly(Own())  # type: ignore[no-untyped-call]


def test_a_refusal_in_the_middle_is_told(server: Server) -> None:
    with pytest.raises(Failed, match="DB index is out of range") as caught:
        Connections(f"redis://{HOST}:{server.port}/9999?client_name=me").dedicated(soon())
    assert caught.value.fate is Fate.REFUSED
