"""A coroutine in a context of its own, without a task of its own.

Rules: what it sets in a `ContextVar` is neither seen by who awaits it nor left to the next one. A task
would do that too, and would cost a turn of the loop for each.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from typing import Any

__all__ = ["InContext"]


class InContext:
    """Awaits a coroutine, every step of it in one copy of the context that it is made in.

    Args:
        make: called in that context too; returns the coroutine.
        argument: what it is called with.
    """

    __slots__ = ("_coroutine", "_run")

    def __init__(self, make: Callable[[Any], Coroutine[Any, Any, Any]], argument: Any) -> None:
        self._run = copy_context().run
        self._coroutine = self._run(make, argument)

    def __await__(self) -> Generator[Any, Any, Any]:
        run, coroutine = self._run, self._coroutine
        step, value = coroutine.send, None
        while True:
            try:
                awaited = run(step, value)
            except StopIteration as end:
                return end.value
            try:
                step, value = coroutine.send, (yield awaited)
            except GeneratorExit:
                run(coroutine.close)
                raise
            except BaseException as error:
                step, value = coroutine.throw, error
