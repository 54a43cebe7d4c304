"""Where to connect: a URL or a redis-py client, as the arguments of a redis-py connection.

Rules: whatever cannot work is refused here, before anything is connected; no message shows a password;
the arguments that make a connection safe (see ``connection.py``) overrule what a URL or a client says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from redis_toolkit.errors import ConfigurationError

__all__ = ["RedisServer", "server_of_client", "server_of_url", "url_of"]

_ALWAYS: dict[str, Any] = {
    "protocol": 2,
    "decode_responses": False,
    "health_check_interval": 0,
    "driver_info": None,
}


_POOL_ONLY = frozenset(
    (
        "himport_registry",
        "event_dispatcher",
        "retry_on_error",
        "retry_on_timeout",
        "lib_name",
        "lib_version",
        "maint_notifications_pool_handler",
        "maint_notifications_config",
        "orig_host_address",
        "orig_socket_timeout",
        "orig_socket_connect_timeout",
        "maintenance_state",
    )
)
"""What a client's pool adds for itself, and what would bring redis-py's own retries back."""


@dataclass(frozen=True, slots=True)
class RedisServer:
    """Where to connect: the class and the arguments of a redis-py connection, and a name for messages."""

    kind: Any
    options: dict[str, Any]
    where: str


def server_of_url(url: str) -> RedisServer:
    """Return the server of a URL.

    Raises:
        ConfigurationError: it cannot be understood, or has options that do not exist.
    """
    for alias, scheme in (("valkey://", "redis://"), ("valkeys://", "rediss://")):
        if url.startswith(alias):
            url = scheme + url[len(alias) :]
    try:
        options: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
    except ValueError as error:
        shown = _without_password(url)
        # What the parser says may show a part of the password, when that is what it could not parse.
        reason = str(error) if shown == url else "a password has to be percent-encoded"
        raise ConfigurationError(
            f"{shown!r} is no URL of a server ({reason}): use redis://host:port/db, "
            "rediss://, unix:///path, valkey:// or embedded://"
        ) from (error if shown == url else None)
    path = urlsplit(url).path.strip("/")
    if path and not url.startswith("unix:") and not path.isdigit():
        raise ConfigurationError(f"{_without_password(url)!r}: the database behind the / has to be a number")
    options.pop("max_connections", None)
    kind = options.pop("connection_class", redis.Connection)
    return _checked(kind, options, _without_password(url))


def server_of_client(client: Any) -> RedisServer:
    """Return the server of a redis-py client, with its login.

    Raises:
        ConfigurationError: it is none.
    """
    pool = getattr(client, "connection_pool", None)
    if not isinstance(pool, redis.ConnectionPool):
        raise ConfigurationError(f"redis={client!r} is not a redis.Redis client")
    options = {name: value for name, value in pool.connection_kwargs.items() if name not in _POOL_ONLY}
    where = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return _checked(pool.connection_class, options, str(where))


def _checked(kind: Any, options: dict[str, Any], where: str) -> RedisServer:
    options |= _ALWAYS
    options["retry"] = Retry(NoBackoff(), 0)
    options["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    try:
        kind(**options)
    except (TypeError, ValueError, redis.RedisError) as error:
        raise ConfigurationError(f"the server {where} cannot be used with these options: {error}") from error
    return RedisServer(kind, options, where)


def url_of(options: dict[str, Any]) -> str:
    """Return the URL of a connection's options."""
    login = ""
    if options.get("password"):
        login = f"{quote(options.get('username') or '', safe='')}:{quote(str(options['password']), safe='')}@"
    if "path" in options:
        return f"unix://{login}{quote(options['path'])}?db={options.get('db') or 0}"
    host, port = options.get("host", "localhost"), options.get("port", 6379)
    return f"redis://{login}{host}:{port}/{options.get('db') or 0}"


def _without_password(url: str) -> str:
    """Hide it wherever it stands, also in a URL that cannot be parsed."""
    url = re.sub(r"(?<=://)([^:@/?#]*):.*@", r"\1:***@", url, flags=re.DOTALL)
    return re.sub(r"(?<=[?&]password=)[^&#]*", "***", url)
