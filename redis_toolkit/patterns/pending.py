"""`Pending`: what an ``a``-call returns that opens something: to be awaited, or entered by ``async with``.

Rules:

- Nothing begins before it is awaited or entered, once. One that never is, is warned of as a coroutine is.
- Who awaits it ends what it opened; ``async with`` does that by itself.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Generic, TypeVar

from redis_toolkit.errors import ConfigurationError
from redis_toolkit.patterns.running import Stopping

__all__ = ["Pending"]

T = TypeVar("T", bound=Stopping)


class Pending(Generic[T]):
    """Something that has not begun: await it, or enter it by ``async with``, which ends it too.

    Args:
        begin: begins it.
        name: the call that made it, for who forgets to await it.
    """

    _begun = True  # until there is something to begin

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, T]], name: str) -> None:
        self._begin = begin
        self._name = name
        self._open: T | None = None
        self._begun = False

    def __await__(self) -> Generator[Any, Any, T]:
        return self._start().__await__()

    async def __aenter__(self) -> T:
        self._open = await self._start()
        return self._open

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._open is not None:
            await self._open.astop()

    def __del__(self) -> None:
        if not self._begun and not sys.is_finalizing():
            warnings.warn(f"{self._name} was never awaited", RuntimeWarning, stacklevel=2, source=self)

    def _start(self) -> Coroutine[Any, Any, T]:
        if self._begun:
            raise ConfigurationError(f"{self._name} was awaited before: call it anew")
        self._begun = True
        return self._begin()
