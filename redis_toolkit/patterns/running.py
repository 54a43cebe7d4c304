"""What patterns have in common: how they are stopped, and what they run on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from redis_toolkit._core import loops
from redis_toolkit.app import App

__all__ = ["Running", "Stopping", "sibling"]


class Stopping(ABC):
    """Something that has an end; a context manager."""

    @abstractmethod
    def stop(self) -> None:
        """End it. May be called again."""

    def cleanup(self) -> None:
        """Do what `stop` does."""
        self.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class Running(Stopping):
    """Something that runs in the background until `stop`; a context manager.

    Args:
        app: the started app that it runs on, its own.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    def stop(self) -> None:
        """Stop it; what is being handled gets to finish. May be called again, and by a handler too."""
        self._app._stop_anywhere()

    async def astop(self) -> None:
        """Await what `stop` does."""
        await loops.in_thread(self.stop)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.astop()


def sibling(app: App | None, url: str | None) -> App:
    """Return a new app on the server of another one, or of a URL: patterns start and stop their own."""
    return app.sibling() if app is not None else App(url)
