"""What `with` and `async with` do for whatever can be ended, or started and stopped.

Rules: leaving the block stops; entering it starts only what is `Living`. What ends may be ended again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

__all__ = ["AwaitedEnding", "Ending", "Living"]


class Ending(ABC):
    """Something that has an end; a context manager."""

    @abstractmethod
    def stop(self) -> None:
        """End it. May be called again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class AwaitedEnding(Ending):
    """Something whose end may be awaited as well; a context manager of both kinds."""

    @abstractmethod
    async def astop(self) -> None:
        """Await what `stop` does."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.astop()


class Living(AwaitedEnding):
    """Something that is started and stopped, by its context manager too."""

    @abstractmethod
    def start(self) -> None:
        """Start it."""

    @abstractmethod
    async def astart(self) -> None:
        """Await what `start` does."""

    def __enter__(self) -> Self:
        self.start()
        return self

    async def __aenter__(self) -> Self:
        await self.astart()
        return self
