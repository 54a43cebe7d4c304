"""What handlers and subscribers are shown of a task: a dict, or a `CurrentTask`.

Rules: times are wall-clock seconds, as people read them. A dict is made anew each time, as a handler may do
what it likes with its own.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import unquote

from redis_toolkit._core.flow import Flow
from redis_toolkit._core.flows import tasks
from redis_toolkit._core.flows.work import Claimed, Source
from redis_toolkit.errors import ConfigurationError
from redis_toolkit.jobs import RESULT_TTL
from redis_toolkit.task_context import CurrentTask
from redis_toolkit.worker.holdings import Item

__all__ = ["describe", "priority_of", "started_at", "task_dict"]


def priority_of(source: Source, claimed: Claimed, fields: dict[str, Any]) -> str:
    """Return the priority of a task: as its caller named it, else the one of its stream."""
    return fields.get("priority") or unquote(source.back[claimed.stream])


def started_at(item: Item) -> float | None:
    """Return the wall-clock seconds when the handler began, or None."""
    return None if item.started is None else time.time() - (time.monotonic() - item.started)


def task_dict(
    source: Source, claimed: Claimed, fields: dict[str, Any], payload: Any, status: str, **more: Any
) -> dict[str, Any]:
    """Return a task as handlers of ``create_worker`` and subscribers of ``tasks:completed`` get it."""
    submitted_ms = fields.get("submitted") or int(claimed.entry.partition(b"-")[0])
    return {
        "id": fields["id"],
        "type": fields["task"],
        "payload": payload,
        "priority": priority_of(source, claimed, fields),
        "submitted_at": submitted_ms / 1000,
        "status": status,
        **more,
    }


def describe(source: Source, consumer: str, item: Item) -> CurrentTask:
    """Return what `current_task` returns in the handler of an item of a queue."""
    claimed, fields, job = item.claimed, item.fields or {}, item.job

    def is_cancelled() -> bool:
        item.told = item.told or item.cancelled
        return item.told or item.lost

    def saying(value: Any) -> Flow[bool]:
        said = job.wire.live(value)
        item.progressed = True
        keep_ms = int((job.policy.result_ttl or RESULT_TTL) * 1000)
        return tasks.progress(source, consumer, claimed, item.id, said, keep_ms)

    def progress(value: Any) -> bool:
        told: bool = _talking(job.binding.app)._run("progress", saying(value))
        return told

    async def aprogress(value: Any) -> bool:
        told: bool = await _talking(job.binding.app)._async_driver.run(saying(value))
        return told

    return CurrentTask(
        item.id,
        fields.get("task", ""),
        source.name,
        priority_of(source, claimed, fields),
        claimed.attempt,
        claimed.deliveries,
        progress,
        aprogress,
        is_cancelled,
    )


def _talking(app: Any) -> Any:
    if app is None:
        raise ConfigurationError("this task belongs to no app, so it cannot say how far it is")
    return app
