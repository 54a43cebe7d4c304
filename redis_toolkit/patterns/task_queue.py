"""`TaskQueue`: tasks that some worker runs, at least once, highest priority first.

Rules:

- The tasks of a queue are shared by all its workers, in all processes: each is run by one of them.
- A queue that is given an app is served by that very app; one without has an app of its own.
- The small API, `submit_task` and `create_worker`, may be used anywhere, also where a loop runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from redis_toolkit._core import loops
from redis_toolkit.app import App
from redis_toolkit.binding import Binding, handler_name
from redis_toolkit.errors import ConfigurationError
from redis_toolkit.jobs import RESULT_TTL, Backoff, Durable, Duration, Job, policy_of, seconds_of
from redis_toolkit.living import Living
from redis_toolkit.misspelt import by_name
from redis_toolkit.patterns.queue_submits import QueueSubmits
from redis_toolkit.patterns.running import Created, Running, checked_app
from redis_toolkit.patterns.submitting import Submitting
from redis_toolkit.patterns.task import AsyncTask, Task, UniqueKey
from redis_toolkit.patterns.task_options import TaskOptions, checked_text, duration_ms
from redis_toolkit.routing import checked_channel, is_typed
from redis_toolkit.settings import check_whole

__all__ = ["TaskQueue"]

P = ParamSpec("P")
R = TypeVar("R")
Exceptions = type[BaseException]
DAY = 24 * 3600.0


class TaskDecorator(Protocol):
    """What makes a task of a function."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # what fits both is the first
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class TaskQueue(QueueSubmits, Living):
    """A queue of tasks.

    Args:
        queue_name: its name, printable text.
        priorities: the names of its priorities, highest first.
        app: the app that serves it, and whose server and codec are used; or
        url: the server, for an app of its own; see `App`.
        max_pending: how many tasks it may hold that have not ended; more are refused with `QueueFull`.
            None: any number. It is the submitter's limit: give all that submit the same.
        result_ttl: seconds for which the end of a task is kept; 0 keeps none.
        concurrency: how many tasks one process runs at once. None: the app's ``concurrency`` if all are
            ``def``, else its ``coroutines``.
        lease: seconds after which others take over what a process has that gives no sign of life. None: the
            app's.
        id_ttl: seconds for which another submit with the same ``id=`` adds nothing.
        unique_ttl: seconds after which a ``unique_key=`` is free again though its task has not ended.
        announce: whether ``tasks:completed`` and ``tasks:failed`` are published for decorated tasks too.

    Raises:
        ConfigurationError: one of them cannot work.

    Example:
        ```python
        queue = TaskQueue("images", app=app)

        @queue.task(retries=3, timeout=60)
        def resize(path: str, width: int = 100) -> str: ...

        handle = resize.submit("cat.png", width=200, priority="high")
        print(handle.result(timeout=30))
        ```
    """

    @by_name
    def __init__(
        self,
        queue_name: str,
        priorities: Sequence[str] = ("high", "normal", "low"),
        *,
        app: App | None = None,
        url: str | None = None,
        max_pending: int | None = None,
        result_ttl: Duration = RESULT_TTL,
        concurrency: int | None = None,
        lease: float | None = None,
        id_ttl: Duration = DAY,
        unique_ttl: Duration = DAY,
        announce: bool = False,
    ) -> None:
        if app is not None and url is not None:
            raise ConfigurationError("give a queue app= or url=, not both")
        if app is None:
            app = App(url)
            app._module = str(sys._getframe(2).f_globals.get("__name__", "__main__"))
        checked_app(app)
        names = _checked_priorities(priorities)
        for option, value in (("max_pending", max_pending), ("concurrency", concurrency)):
            if value is not None:
                check_whole(option, value)
        if not checked_channel(queue_name, "queue").isprintable():  # a line break would part addresses
            raise ConfigurationError(f"the queue name {ascii(queue_name)[:80]} is not printable")
        submitting = Submitting(
            queue_name,
            names,
            app._calls.wire_of(None),
            max_pending=max_pending,
            once_ms=duration_ms("id_ttl", id_ttl),
            unique_ms=duration_ms("unique_ttl", unique_ttl),
        )
        super().__init__(queue_name, names, app, duration_ms("result_ttl", result_ttl), submitting)
        self._result_ttl = result_ttl
        self._concurrency = concurrency
        self._lease = None if lease is None else seconds_of("lease", lease)
        self._announce = announce
        self._created = Created()

    # -- tasks that are functions -----------------------------------------------------------------

    @overload
    def task(  # type: ignore[overload-overlap]  # what fits both is the first
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self,
        /,
        *,
        name: str | None = None,
        priority: str | None = None,
        retries: int | Mapping[Exceptions, int] = 0,
        backoff: Duration | Backoff | Mapping[Exceptions, Duration | Backoff] | None = None,
        timeout: Duration | None = None,
        result_ttl: Duration | None = None,
        expires: Duration | None = None,
        unique_key: UniqueKey | None = None,
    ) -> TaskDecorator: ...
    @by_name
    def task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        priority: str | None = None,
        retries: int | Mapping[Exceptions, int] = 0,
        backoff: Duration | Backoff | Mapping[Exceptions, Duration | Backoff] | None = None,
        timeout: Duration | None = None,
        result_ttl: Duration | None = None,
        expires: Duration | None = None,
        unique_key: UniqueKey | None = None,
    ) -> Any:
        """Make a task of a function: calls of it can be submitted, and the app of the queue runs them.

        Args:
            name: the task type; None: the function's name. Tasks that wait in the queue have it.
            priority: one of the queue's; None: ``normal``, or the middle one.
            retries: how often it is tried again after a failure; or that for each class of exceptions.
            backoff: seconds before the first retry, each later one waits twice as long; a `Backoff`; or
                either for each class of exceptions.
            timeout: seconds that one attempt may take. A coroutine is cancelled then; a thread is left
                behind, and what it returns does not count.
            result_ttl: seconds for which its end is kept; None: as the queue says.
            expires: seconds after the submit until which it may begin.
            unique_key: of the tasks with one key the queue has one at a time, until it has ended; or a
                function that makes the key of the arguments.

        Returns:
            A `Task` (an `AsyncTask` of an ``async def``), which can be called as the function can.

        Raises:
            ConfigurationError: the signature or an option cannot work, the queue has a task of this name,
                or the app is running already.

        Example:
            ``@queue.task`` or ``@queue.task(retries=5, unique_key=lambda user: f"mail:{user}")``
        """

        if isinstance(function, str):
            raise ConfigurationError(f"task() takes its options by name: @queue.task(name={function!r})")

        def decorate(function: Callable[..., Any]) -> Any:
            options = TaskOptions(priority=self._submitting.priority(priority), expires=expires)
            policy = policy_of(
                retries=retries,
                backoff=backoff,
                timeout=timeout,
                result_ttl=self._result_ttl if result_ttl is None else result_ttl,
            )
            job = Job(name or _task_name(function), Binding(function, self.app), self._wire, policy)
            kind: Any = AsyncTask if job.binding.is_async else Task
            task = kind(self, function, job, options, unique_key)
            self._register(job)
            return task

        return decorate if function is None else decorate(function)

    def _register(self, job: Job) -> None:
        app = self.app
        if app._started and app._service.started:
            raise ConfigurationError(
                f"task {job.type!r} of queue {self.name!r} comes too late, its app is running: "
                "register tasks before start() or run()"
            )
        durable = self._served()
        if durable is None:
            durable = self._durable({}, announces=self._announce)
            app._router.add_durable(durable)
        old = durable.jobs.get(job.type)
        if old is not None and not is_typed(job.binding.function):
            raise ConfigurationError(
                f"queue {self.name!r} has a task {job.type!r} already, {old.binding.name}: "
                f"give {job.binding.name} another name, @queue.task(name=...)"
            )
        durable.jobs[job.type] = job

    def _durable(self, jobs: dict[str, Job], **more: Any) -> Durable:
        options = {"concurrency": self._concurrency, "lease": self._lease, **more}
        return Durable(self._source, jobs, self.name, is_queue=True, **options)

    def _served(self) -> Durable | None:
        """Return the queue as its app serves it, if it has any task."""
        return next((one for one in self.app._router.durables if one.source == self._source), None)

    # -- workers of the small API -----------------------------------------------------------------

    @by_name
    def create_worker(
        self,
        worker_id: str,
        task_handler: Callable[..., Any],
        *,
        concurrency: int = 1,
        retries: int | Mapping[Exceptions, int] = 0,
        backoff: Duration | Backoff | Mapping[Exceptions, Duration | Backoff] | None = None,
        timeout: Duration | None = None,
        lease: Duration | None = None,
    ) -> Running:
        """Handle the tasks of the queue in the background; returns once it has begun.

        Args:
            worker_id: how the worker is named in the tasks that it handles.
            task_handler: called with the task as a dict: ``id``, ``type``, ``payload``, ``priority``,
                ``submitted_at``, ``status``, ``worker_id``, ``started_at`` (wall-clock seconds). What it
                returns is the result. Tasks of types that `task` has registered here go to those functions.
            concurrency: how many tasks it handles at once.
            retries: how often a task is tried again after a failure; or that for each class of exceptions.
            backoff: seconds before the first retry, each later one waits twice as long; a `Backoff`; or
                either for each class of exceptions.
            timeout: seconds that one attempt may take.
            lease: seconds after which others take over its tasks when it gives no sign of life. None: as the
                queue, or the app, says.

        Returns:
            The running worker: ``stop()`` it, or use it as a context manager.

        Raises:
            ConfigurationError: the handler or an option cannot work.
            RedisToolkitError: the server cannot be reached or refuses.

        Each end is published on ``tasks:completed`` or ``tasks:failed`` with the task: also ``queue``, and
        ``result`` and ``completed_at``, or ``error`` and ``failed_at``. Several workers, here and elsewhere,
        share the tasks.

        Example:
            ```python
            with queue.create_worker("worker-1", lambda task: task["payload"]["a"] + 1):
                ...
            ```
        """
        app = self._worker(worker_id, task_handler, concurrency, lease, retries, backoff, timeout)
        app._start_anywhere()
        return self._running(worker_id, app)

    @by_name
    async def acreate_worker(
        self,
        worker_id: str,
        task_handler: Callable[..., Any],
        *,
        concurrency: int = 1,
        retries: int | Mapping[Exceptions, int] = 0,
        backoff: Duration | Backoff | Mapping[Exceptions, Duration | Backoff] | None = None,
        timeout: Duration | None = None,
        lease: Duration | None = None,
    ) -> Running:
        """Await what `create_worker` does: the same parameters, results and errors.

        The handler runs as there, in a thread or on a loop of the worker's own.
        """
        app = self._worker(worker_id, task_handler, concurrency, lease, retries, backoff, timeout)
        await loops.in_thread(app._start_anywhere)
        return self._running(worker_id, app)

    def _worker(
        self,
        worker_id: str,
        task_handler: Callable[..., Any],
        concurrency: int,
        lease: Duration | None,
        retries: Any,
        backoff: Any,
        timeout: Any,
    ) -> App:
        checked_text("worker_id", worker_id)
        check_whole("concurrency", concurrency)
        app = self.app.sibling()
        policy = policy_of(retries=retries, backoff=backoff, timeout=timeout, result_ttl=self._result_ttl)
        known = self._served()
        jobs = dict(known.jobs) if known is not None else {}
        jobs[""] = Job("", Binding(task_handler, app), self._wire, policy, as_task=True)
        more = {"lease": self._lease if lease is None else seconds_of("lease", lease)}
        durable = self._durable(jobs, concurrency=concurrency, announces=True, worker_id=worker_id, **more)
        app._router.add_durable(durable)
        return app

    def _running(self, worker_id: str, app: App) -> Running:
        what = f"worker {worker_id!r} of queue {self.name!r}"
        return self._created.add(Running(app, what, self._created.forget))

    # -- living -----------------------------------------------------------------------------------

    def run(self, workers: int = 1) -> None:
        """Serve until SIGTERM or SIGINT, with all else that the app serves; as `App.run`."""
        self.app._service.run(workers, sys._getframe(1))

    def start(self, workers: int = 0) -> None:
        """Serve in the background, with all else that the app serves; as `App.start`."""
        self.app._start(workers, sys._getframe(1))

    async def astart(self, workers: int = 0) -> None:
        """Await what `start` does; as `App.astart`."""
        await self.app._astart(workers, sys._getframe(1))

    def stop(self) -> None:
        """Stop the workers of `create_worker`, and what `start` started; as `App.stop`."""
        self._created.stop()
        self.app.stop()

    async def astop(self) -> None:
        """Await what `stop` does; as `App.astop`."""
        await loops.in_thread(self._created.stop)
        await self.app.astop()

    def cleanup(self) -> None:
        """Stop, also from a handler on its own loop."""
        self._created.stop()
        self.app._stop_anywhere()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r} on {self.app!r})"


def _task_name(function: Callable[..., Any]) -> str:
    """Return how the tasks of a function are named in the queue, whichever module runs it."""
    return getattr(function, "__name__", None) or handler_name(function)


def _checked_priorities(priorities: Sequence[str]) -> tuple[str, ...]:
    """Return the names of priorities.

    Raises:
        ConfigurationError: they are no list of different texts.
    """
    if isinstance(priorities, App):
        raise ConfigurationError("the app of a queue goes by name: TaskQueue(name, app=app)")
    names = () if isinstance(priorities, str) or not isinstance(priorities, Iterable) else tuple(priorities)
    for name in names:
        checked_text("priority", name)
    if not names or len(set(names)) < len(names):
        raise ConfigurationError(
            f"priorities={priorities!r} must be a list of different names, the highest first"
        )
    return names
