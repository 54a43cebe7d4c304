"""`ReliableMessaging`: publish a message and know that somebody has handled it.

Rules:

- A message is published live on its channel, so that plain subscribers see it, and kept in a log of its own
  until a subscriber's handler has finished with it. That log belongs to one durable group, which the
  publisher makes at the beginning: nothing is lost before the first subscriber.
- Whoever has handled a message says so on ``ack:<id>``; so does who gives it up, with another status. One
  subscription serves all calls of an instance.
- A plain subscriber may acknowledge as well: by a message on the channel that the message names. That
  counts within the timeout of the call, and then takes the message out of the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from redis_toolkit import keys
from redis_toolkit._core import loops
from redis_toolkit._core.flow import Command, Flow
from redis_toolkit._core.flows import durable, events
from redis_toolkit._core.flows.durable import GroupInfo
from redis_toolkit.app import App
from redis_toolkit.binding import Binding
from redis_toolkit.calls import milliseconds
from redis_toolkit.dead_letters import DeadLetter
from redis_toolkit.errors import ConfigurationError, GroupUnknown, RedisToolkitError, one_line
from redis_toolkit.globs import is_glob
from redis_toolkit.grouping import durable_groups
from redis_toolkit.jobs import Backoff
from redis_toolkit.message import ExactChannel, Message
from redis_toolkit.misspelt import by_name
from redis_toolkit.patterns.running import Created, Running, Stopping, sibling
from redis_toolkit.routing import Beside, checked_channel
from redis_toolkit.settings import check_whole

__all__ = ["ReliableMessaging"]

logger = logging.getLogger("redis_toolkit")

GROUP = "acknowledged"
ID, ADDRESS, BARE = "_msg_id", "_ack_channel", "_bare"
"""The fields that a message has besides its own; ``_bare`` when its own are no map."""
HANDLED, DEAD = "acknowledged", "dead"
"""What is said of a message on the channel that it names."""


class ReliableMessaging(Stopping):
    """Messages that are kept until somebody has handled them.

    Args:
        app: whose server and codec are used, and whose worker processes serve the subscribers, if it has
            any; or
        url: the server; see `App`.

    Example:
        ```python
        messaging = ReliableMessaging()
        with messaging.create_ack_subscriber("payments", book):
            assert messaging.publish_with_ack("payments", {"amount": 3})
        ```
    """

    @by_name
    def __init__(self, *, app: App | None = None, url: str | None = None) -> None:
        self._app = sibling(app, url)
        self._given = app
        self._created = Created()
        self._waiting: dict[str, Callable[[bool], object]] = {}
        self._listener: App | None = None
        self._prefix = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    # -- publishing -------------------------------------------------------------------------------

    def publish_with_ack(self, channel: str, message: Any, timeout: float = 5) -> bool:
        """Publish a message and wait until it has been handled.

        Args:
            channel: exact name.
            message: the payload; it is not changed. Plain subscribers of the channel see it with two more
                fields, ``_msg_id`` and ``_ack_channel``; one that is no map, or has a field of these
                names, stands in a field ``data``.
            timeout: seconds to wait.

        Returns:
            Whether a subscriber's handler has finished with it in time. If the time is up first, the message
            is kept, and handled when there is a subscriber that can: `pending` counts it. False is returned
            at once when it has become a dead letter: then it is among `dead`, until `requeue`.

        Raises:
            EncodeError: the payload cannot be written, or is too large. Nothing was sent.
            ServerUnreachable: no connection. Nothing was sent.
            OutcomeUnknown: the connection was cut meanwhile; the message may have been sent.

        It blocks, also in an ``async def`` handler, where it stops the whole event loop: a subscriber on that
        same loop cannot handle the message meanwhile. `apublish_with_ack` does not block.
        """
        deadline = time.monotonic() + milliseconds(timeout) / 1000
        self._listen()
        address = self._new_address()
        ends: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._waiting[address] = ends.put
        try:
            entry = self._app._driver.run(self._publish(channel, message, address))
            if not ends.get(timeout=max(deadline - time.monotonic(), 0)):
                return False
        except queue.Empty:
            return False
        finally:
            del self._waiting[address]
        try:
            self._app._driver.run(durable.drop(_log(channel), GROUP, entry))
        except RedisToolkitError as error:
            _say_kept(channel, error)
        return True

    async def apublish_with_ack(self, channel: str, message: Any, timeout: float = 5) -> bool:
        """Await what `publish_with_ack` does: the same parameters, results and errors."""
        deadline = time.monotonic() + milliseconds(timeout) / 1000
        if self._listener is None:
            await loops.in_thread(self._listen)
        address = self._new_address()
        loop = asyncio.get_running_loop()
        ends: asyncio.Queue[bool] = asyncio.Queue()
        self._waiting[address] = lambda handled: loop.call_soon_threadsafe(ends.put_nowait, handled)
        try:
            entry = await self._app._async_driver.run(self._publish(channel, message, address))
            async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                if not await ends.get():
                    return False
        except TimeoutError as error:
            if type(error) is not TimeoutError:  # one of ours, from publishing
                raise
            return False
        finally:
            del self._waiting[address]
        try:
            await self._app._async_driver.run(durable.drop(_log(channel), GROUP, entry))
        except RedisToolkitError as error:
            _say_kept(channel, error)
        return True

    # -- handling ---------------------------------------------------------------------------------

    @by_name
    def create_ack_subscriber(
        self,
        channel: str,
        handler: Callable[..., Any],
        *,
        retries: int = 10,
        backoff: float | Backoff | None = None,
        timeout: float | None = None,
        concurrency: int = 1,
    ) -> Running:
        """Handle the messages of a channel in the background; returns once it is ready.

        All subscribers of a channel, in any process, share its messages: each is handled by one of them.
        One that was made with ``app=`` serves in this process until worker processes serve that app
        (``app.run(workers=4)``): from then on it is theirs, until they stop.

        Args:
            channel: exact name.
            handler: called with the message as it was published; parameters as in `App.on`. When it
                returns, the message is acknowledged; when it raises, it is tried again.
            retries: how often. After the last one the message is a dead letter, see `dead`.
            backoff: seconds before the first retry, each later one waits twice as long; or a `Backoff`.
            timeout: seconds that one attempt may take.
            concurrency: how many messages are handled at once, in each process.

        Returns:
            The running subscriber: ``stop()`` it, or use it as a context manager.

        Raises:
            ConfigurationError: the handler, the channel or an option cannot work.
            RedisToolkitError: the server cannot be reached or refuses.
        """
        check_whole("concurrency", concurrency)
        if is_glob(checked_channel(channel)):
            raise ConfigurationError(
                f"a subscriber of acknowledged messages has one channel, and {channel!r} is a glob: "
                "name the channel, or write ExactChannel(...) when it is a name"
            )
        app = self._app.sibling()
        [served] = durable_groups(
            _unwrapping(Binding(handler, self._given or app), str(channel)),
            [_log(channel)],
            GROUP,
            concurrency,
            {"retries": retries, "backoff": backoff, "timeout": timeout, "start": "beginning"},
            app=app,
            wire=app._calls.wire_of(None),
            then=partial(self._notice, HANDLED),
            buried=partial(self._notice, DEAD),
        )
        app._router.add_durable(served)
        given = self._given
        if given is None:
            app._start_anywhere()
            return self._created.add(Running(app, f"subscriber of {channel!r}", self._created.forget))
        given._service.start_beside(Beside(served, app._stop_anywhere), app._start_anywhere)

        def forget(running: Running) -> None:
            self._created.forget(running)
            given._router.forget(served)

        return self._created.add(Running(app, f"subscriber of {channel!r}", forget))

    # -- looking after it -------------------------------------------------------------------------

    def pending(self, channel: str) -> int:
        """Return how many messages of a channel wait to be handled, or are being handled.

        A channel that nobody has used yet has none, so a program may ask before the first message is sent.

        Raises:
            RedisToolkitError: the server cannot be reached or refuses.
        """
        loops.check_blocking("pending")  # by its own name
        return _waiting_in(self._app.groups(_log(channel)))

    async def apending(self, channel: str) -> int:
        """Await what `pending` does."""
        return _waiting_in(await self._app.agroups(_log(channel)))

    def dead(self, channel: str, *, limit: int = 100, after: str = "0-0") -> list[DeadLetter]:
        """Return messages that were given up after their last attempt; see `App.dead`.

        A channel that nobody has used yet has none.
        """
        with contextlib.suppress(GroupUnknown):
            return _own_letters(self._app.dead(_log(channel), GROUP, limit=limit, after=after))
        return []

    async def adead(self, channel: str, *, limit: int = 100, after: str = "0-0") -> list[DeadLetter]:
        """Await what `dead` does."""
        with contextlib.suppress(GroupUnknown):
            return _own_letters(await self._app.adead(_log(channel), GROUP, limit=limit, after=after))
        return []

    def requeue(self, channel: str, letters: Iterable[DeadLetter | str] | None = None) -> int:
        """Put dead letters back to be handled, all of them if none are named; see `App.requeue`.

        Raises:
            GroupUnknown: nobody has used the channel so far.
        """
        return self._app.requeue(_log(channel), GROUP, letters)

    async def arequeue(self, channel: str, letters: Iterable[DeadLetter | str] | None = None) -> int:
        """Await what `requeue` does."""
        return await self._app.arequeue(_log(channel), GROUP, letters)

    # -- living -----------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop the subscribers, and the subscription for acknowledgements. May be called again.

        What is being handled gets to finish. Those that worker processes serve go on until these stop.
        """
        self._created.stop()
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener._stop_anywhere()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(on {self._app!r})"

    def _new_address(self) -> str:
        return f"ack:{self._prefix}.{next(self._numbers)}"

    def _publish(self, channel: str, message: Any, address: str) -> Flow[str]:
        """Publish a message, and keep it; returns its entry."""
        plain = isinstance(message, Mapping) and not any(name in message for name in (ID, ADDRESS, BARE))
        own = dict(message) if plain else {"data": message, BARE: True}
        fields = {**own, ID: address.removeprefix("ack:"), ADDRESS: address}
        body = self._app._calls.wire_of(None).live(fields)
        event = events.Event(body)
        published = yield from events.publish_kept(checked_channel(channel), event, _log(channel), GROUP)
        return published.entry

    def _notice(self, status: str, message: Message) -> Command | None:
        """Return what says how a message has ended; None for one that names no address."""
        fields = message.data
        if not isinstance(fields, dict) or not isinstance(fields.get(ADDRESS), str):
            return None
        said = {"msg_id": fields.get(ID), "status": status}
        return ("PUBLISH", fields[ADDRESS], self._app._calls.wire_of(None).live(said))

    def _listen(self) -> None:
        with self._lock:
            if self._listener is None:
                listener = self._app.sibling()
                listener.on(f"ack:{self._prefix}.*")(self._take)
                listener._start_anywhere()
                self._listener = listener

    def _take(self, data: Any, channel: str) -> None:
        tell = self._waiting.get(channel)
        status = data.get("status") if isinstance(data, dict) else None
        if tell is not None and status in (HANDLED, DEAD):
            tell(status == HANDLED)


def _log(channel: str) -> ExactChannel:
    """Return the name under which the messages of a channel are kept: no other publisher's."""
    return ExactChannel(keys.acknowledged(checked_channel(channel)))


def _say_kept(channel: str, error: RedisToolkitError) -> None:
    """Say that a message was handled, but may still be in the log: it may be handled twice."""
    logger.warning("an acknowledged message on %r could not be taken out: %s", channel, one_line(str(error)))


def _waiting_in(groups: list[GroupInfo]) -> int:
    return sum(one.lag + one.pending + one.later for one in groups if one.name == GROUP)


def _own(fields: Any) -> Any:
    """Return a message as it was published, of what was sent."""
    if not isinstance(fields, dict) or ID not in fields:
        return fields
    data = {name: value for name, value in fields.items() if name not in (ID, ADDRESS)}
    return data["data"] if data.pop(BARE, False) else data


def _own_letters(letters: list[DeadLetter]) -> list[DeadLetter]:
    return [replace(letter, data=_own(letter.data)) for letter in letters]


def _unwrapping(binding: Binding, channel: str) -> Callable[[Message], Any]:
    """Return a handler that gives another one the message as it was published."""
    binding.scope = GROUP  # what is done once is done by whoever of the subscribers has it

    def own(message: Message) -> Message:
        return replace(message, channel=channel, data=_own(message.data))

    if binding.is_async:

        async def handle_async(message: Message) -> Any:
            return await binding.call(own(message))

        return _named(handle_async, binding)

    def handle(message: Message) -> Any:
        return binding.call(own(message))

    return _named(handle, binding)


def _named(handle: Callable[[Message], Any], binding: Binding) -> Callable[[Message], Any]:
    """Give a handler the name and the module of the one that it calls: logs and workers look for them."""
    named: Any = handle
    named.__qualname__ = binding.name
    named.__module__ = getattr(binding.function, "__module__", None) or "__main__"
    return handle
