"""What a running task can ask about itself: `current_task`.

Rules: it is part of the context of the handler's call, which asyncio hands on to its tasks and to
`asyncio.to_thread`. A worker puts there how to describe the task; nothing is made unless somebody asks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from redis_toolkit.errors import ConfigurationError

__all__ = ["CurrentTask", "current_task", "running"]

running: ContextVar[tuple[Callable[[Any], CurrentTask], Any]] = ContextVar("rt_task")
"""What describes the task that runs here, and what that is given."""


@dataclass(frozen=True, eq=False, slots=True)
class CurrentTask:
    """The task that runs here.

    Attributes:
        id: its id.
        type: its type, as its caller named it.
        queue: the queue.
        priority: its priority.
        attempt: 1, or more after a failure.
        deliveries: how often this attempt was given to a worker; more than 1 when an earlier one vanished.
        progress: ``progress(value)`` says how far it is, which its caller sees. Any payload; it is kept
            with the result. Returns whether the task is still this worker's. Raises as `App.publish` does.
        aprogress: the same, to be awaited.
    """

    id: str
    type: str
    queue: str
    priority: str
    attempt: int
    deliveries: int
    progress: Callable[[Any], bool]
    aprogress: Callable[[Any], Awaitable[bool]]
    _is_cancelled: Callable[[], bool]

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants its end any more: it was cancelled, or another worker has taken it over.

        A ``def`` task looks at this once in a while, and returns when it is True: what it returns or raises
        then does not matter, the task ends as cancelled. An ``async def`` task gets `asyncio.CancelledError`.
        """
        return self._is_cancelled()


def current_task() -> CurrentTask:
    """Return the task whose handler has led to this call.

    Raises:
        ConfigurationError: none has.

    Example:
        ```python
        @queue.task()
        def resize(paths: list[str]) -> None:
            for number, path in enumerate(paths):
                if current_task().cancelled:
                    return
                current_task().progress(number / len(paths))
        ```
    """
    try:
        describe, item = running.get()
    except LookupError:
        raise ConfigurationError(
            "current_task() is for handlers of tasks, and no task runs here: "
            "a thread that was started by hand has no context of its own, hand the task over to it"
        ) from None
    return describe(item)
