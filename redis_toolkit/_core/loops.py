"""Which event loops run handlers, so that a blocking call on one of them is refused, not suffered.

Rules: a blocking call on a loop that runs our handlers would stop them all, so it is an error that names
the call to await instead. On any other running loop, a notebook's say, it is allowed and warned of once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import warnings
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

from redis_toolkit.errors import ConfigurationError

__all__ = ["check_blocking", "new_loop", "run_on", "serving", "to_the_end"]

T = TypeVar("T")
LOOK = 0.1
"""Seconds between two looks whether another thread's loop still runs."""

serving: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
"""The loops that run handlers now."""

_running = asyncio._get_running_loop  # a third of the cost of asking and catching the RuntimeError
_warned = False


def check_blocking(name: str, depth: int = 1) -> None:
    """Refuse or warn of a blocking call of ``App.<name>``, when an event loop runs in this thread.

    Args:
        name: the method.
        depth: how many calls lie between its caller and this one, for the place that a warning names.

    Raises:
        ConfigurationError: the loop runs handlers.
    """
    loop = _running()
    if loop is not None:
        _on_a_loop(loop, name, depth)


def _on_a_loop(loop: asyncio.AbstractEventLoop, name: str, depth: int) -> None:
    global _warned
    if loop in serving:
        raise ConfigurationError(
            f"{name}() would block the event loop that runs the handlers: await a{name}()"
        )
    if not _warned:
        _warned = True
        warnings.warn(
            f"{name}() blocks the running event loop while it waits: await a{name}() instead",
            RuntimeWarning,
            stacklevel=depth + 3,
        )


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop: uvloop's where that is installed (the extra ``fast``)."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def run_on(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> T | None:
    """Run a coroutine on the loop of another thread, and return its result.

    None when that loop does not run, or stops running meanwhile: nobody carries the coroutine on then.
    """
    if not loop.is_running():
        coroutine.close()
        return None
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    while not concurrent.futures.wait([future], timeout=LOOK).done:
        if not loop.is_running():
            if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                coroutine.close()
            return None
    return None if future.cancelled() else future.result()


async def to_the_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine that must not be left half done: a cancellation is raised when it has ended.

    It runs in a task of its own. What it raises itself goes before the cancellation.
    """
    task = asyncio.ensure_future(coroutine)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result
