"""Doing something once, although the message that asks for it may come twice: `Message.once`.

Rules:

- It counts as done when its block has ended without an exception; then, and not before, that is noted on the
  server. So it is never left undone, and it is done twice in two cases: a worker dies between the effect and
  the note; or two run at the same time, as the one had lost its lease and went on. It is no lock.
- A note that the server refuses is a log line. Raising would have the message tried again, and the effect
  repeated for sure.
- Every note has a TTL.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any

from redis_toolkit import keys
from redis_toolkit._core import loops
from redis_toolkit._core.flow import Flow
from redis_toolkit._core.flows import once
from redis_toolkit.errors import ConfigurationError, RedisToolkitError, one_line
from redis_toolkit.jobs import Duration, seconds_of

__all__ = ["AsyncOnce", "Once", "Thing"]

logger = logging.getLogger("redis_toolkit")

MOST_SIGNS = 1000


class Thing:
    """What is to be done once.

    Args:
        channel: of the message that asks for it.
        scope: whose it is: a handler's, a group's or a task's.
        name: its name there.
        ttl: how long it is known that it was done: seconds, or a `timedelta`.

    Raises:
        ConfigurationError: the name or the time cannot work.
    """

    def __init__(self, channel: str, scope: str, name: object, ttl: Duration) -> None:
        if not isinstance(name, str) or not 0 < len(name) <= MOST_SIGNS:
            raise ConfigurationError(
                f"once({ascii(name)[:80]}): name what is done by text of 1 to {MOST_SIGNS:,} characters, "
                'such as f"charge-{order_id}"'
            )
        try:
            name.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ConfigurationError(f"once({ascii(name)[:80]}): it has no UTF-8 form") from error
        self.name = name
        self.key = keys.once(channel, scope, name)
        self.ttl_ms = max(int(seconds_of("ttl", ttl) * 1000), 1)

    def unmarked(self, error: RedisToolkitError) -> None:
        """Say that it was done and could not be noted."""
        logger.warning(
            "%s was done and cannot be noted: if its message comes again, it is done again: %s",
            one_line(self.name)[:100],
            error,
        )


class Once:
    """``with`` it: True the first time, False when it was done before.

    Args:
        thing: what is done once.
        run: runs a flow.
    """

    def __init__(self, thing: Thing, run: Callable[[Flow[Any]], Any]) -> None:
        self._thing = thing
        self._run = run
        self._first = False

    def __enter__(self) -> bool:
        self._first = not self._run(once.is_done(self._thing.key))
        return self._first

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._first or kind is not None:
            return
        try:
            self._run(once.mark(self._thing.key, self._thing.ttl_ms))
        except RedisToolkitError as failure:
            self._thing.unmarked(failure)


class AsyncOnce:
    """``async with`` it, as `Once`.

    Args:
        thing: what is done once.
        run: runs a flow.
    """

    def __init__(self, thing: Thing, run: Callable[[Flow[Any]], Coroutine[Any, Any, Any]]) -> None:
        self._thing = thing
        self._run = run
        self._first = False

    async def __aenter__(self) -> bool:
        self._first = not await self._run(once.is_done(self._thing.key))
        return self._first

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._first or kind is not None:
            return
        try:  # to the end, also when cancelled: what was done is not undone by that
            await loops.to_the_end(self._run(once.mark(self._thing.key, self._thing.ttl_ms)))
        except RedisToolkitError as failure:
            self._thing.unmarked(failure)
