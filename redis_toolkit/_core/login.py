"""What a new connection says first: the commands of a redis-py connection's login, in RESP2.

Rules: only what every supported server knows (AUTH, CLIENT SETNAME, SELECT), in the order of redis-py.
A connection that has a login of its own, by a function or by its class, keeps it.
"""

from __future__ import annotations

from typing import Any

from redis.connection import AbstractConnection
from redis.credentials import UsernamePasswordCredentialProvider

from redis_toolkit._core.flow import Command

__all__ = ["login", "logs_in_plainly"]


def logs_in_plainly(connection: Any) -> bool:
    """Return whether `login` is all that a connection would say."""
    kind = type(connection)
    return (
        connection.redis_connect_func is None
        and issubclass(kind, AbstractConnection)
        and kind.on_connect is AbstractConnection.on_connect
        and kind.on_connect_check_health is AbstractConnection.on_connect_check_health
    )


def login(connection: Any) -> list[Command]:
    """Return the commands that log a connection in, name it, and choose its database."""
    commands: list[Command] = []
    provider = connection.credential_provider
    if provider is None and (connection.username or connection.password):
        provider = UsernamePasswordCredentialProvider(connection.username, connection.password)
    if provider is not None:
        commands.append(("AUTH", *provider.get_credentials()))
    if connection.client_name:
        commands.append(("CLIENT", "SETNAME", connection.client_name))
    if connection.db:
        commands.append(("SELECT", connection.db))
    return commands
