"""The numbers an app lives by, with their units, and where its URL comes from.

Rules: durations are float seconds here and in the public API; whatever goes on the wire or into a
script is int milliseconds and says so in its name (``_ms``). Nothing here reads the environment on
import: `default_url` does, when an `App` is built.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from redis_toolkit.errors import ConfigurationError
from redis_toolkit.misspelt import meant
from redis_toolkit.record import Frozen

__all__ = ["MAX_SECONDS", "Options", "Settings", "check_whole", "default_url", "settings_of"]

MIN_SECONDS = 0.001
MAX_SECONDS = 10_000_000
"""About four months: what sockets and servers take for a timeout on every platform."""
_WHOLE = frozenset({"concurrency", "coroutines", "max_payload", "lane_messages", "lane_bytes"})
LOCAL_URL = "redis://localhost:6379/0"


def default_url(environment: Mapping[str, str] | None = None) -> str:
    """Return the URL of an app that names none: ``$REDIS_TOOLKIT_URL``, ``$REDIS_URL``, or localhost."""
    environment = os.environ if environment is None else environment
    return environment.get("REDIS_TOOLKIT_URL") or environment.get("REDIS_URL") or LOCAL_URL


def check_whole(name: str, value: object, least: int = 1) -> None:
    """Refuse what is no whole number, or a smaller one; True is none.

    Raises:
        ConfigurationError: it is not.
    """
    if type(value) is not int or value < least:
        raise ConfigurationError(f"{name}={value!r} must be a whole number from {least}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Settings(Frozen):
    """Limits and durations of one app. The defaults are those the documentation promises.

    Args:
        connect_timeout: seconds to reach the server and log in.
        command_timeout: seconds that one publish or other short operation may take in all,
            reconnecting included.
        reconnect_cap: seconds that a reconnecting reader waits at most between two attempts.
        ping_interval: seconds of silence after which a subscribed connection is asked for a sign of
            life, and seconds that it then has to give one.
        block: seconds that one blocking claim waits on the server.
        lease: seconds that a server of requests counts as alive after its last heartbeat.
        grace: seconds that running handlers get to finish when the app stops.
        concurrency: threads per process for requests to ``def`` handlers.
        coroutines: requests to ``async def`` handlers that one process handles at once.
        max_payload: bytes of one encoded message.
        lane_messages: messages that may wait for one live handler.
        lane_bytes: bytes that may wait for one live handler.
        send_tracebacks: whether an error reply carries the handler's traceback.
    """

    connect_timeout: float = 5.0
    command_timeout: float = 5.0
    reconnect_cap: float = 5.0
    ping_interval: float = 4.0
    block: float = 2.0
    lease: float = 10.0
    grace: float = 10.0
    concurrency: int = 8
    coroutines: int = 100
    max_payload: int = 1024 * 1024
    lane_messages: int = 524_288
    lane_bytes: int = 128 * 1024 * 1024
    send_tracebacks: bool = False

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name == "send_tracebacks":
                if not isinstance(value, bool):
                    raise ConfigurationError(f"{name}={value!r} must be True or False")
            elif name in _WHOLE:
                check_whole(name, value)
            elif type(value) not in (int, float) or not MIN_SECONDS <= value <= MAX_SECONDS:
                raise ConfigurationError(
                    f"{name}={value!r} must be a number of seconds from {MIN_SECONDS} to {MAX_SECONDS:,}"
                )


class Options(TypedDict, total=False):
    """The fields of `Settings` as keyword arguments of an `App`; each is described there."""

    connect_timeout: float
    command_timeout: float
    reconnect_cap: float
    ping_interval: float
    block: float
    lease: float
    grace: float
    concurrency: int
    coroutines: int
    max_payload: int
    lane_messages: int
    lane_bytes: int
    send_tracebacks: bool


def settings_of(options: Mapping[str, Any], others: Sequence[str]) -> Settings:
    """Return the settings of an app that was given these options.

    Args:
        options: fields of `Settings`.
        others: what an app may be given besides: an unknown option may be meant as one of them.

    Raises:
        ConfigurationError: one is unknown, or cannot work.
    """
    unknown = sorted(options.keys() - Options.__annotations__.keys())
    if not unknown:
        return Settings(**options)
    named = ", ".join(f"{name}=" for name in unknown)
    known = [*others, *Options.__annotations__]
    raise ConfigurationError(f"App() has no option {named}: {meant(unknown, known)}")
