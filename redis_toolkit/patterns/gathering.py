"""Waits for many tasks at once.

Rules: results come in the order of the handles; the first exception is raised when all have ended, or stands
in its place. From a thread all tasks of a queue share one connection and one reply list.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from redis_toolkit._core.flows import task_ends
from redis_toolkit._core.ids import new_id
from redis_toolkit.errors import ConfigurationError, RedisToolkitError, RequestTimeout, TaskUnknown

if TYPE_CHECKING:
    from redis_toolkit.patterns.queue_control import QueueControl
    from redis_toolkit.patterns.task_handle import TaskHandle

__all__ = ["agather", "gather", "listed"]

T = TypeVar("T")


def listed(several: Iterable[T], kind: type[Any], way_out: str) -> list[T]:
    """Return several calls or handles as a list.

    Args:
        several: they.
        kind: what each has to be.
        way_out: where such a one comes from.

    Raises:
        ConfigurationError: it is one thing, or something in it is not of that kind.
    """
    if isinstance(several, str | bytes | Mapping) or not isinstance(several, Iterable):
        name, single = type(several).__name__, kind.__name__.removeprefix("Task").lower()
        raise ConfigurationError(f"they come as a list, not as {name}: for one, write [{single}]")
    found = list(several)
    for one in found:
        if not isinstance(one, kind):
            raise ConfigurationError(f"{ascii(one)[:80]} among them is no {kind.__name__}: {way_out}")
    return found


def gather(handles: list[TaskHandle[Any]], timeout_ms: int, return_exceptions: bool) -> list[Any]:
    """Wait in this thread; see `TaskQueue.gather`."""
    end = time.monotonic() + timeout_ms / 1000
    queues: dict[QueueControl, list[TaskHandle[Any]]] = {}
    for handle in handles:
        if not handle._is_final and (handle._kept or handle._reply is None):
            queues.setdefault(handle.queue, []).append(handle)
    failed: dict[TaskHandle[Any], Exception] = {}
    for queue, waiting in queues.items():
        flow = task_ends.wait_many(
            queue._source,
            {handle.id: handle._place for handle in waiting},
            new_id(),
            queue._wire,
            timeout_ms=max(round((end - time.monotonic()) * 1000), 1),
        )
        ends = queue.app._driver.run(flow)
        late = any(isinstance(came, RequestTimeout) for came in ends.values())
        why = queue.app._driver.run(queue._why_waiting()) if late else ""
        for handle in waiting:
            came = ends[handle.id]
            if isinstance(came, TaskUnknown) and handle._reply is not None:
                continue  # it had failed, and nobody has put it back
            if isinstance(came, RequestTimeout):
                came.args = (f"{came}{why}",)
            if isinstance(came, Exception):
                failed[handle] = came
            else:
                handle._reply = came
    return _results([failed[one] if one in failed else _outcome(one) for one in handles], return_exceptions)


async def agather(handles: list[TaskHandle[Any]], timeout_ms: int, return_exceptions: bool) -> list[Any]:
    """Wait on the running loop; see `TaskQueue.gather`."""
    waits = (handle.aresult(timeout_ms / 1000) for handle in handles)
    return _results(await asyncio.gather(*waits, return_exceptions=True), return_exceptions)


def _outcome(handle: TaskHandle[Any]) -> Any:
    try:
        return handle._outcome()
    except RedisToolkitError as error:
        return error


def _results(outcomes: list[Any], return_exceptions: bool) -> list[Any]:
    if not return_exceptions:
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
    return outcomes
