"""Queues in the styles of the tests: tasks of either kind, and calls that are made or awaited."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from redis_toolkit import App
from redis_toolkit.patterns import TaskHandle, TaskQueue
from tests.e2e.styles import Background, Style

T = TypeVar("T")
F = Callable[..., Any]
DEADLINE = 30.0


class Queue:
    """A queue whose tasks are written as ``def`` and whose calls look like blocking ones, in any style."""

    def __init__(
        self, app: App, style: Style, background: Background | None, name: str = "q", **options: Any
    ) -> None:
        self.real = TaskQueue(name, app=app, **options)
        self._style, self._background = style, background

    def task(self, **options: Any) -> Callable[[F], Any]:
        """Make a task of a ``def``, or of a coroutine that runs it in a thread."""

        def decorate(function: F) -> Any:
            return self.real.task(**options)(self.handler(function))

        return decorate

    def handler(self, function: F) -> F:
        if self._style.handlers == "def" or asyncio.iscoroutinefunction(function):
            return function
        assert self._background is not None
        return in_thread(function, self._background)

    def do(self, what: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method, or await its twin."""
        if self._style.calls == "called":
            return getattr(what, name)(*args, **kwargs)
        assert self._background is not None
        return self._background.run(getattr(what, "a" + name)(*args, **kwargs))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: self.do(self.real, name, *args, **kwargs)

    def sent(self, task: Any, *args: Any, **kwargs: Any) -> TaskHandle[Any]:
        handle: TaskHandle[Any] = self.do(task, "submit", *args, **kwargs)
        return handle

    def result(self, handle: TaskHandle[Any], timeout: float | None = DEADLINE) -> Any:
        return self.do(handle, "result", timeout)

    def results(self, handles: Iterable[TaskHandle[Any]]) -> list[Any]:
        found: list[Any] = self.gather(handles, timeout=DEADLINE)
        return found


def in_thread(function: Callable[..., T], background: Background) -> Callable[..., Coroutine[Any, Any, T]]:
    """Return a coroutine function that runs another function in a thread, in its own context."""

    @functools.wraps(function)
    async def task(*args: Any, **kwargs: Any) -> T:
        call = functools.partial(contextvars.copy_context().run, function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(background.threads, call)

    return task
