"""What patterns have in common: how they are stopped, and what they run on."""

from __future__ import annotations

from redis_toolkit._core import loops
from redis_toolkit.app import App
from redis_toolkit.living import AwaitedEnding, Ending

__all__ = ["Running", "Stopping", "sibling"]


class Stopping(Ending):
    """Something that has an end; a context manager."""

    def cleanup(self) -> None:
        """Do what `stop` does."""
        self.stop()


class Running(Stopping, AwaitedEnding):
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


def sibling(app: App | None, url: str | None) -> App:
    """Return a new app on the server of another one, or of a URL: patterns start and stop their own."""
    return app.sibling() if app is not None else App(url)
