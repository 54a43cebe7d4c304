"""`RedisToolkit`: the small front door, for a script that only wants to hear and say something.

Rules: building one without channels opens nothing; instances with one URL share a pool; an error in
the message handler is logged and the subscription goes on; it lives until `RedisToolkit.cleanup`, also
when nobody keeps a reference to it.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis_toolkit.app import App
from redis_toolkit.binding import handler_name, is_async, refuse_generator
from redis_toolkit.codecs import Codec
from redis_toolkit.errors import ConfigurationError
from redis_toolkit.living import Ending
from redis_toolkit.misspelt import by_name, meant
from redis_toolkit.record import Frozen

__all__ = ["RedisOptions", "RedisToolkit"]

logger = logging.getLogger("redis_toolkit")

_living: set[RedisToolkit] = set()
"""Subscribed toolkits: the reference that keeps one alive when its owner drops it."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RedisOptions(Frozen):
    """How a `RedisToolkit` behaves.

    Args:
        subscriber_retry_delay: seconds that reconnecting waits at most between two attempts.
        is_logger_info: whether subscriptions and publishes are logged at level INFO.
    """

    subscriber_retry_delay: float = 5.0
    is_logger_info: bool = True


RedisOptions.__init__ = by_name(RedisOptions.__init__)  # type: ignore[method-assign]  # says what was meant


class RedisToolkit(Ending):
    """Hear channels in the background, and publish.

    Args:
        channels: names and globs to subscribe to; a single str is one channel.
        message_handler: called as ``message_handler(channel, data)`` on a background thread, one message
            at a time and in order; ``def`` or ``async def``.
        options: reconnect delay and logging.
        url: the server; see `App`.
        redis: a redis-py client whose server and login are used instead.
        codec: ``"json"``, ``"orjson"``, ``"msgpack"``, ``"text"`` or your own. Anything that it cannot
            read is dropped with a log line.

    Returns once every subscription is confirmed: a publish right after it is received.

    Raises:
        ConfigurationError: channels without a handler, or the other way round, or a bad option.
        ServerUnreachable: the server cannot be reached. (Without channels, `publisher` says so.)

    Example:
        ```python
        toolkit = RedisToolkit(["news", "user:*"], lambda channel, data: print(channel, data))
        RedisToolkit().publisher("news", {"title": "hello"})
        toolkit.wait()
        ```
    """

    @by_name
    def __init__(
        self,
        channels: str | Sequence[str] | None = None,
        message_handler: Callable[[str, Any], Any] | None = None,
        options: RedisOptions | None = None,
        *,
        url: str | None = None,
        redis: Any = None,
        codec: str | Codec = "json",
    ) -> None:
        self._options = _checked(options)
        names = [channels] if isinstance(channels, str) else list(channels or ())
        if bool(names) != (message_handler is not None):
            missing = "message_handler" if names else "channels"
            raise ConfigurationError(
                f"RedisToolkit needs channels and message_handler together: {missing} is missing"
            )
        self._app = App(url, redis=redis, codec=codec, reconnect_cap=self._options.subscriber_retry_delay)
        self._ended = threading.Event()
        if message_handler is None:
            return
        given: object = message_handler
        if not callable(given):
            raise ConfigurationError(f"message_handler={message_handler!r} cannot be called")
        _check(message_handler)
        self._subscribe(names, message_handler)

    def publisher(self, channel: str, data: Any) -> int:
        """Publish a payload (``PUBLISH``); returns the number of receivers.

        Args:
            channel: exact name.
            data: the payload.

        Raises:
            EncodeError: the payload cannot be written. Nothing was sent.
            ServerUnreachable: no connection. Nothing was sent.
            OutcomeUnknown: the connection was cut while it was on its way.
        """
        receivers = self._app._driver.run(self._app._calls.publish(channel, data, None, None))
        self._info("published to %r: %d receiver%s", channel, receivers, "" if receivers == 1 else "s")
        return receivers

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until `cleanup` is called, as its thread does not keep a script alive.

        Args:
            timeout: seconds to wait at most; None means for ever.

        Returns:
            Whether it has been cleaned up.
        """
        return self._ended.wait(timeout)

    def health_check(self) -> bool:
        """Return whether the server answers PING and every subscription is confirmed."""
        return self._app._is_healthy()

    def cleanup(self) -> None:
        """Unsubscribe and stop; handlers that are running get to finish. May be called again.

        A handler may call it too. Called by an ``async def`` one it returns once nothing more arrives, and
        the rest follows when the handler has ended.
        """
        _living.discard(self)
        self._app._stop_anywhere(self._ended.set)

    stop = cleanup

    @property
    def client(self) -> Any:
        """The redis-py client of its pool; replies are bytes."""
        return self._app.client

    @property
    def url(self) -> str:
        """The server's URL, with the password that stands in it."""
        return self._app.url

    def __repr__(self) -> str:
        return f"{type(self).__name__}(url={self._app._connections.where!r})"

    def _subscribe(self, names: Sequence[str], message_handler: Callable[[str, Any], Any]) -> None:
        def handle(data: Any, /, channel: str) -> None:
            message_handler(channel, data)

        async def handle_async(data: Any, /, channel: str) -> None:
            await message_handler(channel, data)

        handler = handle_async if is_async(message_handler) else handle
        handler.__qualname__ = handler_name(message_handler)
        self._app.on(*names, requests=False)(handler)
        self._app._start_anywhere()
        _living.add(self)
        self._info("subscribed to %s", ", ".join(map(repr, names)))

    def _info(self, text: str, *values: object) -> None:
        if self._options.is_logger_info:
            logger.info(text, *values)


def _checked(options: object) -> RedisOptions:
    """Return the options of a toolkit.

    Raises:
        ConfigurationError: they are none.
    """
    if options is None:
        return RedisOptions()
    if isinstance(options, RedisOptions):
        return options
    known = ("subscriber_retry_delay", "is_logger_info")
    named = [str(one) for one in options] if isinstance(options, Mapping) else []
    unknown = [one for one in named if one not in known]
    hint = (
        f"; it has no {', '.join(f'{one}=' for one in unknown)}: {meant(unknown, known)}" if unknown else ""
    )
    raise ConfigurationError(
        f"options= is a RedisOptions(subscriber_retry_delay=5, is_logger_info=True), "
        f"not {type(options).__name__}{hint}"
    )


def _check(handler: Callable[[str, Any], Any]) -> None:
    """Refuse a message handler that cannot be called with a channel and its data."""
    refuse_generator(handler)
    try:
        inspect.signature(handler).bind("channel", "data")
    except TypeError as error:
        raise ConfigurationError(
            f"message_handler {handler_name(handler)} is called as message_handler(channel, data): {error}"
        ) from error
    except ValueError as error:  # a function in C that does not tell its parameters
        logger.debug("%s: %s", handler_name(handler), error)
