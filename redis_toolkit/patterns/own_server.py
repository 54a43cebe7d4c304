"""`on_own_server`: for a static call about a server; one of an instance asks that one's server."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

__all__ = ["on_own_server"]

P = ParamSpec("P")
R = TypeVar("R")


class on_own_server(Generic[P, R]):
    """Make a static method with the options ``app`` and ``url`` one of a class and of its instances.

    Args:
        function: the static method; called on an instance without options, it gets
            the ``_app`` of that.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        self._function: Callable[P, R] = getattr(function, "__func__", function)

    def __get__(self, instance: Any, owner: type) -> Callable[P, R]:
        function: Callable[..., R] = self._function
        if instance is None:
            return function

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> R:
            if all(one is None for one in (*args, *kwargs.values())):
                kwargs, args = {**kwargs, "app": instance._app}, ()
            return function(*args, **kwargs)

        return call
