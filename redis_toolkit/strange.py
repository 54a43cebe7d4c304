"""Exceptions of handlers whose own code raises when they are looked at, so that nobody else has to expect it.

Rules: whatever a handler has raised goes through `tamed` before anything is asked of it, be it its class by
``isinstance``. Here nothing is asked but what Python itself answers.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

__all__ = ["StrangeError", "tamed"]

_NAME: Any = type.__dict__["__name__"]
_TRACEBACK: Any = BaseException.__dict__["__traceback__"]


class StrangeError(Exception):
    """Stands for an exception that cannot be looked at."""


def tamed(error: BaseException) -> BaseException:
    """Return an exception that may be looked at: this one, or what stands for it."""
    kind = type(error)
    try:
        if error.__class__ is kind and _is_plain(error, kind):
            return error
    except BaseException as failure:  # its own code runs here, which may even exit
        why = f"{_NAME.__get__(type(failure))} when it is looked at"
    else:
        why = "it says that it is something else"
    for known in (asyncio.CancelledError, GeneratorExit):
        if issubclass(kind, known):  # what they mean must not be lost
            return known().with_traceback(_TRACEBACK.__get__(error))
    stand_in = StrangeError(f"{ascii(_NAME.__get__(kind))[1:-1]} ({why})")
    return stand_in.with_traceback(_TRACEBACK.__get__(error))


def _is_plain(error: BaseException, kind: type[BaseException]) -> bool:
    """Return whether it answers what we, `logging` and `traceback` ask."""
    for one in kind.__mro__:
        hash(one)
    known = (type(None), TracebackType)
    linked = (error.__traceback__, error.__cause__, error.__context__)
    return type(kind.__name__) is str and type(kind.__qualname__) is str and type(linked[0]) in known
