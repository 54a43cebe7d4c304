"""`Task`: a function whose calls can be submitted to a queue. It stays a function that can be called.

Rules:

- Arguments are checked against the signature before anything is sent, and travel by name.
- In ``task.submit(...)`` a keyword that is a parameter of the function is an argument; any other may be an
  option. ``task.options(...).submit(...)`` takes arguments only.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack, cast, overload

from redis_toolkit.misspelt import by_name, meant
from redis_toolkit.patterns.task_call import TaskCall
from redis_toolkit.patterns.task_handle import TaskHandle
from redis_toolkit.patterns.task_options import (
    OPTIONS,
    Duration,
    TaskOptionFields,
    TaskOptions,
    checked_text,
    refuse_unknown,
)

if TYPE_CHECKING:
    from redis_toolkit.jobs import Job
    from redis_toolkit.patterns.task_queue import TaskQueue

__all__ = ["AsyncTask", "Submitter", "Task", "UniqueKey"]

P = ParamSpec("P")
R = TypeVar("R")
UniqueKey = str | Callable[..., str]
"""A unique key; or what makes one, called with the arguments of a task."""


_ELSEWHERE = {
    "delay": ": submit(...) leaves a call for a worker, submit(..., delay=60) in a minute",
    "apply_async": ": submit(...) leaves a call for a worker; its options stand among the arguments",
}


class Submitter(Generic[P, R]):
    """Submits calls of one task with options of its own; see `Task.options`.

    Args:
        queue: where to.
        job: what runs them.
        options: how.
        unique_key: makes a unique key of the arguments, when the options have none.
    """

    _option_names: frozenset[str] = frozenset()

    def __init__(
        self, queue: TaskQueue, job: Job, options: TaskOptions, unique_key: UniqueKey | None
    ) -> None:
        self.queue = queue
        self.name = job.type
        self._job = job
        self._options = options
        self._unique_key = unique_key
        self._signature = job.binding.payload
        parameters = self._signature.parameters.values()
        self._plain = all(one.kind is one.POSITIONAL_OR_KEYWORD for one in parameters)
        self._names = {one.name: None for one in parameters}
        self._all = self._names.keys() if self._plain else None
        self._required = {one.name for one in parameters if one.default is one.empty}
        self._convert = job.binding.result_converter()
        self._kept = job.policy.result_ttl > 0

    def call(self, *args: P.args, **kwargs: P.kwargs) -> TaskCall[R]:
        """Return the call, not submitted: for `TaskQueue.submit_many`.

        Raises:
            TypeError: these are not arguments of the function.
        """
        return self._made(self._options, args, kwargs)

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Submit a call; see `Task.submit`. Here every keyword is an argument of the function."""
        return self.queue._submit("submit", self._made(self._options, args, kwargs))

    async def asubmit(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Await what `submit` does: the same parameters, results and errors."""
        return await self.queue._asubmit(self._made(self._options, args, kwargs))

    def __repr__(self) -> str:
        return f"<task {self.name!r} of queue {self.queue.name!r}, with options of its own>"

    def _made(self, options: TaskOptions, args: Any, kwargs: dict[str, Any]) -> TaskCall[Any]:
        if args or kwargs.keys() != self._all:
            data = self._payload(args, kwargs)
        else:
            data = kwargs  # nobody else has it: it was made of the call's keywords
        if options.unique_key is None and self._unique_key is not None:
            key = self._unique_key if isinstance(self._unique_key, str) else self._unique_key(*args, **kwargs)
            options = dataclasses.replace(options, unique_key=checked_text("unique_key", key))
        return TaskCall(self.name, data, True, options, self._kept, self._convert)

    def _payload(self, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return arguments by name, as they travel; defaults are left to whoever runs the task."""
        if self._plain and len(args) <= len(self._names):  # what it nearly always is, at a tenth of the cost
            data = dict(zip(self._names, args, strict=False))
            if kwargs and data.keys().isdisjoint(kwargs):
                data.update(kwargs)
            if len(data) == len(args) + len(kwargs) and self._required <= data.keys() <= self._names.keys():
                return data
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            near = meant([one for one in kwargs if one not in self._names], self._option_names)
            more = f"; {near}" if near.startswith("did") else ""
            raise TypeError(f"task {self.name}{self._signature}: {error}{more}") from None
        data = dict(bound.arguments)
        for name, parameter in self._signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                data.update(data.pop(name, {}))
        return data


class _TaskBase(Submitter[P, R]):
    """What tasks of both kinds have."""

    __name__: str

    def __init__(
        self,
        queue: TaskQueue,
        function: Callable[..., Any],
        job: Job,
        options: TaskOptions,
        unique_key: UniqueKey | None,
    ) -> None:
        functools.update_wrapper(cast("Any", self), function)  # first: it brings the function's attributes
        super().__init__(queue, job, options, unique_key)
        self.function = function
        self._option_names = OPTIONS - self._signature.parameters.keys()

    @by_name
    def options(self, **options: Unpack[TaskOptionFields]) -> Submitter[P, R]:
        """Return what submits this task with options, for a call or for many.

        Args:
            **options: the fields of `TaskOptions`; those that are not given are the task's own.

        Raises:
            ConfigurationError: one of them cannot be.

        Example:
            ``resize.options(priority="low", delay=60).submit("cat.png", width=200)``
        """
        refuse_unknown(options)
        merged = dataclasses.replace(self._options, **options)
        self.queue._submitting.priority(merged.priority)
        return Submitter(self.queue, self._job, merged, self._unique_key)

    # Who gives options among the arguments gives up the check of the arguments' types. (PEP 612 knows no
    # keywords besides those of P.) At run time they are checked all the same.
    @overload
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]: ...
    @overload
    def submit(self, *args: Any, priority: str, **more: Any) -> TaskHandle[R]: ...
    @overload
    def submit(self, *args: Any, delay: Duration, **more: Any) -> TaskHandle[R]: ...
    @overload
    def submit(self, *args: Any, eta: datetime, **more: Any) -> TaskHandle[R]: ...
    @overload
    def submit(self, *args: Any, expires: Duration | datetime, **more: Any) -> TaskHandle[R]: ...
    @overload
    def submit(self, *args: Any, unique_key: str, **more: Any) -> TaskHandle[R]: ...
    @overload
    def submit(self, *args: Any, headers: Mapping[str, str], **more: Any) -> TaskHandle[R]: ...
    @overload
    def submit(self, *args: Any, id: str, **more: Any) -> TaskHandle[R]: ...
    def submit(self, *args: Any, **kwargs: Any) -> TaskHandle[R]:
        """Submit a call of the function: some worker will run it (``XADD``).

        Args:
            *args: its arguments.
            **kwargs: its arguments by name; and options, the fields of `TaskOptions` (``priority``,
                ``delay``, ``eta``, ``expires``, ``unique_key``, ``headers``, ``id``), those that the
                function has no parameter of the same name for. For those there is `options`.

        Returns:
            A handle of the task; of one that was there before, when the ``id`` or the ``unique_key`` says so.

        Raises:
            TypeError: these are not arguments of the function. Nothing was sent.
            ConfigurationError: an option cannot be. Nothing was sent.
            EncodeError: an argument cannot be written. Nothing was sent.
            QueueFull: the queue holds as many tasks as it may. Nothing was submitted.
            ServerUnreachable: no connection. Nothing was sent.
            OutcomeUnknown: the connection was cut meanwhile. With an ``id`` it is sent again instead.

        Example:
            ``add.submit(1, 2)``, or ``add.submit(1, b=2, priority="high")``
        """
        return self.queue._submit("submit", self._split(args, kwargs))

    @overload
    async def asubmit(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]: ...
    @overload
    async def asubmit(self, *args: Any, priority: str, **more: Any) -> TaskHandle[R]: ...
    @overload
    async def asubmit(self, *args: Any, delay: Duration, **more: Any) -> TaskHandle[R]: ...
    @overload
    async def asubmit(self, *args: Any, eta: datetime, **more: Any) -> TaskHandle[R]: ...
    @overload
    async def asubmit(self, *args: Any, expires: Duration | datetime, **more: Any) -> TaskHandle[R]: ...
    @overload
    async def asubmit(self, *args: Any, unique_key: str, **more: Any) -> TaskHandle[R]: ...
    @overload
    async def asubmit(self, *args: Any, headers: Mapping[str, str], **more: Any) -> TaskHandle[R]: ...
    @overload
    async def asubmit(self, *args: Any, id: str, **more: Any) -> TaskHandle[R]: ...
    async def asubmit(self, *args: Any, **kwargs: Any) -> TaskHandle[R]:
        """Await what `submit` does: the same parameters, results and errors."""
        return await self.queue._asubmit(self._split(args, kwargs))

    def _split(self, args: Any, kwargs: dict[str, Any]) -> TaskCall[Any]:
        """Return the call, with those keywords as options that are not arguments."""
        if not kwargs or self._option_names.isdisjoint(kwargs):
            return self._made(self._options, args, kwargs)
        options = {name: kwargs.pop(name) for name in self._option_names & kwargs.keys()}
        return self._made(dataclasses.replace(self._options, **options), args, kwargs)

    if not TYPE_CHECKING:  # which would take any name for an attribute then

        def __getattr__(self, name: str) -> Any:
            """Say what other libraries' names for submitting are called here."""
            said = f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(said + _ELSEWHERE.get(name, ""), name=name, obj=self)

    def __repr__(self) -> str:
        return f"<task {self.name!r} of queue {self.queue.name!r}>"


class Task(_TaskBase[P, R]):
    """A ``def`` function whose calls can be submitted; calling it runs it here, as always.

    Attributes:
        queue: the queue.
        name: the task type.
        function: the function.
    """

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = self.function(*args, **kwargs)
        return result


class AsyncTask(_TaskBase[P, R]):
    """An ``async def`` function whose calls can be submitted; awaiting a call runs it here, as always."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        result: Coroutine[Any, Any, R] = self.function(*args, **kwargs)
        return await result
