"""`TaskCall`: one task with its arguments and options, ready to be submitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from redis_toolkit.convert import Converter
from redis_toolkit.patterns.task_options import NO_OPTIONS, TaskOptions

__all__ = ["TaskCall"]

R = TypeVar("R")


@dataclass(eq=False, slots=True)
class TaskCall(Generic[R]):
    """What one task will be; submitted by `TaskQueue.submit_many`.

    Attributes:
        type: the task type.
        data: the payload.
        spread: whether the payload is a map of parameters.
        options: how it is submitted.
        kept: whether its result is kept, as far as is known here.
        convert: makes the result into what the function is annotated to return.
    """

    type: str
    data: Any
    spread: bool = False
    options: TaskOptions = NO_OPTIONS
    kept: bool = True
    convert: Converter | None = None
