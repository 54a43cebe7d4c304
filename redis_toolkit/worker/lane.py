"""A lane: the messages that wait for one live handler, and the threads that run it.

Rules:

- Putting a message never waits: the reader of the connection must go on, or the server cuts it off.
- A full lane drops its oldest message. One episode of overflow, until the lane is half empty again, is
  reported once, with how many were dropped.
- With one thread, the default, messages are handled one at a time and in order. The thread starts
  with the first message: a lane that is never used costs nothing.
- Each message is handled in a context of its own: what a handler sets in a `ContextVar` ends with it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import copy_context

from redis_toolkit.errors import DecodeError, PayloadMismatch
from redis_toolkit.message import Gap, Message
from redis_toolkit.routing import Handler
from redis_toolkit.settings import Settings
from redis_toolkit.strange import tamed
from redis_toolkit.tracebacks import OF_HANDLER
from redis_toolkit.worker import forked, handling
from redis_toolkit.worker.counters import Counters

__all__ = ["Lane"]

logger = logging.getLogger("redis_toolkit")

BATCH = 256
"""Messages taken at once from the waiting ones: fewer wake-ups under load."""

Item = tuple[bytes, bytes | None, bytes]
"""Channel, glob (None for an exact subscription) and body, as they came."""


class Lane:
    """The waiting messages of one handler.

    Args:
        handler: who gets them.
        settings: how many, and how many bytes, may wait.
        report: called with the `Gap` of each episode of overflow.
        counters: where dropped and unreadable messages are counted.
    """

    def __init__(
        self, handler: Handler, settings: Settings, report: Callable[[Gap], None], counters: Counters
    ) -> None:
        self.handler = handler
        self.active = True
        self._max_messages = settings.lane_messages
        self._max_bytes = settings.lane_bytes
        self._report = report
        self._counters = counters
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._waiting = 0
        self._running = 0
        self._dropped = 0
        self._overflowing_since = 0.0
        self._stopping = False
        self._abandoned = False
        self._names = {name.encode("utf-8"): str(name) for name in (*handler.channels, *handler.globs)}
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []

    def put(self, channel: bytes, glob: bytes | None, body: bytes) -> None:
        """Add a message; the reader's part. Drops the oldest when the lane is full."""
        if not self.active:
            return
        with self._changed:
            self._items.append((channel, glob, body))
            self._bytes += len(body)
            if len(self._items) > self._max_messages or self._bytes > self._max_bytes:
                self._drop()
            self._call_thread()

    def stop(self, deadline: float) -> bool:
        """Let what waits be handled until ``deadline`` (monotonic); returns whether all of it was."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            if self.runs(handling.current()):
                return True  # a handler stops its own app: this thread goes on with what waits, then ends
            if not self._is_alive():
                deadline = 0.0
            done = self._changed.wait_for(
                lambda: not self._items and not self._running, max(deadline - time.monotonic(), 0)
            )
            gap = self._end_of_overflow(len(self._items))
            self._items.clear()
            self._abandoned = not done
            self._changed.notify_all()
        self._report_overflow(gap)
        return done

    def _is_alive(self) -> bool:
        """Return whether anybody is there to handle what waits."""
        return bool(self._threads)

    def runs(self, runner: object) -> bool:
        """Return whether this thread runs the lane's handler."""
        return runner in self._threads

    def _call_thread(self) -> None:
        """Wake a thread that waits, or start one more while there may be more."""
        if self._waiting:
            self._changed.notify()
        elif len(self._threads) < (self.handler.concurrency or 1):
            self._start_thread()

    def _start_thread(self) -> None:
        name = f"rt-lane-{self.handler.name}-{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads, or the interpreter is on its way out
            logger.debug("no thread for handler %s: %s", self.handler.name, error)
            return  # the next message tries again
        self._threads.append(thread)

    def _drop(self) -> None:
        if not self._dropped:
            self._overflowing_since = time.time()
        while len(self._items) > self._max_messages or self._bytes > self._max_bytes:
            self._bytes -= len(self._items.popleft()[2])
            self._dropped += 1

    def _work(self) -> None:
        handling.begin()
        while True:
            batch, gap = self._take()
            self._report_overflow(gap)
            if not batch and self._stopping:
                return
            for item in batch:
                if not self._abandoned:
                    self._handle(*item)
            self._done(batch)

    def _done(self, batch: list[Item]) -> None:
        with self._changed:
            self._running -= bool(batch)
            if self._stopping:
                self._changed.notify_all()

    def _take(self) -> tuple[list[Item], Gap | None]:
        """Wait for messages and take some; none means that the lane has stopped."""
        with self._changed:
            while not self._items and not self._stopping and not self._dropped:
                self._waiting += 1
                self._changed.wait()
                self._waiting -= 1
            return self._take_some()

    def _take_some(self) -> tuple[list[Item], Gap | None]:
        """Take some of what waits, and the end of an episode of overflow; the lock is held."""
        share = BATCH if (self.handler.concurrency or 1) == 1 else 1
        batch = [self._items.popleft() for _ in range(min(share, len(self._items)))]
        self._bytes -= sum(len(item[2]) for item in batch)
        self._running += bool(batch)
        if self._items and share == 1:
            # Several messages may have called one thread, which counts as waiting until it runs.
            self._call_thread()
        half_empty = len(self._items) * 2 <= self._max_messages and self._bytes * 2 <= self._max_bytes
        return batch, self._end_of_overflow(0) if half_empty else None

    def _end_of_overflow(self, left: int) -> Gap | None:
        """Return the gap of the episode that ends now, if there is one; ``left`` will not be handled."""
        lost = self._dropped + left
        if not lost:
            return None
        names = (*self.handler.channels, *self.handler.globs)
        reason = f"handler {self.handler.name} was too slow: its lane overflowed"
        if left:
            reason = f"handler {self.handler.name} was stopped before it had handled what had arrived"
        since = self._overflowing_since if self._dropped else time.time()
        self._dropped = 0
        return Gap(names, since, time.time(), reason, lost)

    def _report_overflow(self, gap: Gap | None) -> None:
        if gap is not None:
            self._counters.add("overflowed", gap.dropped or 0)
            self._report(gap)

    def _handle(self, channel: bytes, glob: bytes | None, body: bytes) -> None:
        before = forked.generation
        try:
            copy_context().run(self.handler.binding.call, self._message(channel, glob, body))
            if forked.generation != before:
                forked.end_fork(before)
        except BaseException as error:
            forked.end_fork(before, error)
            self._failed(channel, error)

    def _message(self, channel: bytes, glob: bytes | None, body: bytes) -> Message:
        data, headers = self.handler.wire.read_live(body)
        name = self._names.get(channel) or channel.decode("utf-8", "backslashreplace")
        return Message(name, data, headers, None, None if glob is None else self._names.get(glob))

    def _failed(self, channel: bytes, error: BaseException) -> None:
        """Log and count what went wrong with one message; the next one is handled all the same."""
        name, error = channel.decode("utf-8", "backslashreplace"), tamed(error)
        if isinstance(error, DecodeError | PayloadMismatch):
            self._counters.add("undecodable" if isinstance(error, DecodeError) else "mismatched")
            logger.warning("dropped a message on %r: %s", name, error)
        else:
            self._counters.add("failed")
            logger.error(
                "handler %s failed on a message on %r",
                self.handler.name,
                name,
                exc_info=error,
                extra=OF_HANDLER,
            )
