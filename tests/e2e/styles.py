"""The same tests for both engines and both drivers: an `App` that makes handlers and calls of the other kind.

A style says whether handlers run as ``def`` in threads or as ``async def`` on a loop, and whether calls
are made or awaited. Awaited ones run on a loop in the background, on which the app is started too.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from redis_toolkit import App

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


@dataclass(frozen=True)
class Style:
    """How the handlers are written and how calls are made."""

    handlers: str = "def"
    calls: str = "called"

    def __str__(self) -> str:
        return f"{self.handlers}-{self.calls}"


BASE = Style()
OTHERS = [Style("async def", "called"), Style("def", "awaited"), Style("async def", "awaited")]


class Background:
    """A loop in a thread, and threads for what handlers wait for."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.threads = ThreadPoolExecutor(64, thread_name_prefix="handler")
        self._thread = threading.Thread(target=self.loop.run_forever, name="background-loop")
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def close(self) -> None:
        self.run(self.loop.shutdown_default_executor())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
        self.threads.shutdown()


class StyledApp(App):
    """An app in a style: tests register ``def`` handlers and make calls, it does the rest."""

    def __init__(self, url: str, style: Style, background: Background, **options: Any) -> None:
        if style.handlers == "async def":  # the limits that the tests know as threads
            options.setdefault("coroutines", options.get("concurrency", 8))
        super().__init__(url, **options)
        self.style = style
        self.background = background

    def on(self, *channels: str, **options: Any) -> Callable[[F], F]:
        register = super().on(*channels, **options)

        def decorate(function: F) -> F:
            register(self._coroutine(function) if self.style.handlers == "async def" else function)
            return function

        return decorate

    def _coroutine(self, function: Callable[..., T]) -> Callable[..., Coroutine[Any, Any, T]]:
        @functools.wraps(function)
        async def handler(*args: Any, **kwargs: Any) -> T:
            call = functools.partial(function, *args, **kwargs)
            return await asyncio.get_running_loop().run_in_executor(self.background.threads, call)

        return handler


class AwaitingApp(StyledApp):
    """One whose calls are awaited, on the loop in the background."""

    def publish(self, *args: Any, **kwargs: Any) -> int:
        return self.background.run(self.apublish(*args, **kwargs))

    def publish_many(self, *args: Any, **kwargs: Any) -> list[int]:
        return self.background.run(self.apublish_many(*args, **kwargs))

    def request(self, *args: Any, **kwargs: Any) -> Any:
        return self.background.run(self.arequest(*args, **kwargs))

    def request_many(self, *args: Any, **kwargs: Any) -> list[Any]:
        return self.background.run(self.arequest_many(*args, **kwargs))

    def health_check(self) -> bool:
        return self.background.run(self.ahealth_check())

    def start(self, workers: int = 0) -> None:
        self.background.run(self.astart(workers))

    def stop(self) -> None:
        self.background.run(self.astop())


def styled(url: str, style: Style, background: Background, **options: Any) -> App:
    """Return an app in a style."""
    kind = AwaitingApp if style.calls == "awaited" else StyledApp
    return kind(url, style, background, **options)
