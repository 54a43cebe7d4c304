"""A coroutine in a context of its own, without a task of its own.

Rules: what it sets in a `ContextVar` is neither seen by who awaits it nor left to the next one. A task
would do that too, and would cost a turn of the loop for each. One that never waits costs one call.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from typing import Any, Generic, TypeVar

__all__ = ["Rest", "begin"]

T = TypeVar("T")


def begin(make: Callable[[Any], Coroutine[Any, Any, Any]], argument: Any) -> Rest[Any] | None:
    """Make a coroutine and run it as far as it gets, in a copy of this context.

    Returns:
        What has to be awaited to carry it on; None when it has ended. What it raises is raised.
    """
    run = copy_context().run
    try:
        return Rest(run, *run(_first_step, make, argument))
    except StopIteration:
        return None


def _first_step(make: Callable[[Any], Coroutine[Any, Any, Any]], argument: Any) -> tuple[Any, Any]:
    coroutine = make(argument)
    return coroutine, coroutine.send(None)


class Rest(Generic[T]):
    """What is left of a coroutine that waits for something: awaited, it gives what that returns.

    Args:
        run: runs its steps in its context.
        coroutine: it.
        awaited: what it waits for.
    """

    __slots__ = ("_awaited", "_coroutine", "_run")

    def __init__(self, run: Callable[..., Any], coroutine: Coroutine[Any, Any, T], awaited: Any) -> None:
        self._run = run
        self._coroutine = coroutine
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, T]:
        run, coroutine, awaited = self._run, self._coroutine, self._awaited
        while True:
            try:
                step, value = coroutine.send, (yield awaited)
            except GeneratorExit:
                run(coroutine.close)
                raise
            except BaseException as error:
                step, value = coroutine.throw, error
            try:
                awaited = run(step, value)
            except StopIteration as ended:
                result: T = ended.value
                return result
