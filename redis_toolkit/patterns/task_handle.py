"""`TaskHandle`: one submitted task, as its caller sees it.

Rules:

- Waiting for a result does not poll: whoever ends the task pushes its end to those who wait.
- How a task ended is asked for once and kept in the handle, but for a failure: `TaskQueue.retry_dead` undoes
  that. So it is looked for again, and counts when nothing else is known of the task any more.
- Who has waited in vain is told when no worker serves the queue, which costs one look after the timeout.
"""

from __future__ import annotations

import datetime
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar, cast

from redis_toolkit._core.flow import Flow
from redis_toolkit._core.flows import task_ends, tasks
from redis_toolkit._core.flows.task_ends import Found, Place
from redis_toolkit._core.ids import new_id
from redis_toolkit.convert import Converter
from redis_toolkit.errors import (
    ConfigurationError,
    DecodeError,
    RemoteError,
    RequestTimeout,
    TaskCancelled,
    TaskExpired,
    TaskUnknown,
)
from redis_toolkit.patterns.task_options import duration_ms
from redis_toolkit.patterns.task_waits import waits_of
from redis_toolkit.settings import MAX_SECONDS
from redis_toolkit.task_envelope import read_task
from redis_toolkit.wire import Reply

if TYPE_CHECKING:
    from redis_toolkit.patterns.queue_control import QueueControl

__all__ = ["TaskHandle", "TaskStatus", "wait_ms"]

R = TypeVar("R")
TaskStatus: TypeAlias = Literal[
    "queued", "delayed", "running", "done", "failed", "cancelled", "expired", "unknown"
]
_STATUS: dict[str, TaskStatus] = {
    "ready": "queued",
    "later": "delayed",
    "running": "running",
    "nowhere": "unknown",
    "unseen": "unknown",
}
_ENDS: dict[str, type[TaskCancelled | TaskExpired]] = {
    "TaskCancelled": TaskCancelled,
    "TaskExpired": TaskExpired,
}
"""What an end without a result is called in a reply."""


class TaskHandle(Generic[R]):
    """A submitted task.

    Attributes:
        queue: the queue that it is in.
        id: its id.
        duplicate: whether the submit added nothing, because a task with its ``id=`` or its ``unique_key=``
            was there: this is the handle of that one.

    Example:
        ```python
        handle = add.submit(1, 2)
        print(handle.result(timeout=5))
        ```
    """

    __slots__ = ("_convert", "_kept", "_place", "_reply", "duplicate", "id", "queue")

    def __init__(
        self,
        queue: QueueControl,
        id: str,
        *,
        duplicate: bool = False,
        kept: bool = True,
        place: Place | None = None,
        convert: Converter | None = None,
    ) -> None:
        self.queue = queue
        self.id = id
        self.duplicate = duplicate
        self._kept = kept
        self._place = place
        self._convert = convert
        self._reply: Reply | None = None

    def result(self, timeout: float | datetime.timedelta | None = None) -> R:
        """Wait for the end of the task, and return what it returned.

        Args:
            timeout: seconds, or a timedelta, to wait at most; None waits without end.

        Returns:
            The return value. Where the task is known by its function, it is made into what that is
            annotated to return; else it is what the codec makes of it.

        Raises:
            RemoteError: the task raised, for the last time; see its ``type`` and ``message``. Another call
                looks again: after `TaskQueue.retry_dead` it waits for the new end.
            TaskCancelled: it was cancelled.
            TaskExpired: it was not begun in time (``expires=``).
            TaskUnknown: there is no such task, or its end is kept no more (``result_ttl=``).
            RequestTimeout: it has not ended in time; also the builtin ``TimeoutError``. It says so when no
                worker serves the queue.
            ServerUnreachable: the server is away for longer than a short operation may take.
            PayloadMismatch: the return value is not what the function is annotated to return.

        Waiting for a task inside a task occupies its worker's place meanwhile. An end that is not kept
        (``result_ttl=0``) is heard by who waits for it by then.
        """
        if not self._is_final:
            try:
                self._reply = self.queue._run("result", self._wait(wait_ms(timeout)))
            except RequestTimeout as error:
                error.args = (f"{error}{self.queue.app._driver.run(self.queue._why_waiting())}",)
                raise
        return self._outcome()

    async def aresult(self, timeout: float | datetime.timedelta | None = None) -> R:
        """Await what `result` does: the same parameters, results and errors.

        Any number of coroutines may await the result of one task; it costs what one costs.
        """
        if not self._is_final:
            app = self.queue.app
            try:
                self._reply = await waits_of(app._async_driver).wait(
                    self.queue.name, self.id, self._wait, wait_ms(timeout), app._connections, app.settings
                )
            except RequestTimeout as error:
                error.args = (f"{error}{await self.queue._arun(self.queue._why_waiting())}",)
                raise
        return self._outcome()

    def __await__(self) -> Generator[Any, None, R]:
        return self.aresult().__await__()

    def status(self) -> TaskStatus:
        """Return where the task is.

        Returns:
            ``"queued"``, ``"delayed"`` (to be ready later, also before a retry), ``"running"``, ``"done"``,
            ``"failed"`` (it is a dead letter), ``"cancelled"``, ``"expired"``; ``"unknown"`` when its end is
            kept no more, or there is no such task. One that has become ready after a delay is looked for
            among the first 1,000 of each priority, and unknown behind those.

        Raises:
            RedisToolkitError: the server cannot be reached or refuses.
        """
        return self.queue._run("status", self._status())

    async def astatus(self) -> TaskStatus:
        """Await what `status` does."""
        return await self.queue._arun(self._status())

    def progress(self) -> Any:
        """Return what the task has said last by ``current_task().progress(...)``; None if nothing.

        Raises:
            DecodeError: it cannot be read with the codec of the queue.
            RedisToolkitError: the server cannot be reached or refuses.
        """
        return self.queue._run("progress", self._progress())

    async def aprogress(self) -> Any:
        """Await what `progress` does."""
        return await self.queue._arun(self._progress())

    def cancel(self) -> bool:
        """Cancel the task, if it has not ended.

        Returns:
            False when it had ended before, and True otherwise: a task that no worker has is cancelled at
            once, or when a worker takes it. One that runs is told: a coroutine gets ``CancelledError``, a
            thread sees it in ``current_task().cancelled``, and may end well all the same.

        Raises:
            RedisToolkitError: the server cannot be reached or refuses.
        """
        return self.queue._run("cancel", self._cancel())

    async def acancel(self) -> bool:
        """Await what `cancel` does."""
        return await self.queue._arun(self._cancel())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r} of queue {self.queue.name!r})"

    def _outcome(self) -> R:
        reply = self._reply
        assert reply is not None
        error = reply.error
        if error is not None:
            raise _ENDS[error.type](error.message) if error.type in _ENDS else _again(error)
        return cast("R", reply.data if self._convert is None else self._convert(reply.data, "result"))

    @property
    def _is_final(self) -> bool:
        """Whether it is known how the task ended, and nobody can put it back."""
        return self._reply is not None and (self._reply.error is None or self._reply.error.type in _ENDS)

    def _wait(self, timeout_ms: int) -> Flow[Reply]:
        known = self._reply
        if known is not None and not self._kept:
            found = yield from self._find()
            if found.where in ("nowhere", "unseen"):
                return known
        try:
            return (
                yield from task_ends.wait(
                    self.queue._source,
                    self.id,
                    new_id(),
                    self.queue._wire,
                    timeout_ms=timeout_ms,
                    place=self._place,
                    unkept=not self._kept,
                )
            )
        except TaskUnknown:
            if known is None:
                raise
            return known

    def _find(self) -> Flow[Found]:
        return task_ends.find(self.queue._source, self.id, self._place)

    def _status(self) -> Flow[TaskStatus]:
        found = yield from self._find()
        if found.where == "ended":
            return cast("TaskStatus", found.state)
        return _STATUS[found.where]

    def _progress(self) -> Flow[Any]:
        found = yield from self._find()
        said = found.fields.get("progress")
        return None if said is None else self.queue._wire.read_live(said)[0]

    def _cancel(self) -> Flow[bool]:
        queue = self.queue
        reply = queue._wire.error_reply(
            self.id, TaskCancelled(f"task {self.id} of queue {queue.name!r} was cancelled")
        )
        ttl_ms = queue._result_ttl_ms if self._kept else 0
        came = yield from task_ends.cancel(queue._source, self.id, reply, ttl_ms, self._place)
        if came.state == "cancelled":
            yield from task_ends.tell(came.waiters, reply)
            try:
                unique = read_task(queue._wire, came.body).unique
            except DecodeError:
                unique = ""  # whoever wrote it did not ask us to hold anything
            yield from tasks.unlock(queue.name, [(unique, self.id)] if unique else [])
        return came.state != "ended"


def wait_ms(timeout: float | datetime.timedelta | None) -> int:
    """Return in ms how long to wait.

    Raises:
        ConfigurationError: no duration over 0.
    """
    if timeout is None:
        return MAX_SECONDS * 1000
    ms = duration_ms("timeout", timeout)
    if not ms and not timeout:
        raise ConfigurationError(f"timeout={timeout!r} must be over 0 seconds: status() does not wait")
    return max(ms, 1)


def _again(error: RemoteError) -> RemoteError:
    """Return a copy: an exception that is raised twice grows a traceback."""
    return RemoteError(error.type, error.message, error.traceback)
