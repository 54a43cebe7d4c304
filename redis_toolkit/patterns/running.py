"""What patterns have in common: how they are stopped, and what they run on."""

from __future__ import annotations

from collections.abc import Callable

from redis_toolkit._core import loops
from redis_toolkit.app import App
from redis_toolkit.errors import ConfigurationError
from redis_toolkit.living import AwaitedEnding

__all__ = ["Created", "Running", "Stopping", "checked_app", "sibling"]


class Stopping(AwaitedEnding):
    """Something that has an end; a context manager of both kinds."""

    def cleanup(self) -> None:
        """Do what `stop` does."""
        self.stop()

    async def astop(self) -> None:
        """Await what `stop` does."""
        await loops.in_thread(self.stop)


class Running(Stopping):
    """Something that runs in the background until `stop`; a context manager.

    Args:
        app: the started app that it runs on, its own.
        what: what it is, for a reader.
        then: called when it has been stopped.
    """

    def __init__(self, app: App, what: str, then: Callable[[Running], object] | None = None) -> None:
        self._app = app
        self._what = what
        self._then = then

    def stop(self) -> None:
        """Stop it; what is being handled gets to finish. May be called again, and by a handler too."""
        self._app._stop_anywhere()
        if self._then is not None:
            self._then(self)

    def __repr__(self) -> str:
        state = "running" if self._app._started and self._app._service.started else "not running"
        return f"<{self._what} on {self._app!r}, {state}>"


class Created:
    """What a pattern has made and not stopped yet, so that its own `stop` can."""

    def __init__(self) -> None:
        self._running: dict[Running, None] = {}

    def add(self, one: Running) -> Running:
        """Remember something that runs, until it is stopped."""
        self._running[one] = None
        return one

    def forget(self, one: Running) -> None:
        """Forget what has been stopped."""
        self._running.pop(one, None)

    def stop(self) -> None:
        """Stop all of it, the last first."""
        for one in reversed(list(self._running)):
            one.stop()


def sibling(app: App | None, url: str | None) -> App:
    """Return a new app on the server of another one, or of a URL: patterns start and stop their own."""
    if app is not None and url is not None:
        raise ConfigurationError("give app= or url=, not both")
    if app is None:
        return App(url)
    checked_app(app)
    return app.sibling()


def checked_app(app: object) -> None:
    """Refuse what is no app; it is not shown, as it may hold a password.

    Raises:
        ConfigurationError: it is none.
    """
    if not isinstance(app, App):
        raise ConfigurationError(f"app= is an App, not {type(app).__name__}: for a server, write url=")
