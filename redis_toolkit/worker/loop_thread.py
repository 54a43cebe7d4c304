"""A thread that runs one event loop, for the ``async def`` handlers of an app started without one.

Rules: its end is waited for in limits, as a handler may have blocked the loop, or a thread of its executor.
What is left behind is logged; it ends when it can, and the loop's thread is a daemon.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from redis_toolkit._core import loops

__all__ = ["LoopThread"]

logger = logging.getLogger("redis_toolkit")

T = TypeVar("T")
LAST_SECONDS = 1.0
"""Seconds that cancelled tasks get to end, and the threads of the executor."""


class LoopThread:
    """An event loop in a daemon thread, with an executor of its own."""

    def __init__(self) -> None:
        self.loop = loops.new_loop()
        self._thread = threading.Thread(target=self._run, name="rt-loop", daemon=True)
        self._helpers: list[threading.Thread] = []
        self._executor = ThreadPoolExecutor(
            thread_name_prefix="rt-executor",
            initializer=lambda: self._helpers.append(threading.current_thread()),
        )
        self.loop.set_default_executor(self._executor)
        loops.serving.add(self.loop)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, from another thread, and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def stop(self, until: float, last: Coroutine[Any, Any, None] | None = None) -> None:
        """Cancel what is left on the loop, end the thread and close the loop.

        Args:
            until: when a loop that has not ended counts as blocked (monotonic seconds).
            last: what to do on the loop before.
        """
        asyncio.run_coroutine_threadsafe(self._finish(last), self.loop)
        self._thread.join(max(until - time.monotonic(), LAST_SECONDS))
        if self._thread.is_alive():
            logger.warning("a handler blocks the event loop: its thread is left behind")
            return
        helpers = [thread for thread in self._helpers if thread is not threading.current_thread()]
        until = time.monotonic() + LAST_SECONDS
        for thread in helpers:
            thread.join(max(until - time.monotonic(), 0))
        left = sum(thread.is_alive() for thread in helpers)
        if left:
            logger.warning("%d threads that handlers use by asyncio.to_thread are left behind", left)

    async def _finish(self, last: Coroutine[Any, Any, None] | None) -> None:
        try:
            if last is not None:
                await last
        finally:
            self.loop.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self.loop.run_until_complete(asyncio.wait(tasks, timeout=LAST_SECONDS))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            # To await the end of the executor would take one more thread, which an interpreter on its way
            # out refuses, and could take for ever.
            loops.serving.discard(self.loop)
            self._executor.shutdown(wait=False, cancel_futures=True)
            self.loop.close()
