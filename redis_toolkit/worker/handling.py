"""Who runs the handler that is running: known to whatever it calls, in other tasks and threads too.

Rules: it is part of the context, which asyncio hands on to tasks, callbacks and `asyncio.to_thread`. So a
handler that stops its own app is found, however it calls that, and is not waited for. A context refers to
its task weakly: the two would be a circle, which only the garbage collector takes apart.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from contextvars import ContextVar
from typing import Any

__all__ = ["begin", "current", "is_running"]

Runner = asyncio.Task[None] | threading.Thread

_runner: ContextVar[weakref.ref[Runner] | None] = ContextVar("rt_runner", default=None)


def begin(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Say that handlers are run from here on by this task, or by this thread if there is none.

    Args:
        loop: the one that runs this task, if that is known: to look for it takes longer than all the rest.
    """
    loop = loop or asyncio._get_running_loop()
    task = asyncio.current_task(loop) if loop is not None else None
    _runner.set(weakref.ref(task or threading.current_thread()))


def is_running(task: asyncio.Task[Any] | None) -> bool:
    """Return whether this task is the one that runs here and now.

    It tells a `GeneratorExit` that a handler raises from one by which its coroutine is closed, as its loop
    is gone: then nobody is left to be told anything.
    """
    loop = asyncio._get_running_loop()
    return loop is not None and asyncio.current_task(loop) is task


def current() -> Runner | None:
    """Return the task or the thread whose handler has led to this call; None when it is gone."""
    runner = _runner.get()
    return runner() if runner is not None else None
