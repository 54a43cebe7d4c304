"""Where to connect: a URL or a redis-py client, as the arguments of a redis-py connection.

Rules: whatever cannot work is refused here, before anything is connected; no message and no ``repr``
shows a password; the arguments that make a connection safe (see ``connection.py``) overrule what a URL or
a client says. A password that is called for is asked anew for each connection.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401  # else the first name lookup loads it: a fork meanwhile would hang
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import SSLConnection, parse_url
from redis.credentials import CredentialProvider
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from redis_toolkit._core.reaching import TCPConnection, TLSConnection
from redis_toolkit._core.recovery import PasswordUnknown
from redis_toolkit.errors import ConfigurationError

__all__ = ["Password", "RedisServer", "server_of_client", "server_of_url", "url_of"]

Password = str | Callable[[], str]
"""A password, or what is called for one whenever a connection is made."""

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


class RedisServer(NamedTuple):
    """Where to connect: the class and the arguments of a redis-py connection, and a name for messages."""

    kind: Any
    options: dict[str, Any]
    where: str

    def __repr__(self) -> str:
        return f"RedisServer({self.where!r})"  # there may be a password among the options


class _Asked(CredentialProvider):
    """Asks for user and password; whatever goes wrong is one error that names who was asked."""

    def __init__(self, name: str, ask: Callable[[], Any]) -> None:
        self._name = name
        self._ask = ask

    def get_credentials(self) -> Any:
        try:
            answer = self._ask()
        except Exception as error:
            # Not its text, which may be about what it read: the cause has it, for who prints a traceback.
            raise PasswordUnknown(f"{self._name} raised {type(error).__name__}") from error
        parts = answer if isinstance(answer, tuple | list) else (answer,)
        if not all(isinstance(part, str) for part in parts):
            kinds = ", ".join(type(part).__name__ for part in parts)
            raise PasswordUnknown(f"{self._name} returned {kinds}, and not text")
        if not all(_has_bytes(part) for part in parts):
            raise PasswordUnknown(f"{self._name} returned text that has no UTF-8 form")
        return tuple(parts)


def _has_bytes(text: str) -> bool:
    """Return whether a text can be sent: half a surrogate pair cannot."""
    return text.encode("utf-8", "ignore").decode("utf-8") == text


def server_of_url(url: str, password: Password | None = None) -> RedisServer:
    """Return the server of a URL.

    Args:
        url: it, with or without user and password.
        password: one that is not in the URL, or what is called for it at each connection.

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
    _refuse_relative(url)
    path = urlsplit(url).path.strip("/")
    if path and not url.startswith("unix:") and not path.isdigit():
        raise ConfigurationError(f"{_without_password(url)!r}: the database behind the / has to be a number")
    options.pop("max_connections", None)
    kind = options.pop("connection_class", redis.Connection)
    if password is not None:
        _add_password(options, password)
    return _checked(kind, options, _without_password(url))


def _refuse_relative(url: str) -> None:
    """Refuse a unix socket that is named from the current directory: only its end would be taken."""
    if url.startswith("unix:") and (start := urlsplit(url).netloc.rpartition("@")[2]):
        shown, right = _without_password(url), ""
        if "@" not in url:
            right = f", such as unix://{Path(start + urlsplit(url).path).absolute()}"
        raise ConfigurationError(f"{shown!r}: the path of the socket has to be absolute{right}")


def _add_password(options: dict[str, Any], password: Password) -> None:
    if options.get("password"):
        raise ConfigurationError("give the password in the URL or as password=, not both")
    if isinstance(password, str):
        if not _has_bytes(password):
            raise ConfigurationError("password= is text that has no UTF-8 form")
        options["password"] = password
        return
    given: object = password
    if not callable(given):
        raise ConfigurationError(
            f"password= must be text or a function without parameters, not {type(given).__name__}"
        )
    user = options.pop("username", None)
    name = f"the password function {getattr(password, '__qualname__', type(password).__name__)}"

    def login() -> tuple[str, ...]:
        return (user, password()) if user else (password(),)

    options["credential_provider"] = _Asked(name, login)


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
    provider = options.get("credential_provider")
    if provider is not None:
        options["credential_provider"] = _Asked(type(provider).__name__, provider.get_credentials)
    if options.get("username"):
        where = f"{options['username']}@{where}"
    return _checked(pool.connection_class, options, str(where))


_OURS = {redis.Connection: TCPConnection, SSLConnection: TLSConnection}
"""What is used instead of redis-py's own: see ``reaching.py``."""
_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")


def _checked(kind: Any, options: dict[str, Any], where: str) -> RedisServer:
    options |= _ALWAYS
    kind = _OURS.get(kind, kind)
    for name in _FILES:
        if options.get(name) and not Path(options[name]).exists():
            raise ConfigurationError(
                f"the server {where} cannot be used: {name}={options[name]} is not there"
            )
    options["retry"] = Retry(NoBackoff(), 0)
    options["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    try:
        kind(**options)
    except (TypeError, ValueError, redis.RedisError) as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        reason = f"there is no option {unknown[1]!r}" if unknown else str(error)
        raise ConfigurationError(f"the server {where} cannot be used with these options: {reason}") from error
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
    base, mark, query = url.partition("?")
    whole = re.search(r"(@|://)([^:@\[\]]*|\[[^\]@]*\])(:\d*)?(/[^@]*)?$", base)
    if not whole or not re.fullmatch(r"(\w+=[^&]*&?)*", query):
        base, mark, query = url, "", ""  # the ? may be one of the password's
    base = re.sub(r"(?<=://)([^:]*):.*@", r"\1:***@", base, flags=re.DOTALL)
    # A value with an @ may be the end of a password with a ? in it.
    query = re.sub(r"(?<==)[^&#]*@[^&#]*", "***", query)
    return re.sub(r"(?<=password=)[^&#]*", "***", f"{base}{mark}{query}")
