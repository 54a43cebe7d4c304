"""`QueueSubmits`: submits tasks to a queue by their type, many at once, and waits for many.

Rules: as in `queue_control.py`. The small API, `submit_task`, may be used anywhere, also where a loop runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeVar, Unpack, cast, overload

from redis_toolkit._core import loops
from redis_toolkit.app import App
from redis_toolkit.errors import QueueFull, counted
from redis_toolkit.patterns import gathering
from redis_toolkit.patterns.queue_control import QueueControl
from redis_toolkit.patterns.submitting import Came, Submitting
from redis_toolkit.patterns.task_call import TaskCall
from redis_toolkit.patterns.task_handle import TaskHandle, wait_ms
from redis_toolkit.patterns.task_options import Duration, TaskOptionFields, TaskOptions, checked_text

__all__ = ["QueueSubmits"]

R = TypeVar("R")
Listed = list[TaskCall[Any]]
A_CALL = "for a function that is a task write task.call(...), else queue.call(type, payload)"
A_HANDLE = "submit() returns handles, and queue.handle(id) makes one of an id"


class QueueSubmits(QueueControl):
    """A queue that tasks are submitted to.

    Args:
        submitting: makes of calls what is stored.
    """

    def __init__(
        self, name: str, priorities: tuple[str, ...], app: App, result_ttl_ms: int, submitting: Submitting
    ) -> None:
        super().__init__(name, priorities, app, result_ttl_ms)
        self._submitting = submitting

    def submit_task(self, task_type: str, payload: Any, priority: str = "normal") -> str:
        """Submit a task by its type, and return its id (``XADD``).

        Args:
            task_type: what kind of task it is, for whoever handles it.
            payload: what it is about.
            priority: one of the queue's. In a queue that has no ``normal``, that is its middle one.

        Raises:
            ConfigurationError: there is no such priority. Nothing was sent.
            EncodeError: the payload cannot be written. Nothing was sent.
            QueueFull: the queue holds as many tasks as it may. Nothing was submitted.
            ServerUnreachable: no connection. Nothing was sent.
            OutcomeUnknown: the connection was cut meanwhile.

        It blocks for a round trip, also on a loop that runs handlers: there, `asubmit_task` does not.
        """
        call = self.call(task_type, payload, priority=priority)
        return self._handle(call, self.app._driver.run(self._submitting.flow([call]))[0]).id

    async def asubmit_task(self, task_type: str, payload: Any, priority: str = "normal") -> str:
        """Await what `submit_task` does: the same parameters, results and errors."""
        return (await self._asubmit(self.call(task_type, payload, priority=priority))).id

    def submit(self, task_type: str, payload: Any, **options: Unpack[TaskOptionFields]) -> TaskHandle[Any]:
        """Submit a task by its type, where its function is not at hand.

        Args:
            task_type: its type.
            payload: what it is about; a map is spread over the parameters of a function that has several.
            **options: the fields of `TaskOptions`, such as ``priority="high"`` or ``delay=60``.

        Returns:
            A handle of the task; of one that was there before, when the ``id`` or the ``unique_key`` says so.

        Raises:
            RedisToolkitError: as in `submit_task`. With an ``id`` it is sent again when the outcome is
                unknown.
        """
        return self._submit("submit", self.call(task_type, payload, **options))

    async def asubmit(
        self, task_type: str, payload: Any, **options: Unpack[TaskOptionFields]
    ) -> TaskHandle[Any]:
        """Await what `submit` does: the same parameters, results and errors."""
        return await self._asubmit(self.call(task_type, payload, **options))

    def call(self, task_type: str, payload: Any, **options: Unpack[TaskOptionFields]) -> TaskCall[Any]:
        """Return a task by its type, not submitted: for `submit_many`. Parameters are those of `submit`.

        Raises:
            ConfigurationError: the type or an option cannot be.
        """
        return TaskCall(
            checked_text("task_type", task_type),
            payload,
            options=TaskOptions.of(options),
            kept=bool(self._result_ttl_ms),
        )

    @overload
    def submit_many(self, calls: Iterable[TaskCall[R]]) -> list[TaskHandle[R]]: ...
    @overload
    def submit_many(
        self, calls: Iterable[TaskCall[R]], *, return_exceptions: Literal[True]
    ) -> list[TaskHandle[R] | QueueFull]: ...
    def submit_many(self, calls: Iterable[TaskCall[Any]], *, return_exceptions: bool = False) -> Any:
        """Submit many tasks in order, in few round trips.

        Args:
            calls: what ``task.call(...)`` or `call` returned, also of several tasks.
            return_exceptions: whether a `QueueFull` stands in the place of a task that was refused.
                Otherwise it is raised when all have been tried.

        Returns:
            Their handles.

        Raises:
            EncodeError: one of them cannot be written. Nothing was sent.
            QueueFull: not all had room.
            RedisToolkitError: as in `submit_task`; those before it have been submitted.

        Example:
            ``queue.submit_many(add.call(number, 1) for number in range(1000))``
        """
        listed = gathering.listed(calls, TaskCall, A_CALL)
        return self._handles(
            listed, self._run("submit_many", self._submitting.flow(listed)), return_exceptions
        )

    @overload
    async def asubmit_many(self, calls: Iterable[TaskCall[R]]) -> list[TaskHandle[R]]: ...
    @overload
    async def asubmit_many(
        self, calls: Iterable[TaskCall[R]], *, return_exceptions: Literal[True]
    ) -> list[TaskHandle[R] | QueueFull]: ...
    async def asubmit_many(self, calls: Iterable[TaskCall[Any]], *, return_exceptions: bool = False) -> Any:
        """Await what `submit_many` does: the same parameters, results and errors."""
        listed = gathering.listed(calls, TaskCall, A_CALL)
        return self._handles(listed, await self._arun(self._submitting.flow(listed)), return_exceptions)

    def _submit(self, name: str, call: TaskCall[R]) -> TaskHandle[R]:
        return self._handle(call, self._run(name, self._submitting.flow([call]))[0])

    async def _asubmit(self, call: TaskCall[R]) -> TaskHandle[R]:
        return self._handle(call, (await self._arun(self._submitting.flow([call])))[0])

    def _handle(self, call: TaskCall[R], came: Came) -> TaskHandle[R]:
        if isinstance(came, QueueFull):
            raise came
        task_id, place, duplicate = came
        return TaskHandle(
            self, task_id, duplicate=duplicate, kept=call.kept, place=place, convert=call.convert
        )

    def _handles(self, calls: Listed, done: list[Came], return_exceptions: bool) -> list[Any]:
        full = [came for came in done if isinstance(came, QueueFull)]
        if full and not return_exceptions:
            raise QueueFull(f"{len(full):,} of {counted(len(done), 'task')} refused: {full[0]}")
        if full:
            return [
                came if isinstance(came, QueueFull) else self._handle(call, came)
                for call, came in zip(calls, done, strict=True)
            ]
        each = zip(calls, cast("list[tuple[str, Any, bool]]", done), strict=True)
        return [
            TaskHandle(self, name, duplicate=there, kept=call.kept, place=place, convert=call.convert)
            for call, (name, place, there) in each
        ]

    # -- handles ----------------------------------------------------------------------------------

    def handle(self, task_id: str) -> TaskHandle[Any]:
        """Return the handle of a task whose id is known. The server is not asked whether there is one.

        Args:
            task_id: the id, such as ``handle.id`` or what `submit_task` returned.

        Raises:
            ConfigurationError: it can be no id.
        """
        return TaskHandle(self, checked_text("task_id", task_id))

    def gather(
        self,
        handles: Iterable[TaskHandle[Any]],
        *,
        timeout: Duration | None = None,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Wait for the ends of several tasks at once, and return their results in the order of the handles.

        Args:
            handles: of tasks of this queue, or of others.
            timeout: seconds, or a timedelta, for all of them together; None waits without end.
            return_exceptions: whether an exception stands in its place in the result. Otherwise the first one
                is raised when all tasks have ended, or the time is over.

        Raises:
            RedisToolkitError: as in `TaskHandle.result`.
        """
        loops.check_blocking("gather")
        return gathering.gather(
            gathering.listed(handles, TaskHandle, A_HANDLE), wait_ms(timeout), return_exceptions
        )

    async def agather(
        self,
        handles: Iterable[TaskHandle[Any]],
        *,
        timeout: Duration | None = None,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Await what `gather` does: the same parameters, results and errors."""
        return await gathering.agather(
            gathering.listed(handles, TaskHandle, A_HANDLE), wait_ms(timeout), return_exceptions
        )
