"""`Talking`: what an app says on channels, each call in two forms, to wait for and to await.

Rules: an ``a``-twin has its parameters, its results and its errors; a test compares the signatures. What
is said is made by `Calls`, once for both. A call that would block a loop that runs handlers is refused.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

from redis_toolkit._core import loops
from redis_toolkit._core.async_driver import AsyncDriver
from redis_toolkit._core.connection import Connections
from redis_toolkit._core.flow import Flow
from redis_toolkit._core.flows import events
from redis_toolkit._core.sync_driver import SyncDriver
from redis_toolkit.calls import UNSET, Calls
from redis_toolkit.codecs import Codec
from redis_toolkit.errors import RedisToolkitError
from redis_toolkit.jobs import Duration
from redis_toolkit.misspelt import by_name
from redis_toolkit.once import AsyncOnce, Once, Thing
from redis_toolkit.settings import Settings
from redis_toolkit.wire import Wire

__all__ = ["Talking"]

logger = logging.getLogger("redis_toolkit")

T = TypeVar("T")


class Talking:
    """Publishes and asks. An `App` is one that also serves.

    Args:
        connections: where connections come from.
        wire: codec and size limit.
        settings: durations.
    """

    def __init__(self, connections: Connections, wire: Wire, settings: Settings) -> None:
        self.settings = settings
        self._connections = connections
        self._calls = Calls(wire)
        self._driver = SyncDriver(connections, settings)
        self._async_driver = AsyncDriver(connections, settings)

    @by_name
    def publish(
        self,
        channel: str,
        data: Any,
        *,
        headers: Mapping[str, str] | None = None,
        codec: str | Codec | None = None,
        id: str | None = None,
    ) -> int:
        """Publish an event (``PUBLISH``, and ``XADD`` where the channel has durable groups).

        Args:
            channel: exact name.
            data: the payload.
            headers: text by name. Without headers the body is the bare payload, readable by anyone.
            codec: another codec than the app's.
            id: names this event for 24 hours: another one with the same id on the channel is not sent.
                With it, a publish whose outcome is unknown is repeated until the deadline.

        Returns:
            The number of live receivers; 0 for an event that was published before with its ``id``.

        Raises:
            EncodeError: the payload cannot be written, or is too large. Nothing was sent.
            StreamFull: a durable group of the channel is ``max_backlog`` events behind. Nothing was sent.
            ServerUnreachable: no connection within ``command_timeout``. Nothing was sent.
            OutcomeUnknown: the connection was cut while the event was on its way.
        """
        return self._run("publish", self._calls.publish(channel, data, headers, codec, id))

    @by_name
    async def apublish(
        self,
        channel: str,
        data: Any,
        *,
        headers: Mapping[str, str] | None = None,
        codec: str | Codec | None = None,
        id: str | None = None,
    ) -> int:
        """Await what `publish` does: the same parameters, results and errors."""
        return await self._async_driver.run(self._calls.publish(channel, data, headers, codec, id))

    @by_name
    def publish_many(
        self,
        channel: str,
        payloads: Iterable[Any],
        *,
        headers: Mapping[str, str] | None = None,
        codec: str | Codec | None = None,
    ) -> list[int]:
        """Publish many events in order, in few round trips.

        Args:
            channel: exact name.
            payloads: one for each event.
            headers: text by name, for each of them.
            codec: another codec than the app's.

        Returns:
            The number of live receivers of each.

        Raises:
            EncodeError: one of the payloads cannot be written. Nothing was sent.
            RedisToolkitError: as in `publish`; those before it have been sent.

        Example:
            ``app.publish_many("numbers", range(1000))``
        """
        return self._run("publish_many", self._calls.publish_many(channel, payloads, headers, codec))

    @by_name
    async def apublish_many(
        self,
        channel: str,
        payloads: Iterable[Any],
        *,
        headers: Mapping[str, str] | None = None,
        codec: str | Codec | None = None,
    ) -> list[int]:
        """Await what `publish_many` does: the same parameters, results and errors."""
        return await self._async_driver.run(self._calls.publish_many(channel, payloads, headers, codec))

    def request(
        self,
        channel: str,
        data: Any = UNSET,
        /,
        *,
        timeout: float = 5.0,
        retries: int = 0,
        headers: Mapping[str, str] | None = None,
        codec: str | Codec | None = None,
        **fields: Any,
    ) -> Any:
        """Ask whoever serves a channel: exactly one worker handles it, and its return value comes back.

        Args:
            channel: exact name.
            data: the payload.
            timeout: seconds to wait for the answer, in each try. A request that is still waiting
                then is not executed any more.
            retries: how often to ask again after a timeout or a lost connection. The handler may then
                run more than once; it sees the same id and a higher ``attempt``.
            headers: text by name.
            codec: another codec than the app's.
            **fields: the payload as the handler's parameters, instead of ``data``.

        Returns:
            What the handler returned, as it was decoded.

        Raises:
            RemoteError: the handler raised.
            NoResponders: nobody serves the channel; said at once.
            RequestTimeout: no answer by the deadline.
            OutcomeUnknown: the connection was cut after the request had left.
            ServerUnreachable: no connection by the deadline. Nothing was sent.
            EncodeError: the payload cannot be written. Nothing was sent.

        Example:
            ``app.request("add", {"a": 1, "b": 2})`` or ``app.request("add", a=1, b=2)``
        """
        return self._run(
            "request",
            self._calls.request(
                channel, data, fields, timeout=timeout, retries=retries, headers=headers, codec=codec
            ),
        )

    async def arequest(
        self,
        channel: str,
        data: Any = UNSET,
        /,
        *,
        timeout: float = 5.0,
        retries: int = 0,
        headers: Mapping[str, str] | None = None,
        codec: str | Codec | None = None,
        **fields: Any,
    ) -> Any:
        """Await what `request` does: the same parameters, results and errors."""
        return await self._async_driver.run(
            self._calls.request(
                channel, data, fields, timeout=timeout, retries=retries, headers=headers, codec=codec
            )
        )

    @by_name
    def request_many(
        self,
        channel: str,
        payloads: Iterable[Any],
        *,
        timeout: float = 5.0,
        window: int = 100,
        headers: Mapping[str, str] | None = None,
        codec: str | Codec | None = None,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Ask many times on one connection, with at most ``window`` requests unanswered at a time.

        Args:
            channel: exact name.
            payloads: one payload for each request.
            timeout: seconds that each request has from when it is sent.
            window: how many may be on their way at once; as many workers can be busy.
            headers: text by name, for each of them.
            codec: another codec than the app's.
            return_exceptions: whether an exception stands in its place in the result. Otherwise the
                first one is raised when all requests have ended.

        Returns:
            What the handlers returned, in the order of the payloads.

        Raises:
            EncodeError: one of the payloads cannot be written. Nothing was sent.
            RedisToolkitError: as in `request`, for the first that failed.

        Example:
            ``app.request_many("square", range(100))``
        """
        return self._run(
            "request_many",
            self._calls.request_many(
                channel,
                payloads,
                timeout=timeout,
                window=window,
                headers=headers,
                codec=codec,
                return_exceptions=return_exceptions,
            ),
        )

    @by_name
    async def arequest_many(
        self,
        channel: str,
        payloads: Iterable[Any],
        *,
        timeout: float = 5.0,
        window: int = 100,
        headers: Mapping[str, str] | None = None,
        codec: str | Codec | None = None,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Await what `request_many` does: the same parameters, results and errors."""
        return await self._async_driver.run(
            self._calls.request_many(
                channel,
                payloads,
                timeout=timeout,
                window=window,
                headers=headers,
                codec=codec,
                return_exceptions=return_exceptions,
            )
        )

    def health_check(self) -> bool:
        """Return whether the server answers (``PING``) and, while started, all is subscribed.

        Why it does not is logged, not raised.
        """
        loops.check_blocking("health_check")
        return self._is_healthy()

    def _is_healthy(self) -> bool:
        try:
            self._driver.run(events.ping())
        except RedisToolkitError as error:
            return _unhealthy(error)
        return self._confirmed()

    async def ahealth_check(self) -> bool:
        """Await what `health_check` does."""
        try:
            await self._async_driver.run(events.ping())
        except RedisToolkitError as error:
            return _unhealthy(error)
        return self._confirmed()

    def _once(self, channel: str, scope: str, name: str, ttl: Duration) -> Once:
        """Return what `Message.once` gives a handler of this app."""
        return Once(Thing(channel, scope, name, ttl), partial(self._run, "once"))

    def _aonce(self, channel: str, scope: str, name: str, ttl: Duration) -> AsyncOnce:
        """Return what `Message.aonce` gives a handler of this app."""
        return AsyncOnce(Thing(channel, scope, name, ttl), self._async_driver.run)

    def _confirmed(self) -> bool:
        """Return whether all that this process has subscribed to is confirmed."""
        return True

    def _run(self, name: str, flow: Flow[T]) -> T:
        loops.check_blocking(name)
        return self._driver.run(flow)


def _unhealthy(error: RedisToolkitError) -> bool:
    logger.warning("health check failed: %s", error)
    return False


for _name, _member in list(vars(Talking).items()):
    if inspect.iscoroutinefunction(_member) and not _name.startswith("_"):
        _member.__qualname__ = f"App.{_name}"  # as "was never awaited" names it
