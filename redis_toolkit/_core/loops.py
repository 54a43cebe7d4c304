"""Which event loops run handlers, so that a blocking call on one of them is refused, not suffered.

Rules: a blocking call on a loop that runs our handlers would stop them all, so it is an error that names
the call to await instead. On any other running loop, a notebook's say, it is allowed and warned of once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import inspect
import math
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from redis_toolkit.errors import ConfigurationError

__all__ = [
    "after_reading",
    "check_blocking",
    "in_thread",
    "new_loop",
    "run_on",
    "serving",
    "to_the_end",
    "turns",
]

T = TypeVar("T")
LOOK = 0.1
"""Seconds between two looks whether another thread's loop still runs."""

serving: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
"""The loops that run handlers now."""

_running = asyncio._get_running_loop  # a third of the cost of asking and catching the RuntimeError
_warned = False


def check_blocking(name: str, twin: str | None = None) -> None:
    """Refuse or warn of a blocking call of ``App.<name>``, when an event loop runs in this thread.

    Args:
        name: the method.
        twin: what to await instead; None: ``a`` and the name.

    Raises:
        ConfigurationError: the loop runs handlers.
    """
    loop = _running()
    if loop is not None:
        _on_a_loop(loop, name, twin or f"a{name}")


def _on_a_loop(loop: asyncio.AbstractEventLoop, name: str, twin: str) -> None:
    global _warned
    if loop in serving:
        raise ConfigurationError(
            f"{name}() would block the event loop that runs the handlers: await {twin}()"
        )
    if not _warned:
        _warned = True
        warnings.warn(
            f"{name}() blocks the running event loop while it waits: await {twin}() instead",
            RuntimeWarning,
            stacklevel=_depth(),
        )


def _depth() -> int:
    """Return the ``stacklevel``, for who calls this, of the first frame that is not of this package."""
    frame, depth = inspect.currentframe(), 0
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("redis_toolkit."):
        frame, depth = frame.f_back, depth + 1
    return depth


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop: uvloop's where that is installed (the extra ``fast``)."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def after_reading(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    """Call back when the loop has read what lies in its sockets by now.

    A loop runs what is due by the clock, and what was called soon, without a look at its sockets in between.
    """
    loop.call_soon(loop.call_soon, callback)  # it polls between the two, and what it finds comes first


def run_on(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], until: float = math.inf
) -> T | None:
    """Run a coroutine on the loop of another thread, and return its result.

    None when that loop does not run, stops running meanwhile, or stands still until a time (monotonic
    seconds): what is not done by then is done when it goes on.
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
        if time.monotonic() >= until:
            return None
    return None if future.cancelled() else future.result()


def turns(loop: asyncio.AbstractEventLoop, until: float) -> bool:
    """Return whether another thread's loop, if it runs, does something until then (monotonic seconds)."""
    if asyncio._get_running_loop() is loop or not loop.is_running():
        return True
    turned = threading.Event()
    try:
        loop.call_soon_threadsafe(turned.set)
    except RuntimeError:  # it has been closed
        return True
    while not turned.wait(LOOK):
        if time.monotonic() >= until:
            return False
        if not loop.is_running():
            return True
    return True


async def in_thread(function: Callable[..., T], *arguments: object) -> T:
    """Call a function in a daemon thread of its own, in this context, and return its result.

    Not in the loop's executor, which is the application's and may be full. A cancellation is raised when
    the function has ended.
    """
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    done: asyncio.Future[None] = loop.create_future()
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            outcome.set_result(context.run(function, *arguments))
        except BaseException as error:  # raised where it is awaited
            outcome.set_exception(error)
        with suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=run, name="rt-call", daemon=True)
    thread.start()
    cancelled = await _end_of(done)
    thread.join()  # it has nothing left to do
    result = outcome.result()
    if cancelled is not None:
        raise cancelled
    return result


async def to_the_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine that must not be left half done: a cancellation is raised when it has ended.

    It runs in a task of its own. What it raises itself goes before the cancellation.
    """
    task = asyncio.ensure_future(coroutine)
    cancelled = await _end_of(task)
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result


async def _end_of(future: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait until it is done, whoever cancels this meanwhile; returns the last such cancellation."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled
