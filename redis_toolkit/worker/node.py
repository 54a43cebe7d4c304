"""A node: everything that serves one app in one process, started and stopped as a whole.

Start: subscriptions, then the registration, which also tells the server's time, then the threads that
claim: what expired before is not executed. Stop: subscriptions and registration first, so that callers
send nothing more, and no more durable work is claimed; then what was sent, claimed or received gets until the
end of the grace period. Last come those who renew leases.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

from redis_toolkit import keys
from redis_toolkit._core import loops
from redis_toolkit._core.connection import Connections
from redis_toolkit.message import Gap
from redis_toolkit.routing import Handler, Router
from redis_toolkit.settings import Settings
from redis_toolkit.worker import handling
from redis_toolkit.worker.answering import Answerer
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.durable_part import DurablePart
from redis_toolkit.worker.heartbeat import Heartbeat, ServerClock
from redis_toolkit.worker.lane import Lane
from redis_toolkit.worker.listener import Listener
from redis_toolkit.worker.loop import RequestLoop
from redis_toolkit.worker.loop_lane import LoopLane
from redis_toolkit.worker.loop_thread import LoopThread
from redis_toolkit.worker.loop_watch import LoopWatch
from redis_toolkit.worker.threads import RequestThreads

__all__ = ["Node", "new_process_name"]

STUCK_SECONDS = 5.0
"""Seconds beyond the grace period that a loop has to end what it runs."""
BLOCKED_SECONDS = 1.0
"""Seconds beyond the grace period after which a loop that stands still is not waited for."""

T = TypeVar("T")

logger = logging.getLogger("redis_toolkit")


def new_process_name() -> str:
    """Return a name for this process in the registries: readable, and never used before."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


class Node:
    """Serves the handlers of an app in this process.

    Args:
        name: the process's name in the registries.
        router: the handlers.
        connections: where connections come from.
        settings: the app's numbers.
        counters: where everything unusual is counted.
        report: called with each `Gap`.
        listening: whether this process has the listener role from the start.
        loop: where ``async def`` handlers run; None means: on a loop in a thread of its own.
        close_loop: closes what handlers have opened on that loop of its own, before it ends.
    """

    def __init__(
        self,
        name: str,
        router: Router,
        connections: Connections,
        settings: Settings,
        counters: Counters,
        report: Callable[[Gap], None],
        *,
        listening: bool = True,
        loop: asyncio.AbstractEventLoop | None = None,
        close_loop: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self.name = name
        self._connections = connections
        self._settings = settings
        self._counters = counters
        self._report = report
        self._close_loop = close_loop
        self._serving = False
        self._waiting: int | None = None
        self._guard: asyncio.Task[None] | None = None
        self._guarding = True
        self._is_blocked = False
        self._closed = threading.Event()
        responders = router.responders()
        clock = ServerClock()
        self._own_loop = LoopThread() if loop is None and router.has_async else None
        self._loop = self._own_loop.loop if self._own_loop is not None else loop
        on_loop = [binding for binding in router.bindings if binding.is_async]
        self._watch = LoopWatch(self._loop, on_loop) if self._loop is not None and on_loop else None
        self._lanes = [self._lane(handler) for handler in router.handlers if handler.events]
        self._pools: list[RequestThreads] = []
        self._engines: list[RequestLoop] = []
        self._make_engines(responders, clock)
        self._durable = DurablePart(name, router.durables, connections, settings, clock, counters)
        self.listener = Listener(
            connections,
            settings,
            self._lanes,
            [keys.serve(name) for name in responders],
            self._gap,
            listening=listening,
            internal=self._durable.internal,
        )
        globs = [answered for answered, handler in responders.items() if answered in handler.globs]
        exact = [answered for answered, handler in responders.items() if answered not in handler.globs]
        self._heartbeat = Heartbeat(name, connections, settings, clock, exact, globs) if responders else None

    @property
    def confirmed(self) -> bool:
        """Whether every subscription of this process is confirmed by the server."""
        return self.listener.confirmed

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """Where ``async def`` handlers run."""
        return self._loop

    @property
    def has_lost_its_loop(self) -> bool:
        """Whether the loop of its handlers was closed before it was stopped."""
        return self._loop is not None and self._loop.is_closed()

    def is_on_running_loop(self) -> bool:
        """Whether the loop that runs in this thread is the one of the handlers."""
        return self._loop is not None and asyncio._get_running_loop() is self._loop

    @property
    def wants_recycling(self) -> bool:
        """Whether handlers that never end have taken all places of a group or queue."""
        return self._durable.wants_recycling

    def start(self) -> None:
        """Serve; returns when every subscription is confirmed and callers can send.

        Raises:
            RedisToolkitError: the server cannot be reached or refuses. Nothing is left running.
        """
        if self._own_loop is not None:
            self._own_loop.start()
        try:
            self._start_threads()
            if self._own_loop is not None:
                self._own_loop.run(self._start_engines())
        except BaseException:
            self._undo_start()
            raise

    async def astart(self, lost: Callable[[Node], None]) -> None:
        """Serve with ``async def`` handlers on the running loop; raises as `start` does.

        When it is cancelled, it takes back what it has started and ends then.

        Args:
            lost: called when it stops by itself, because the loop ends.
        """
        assert self._loop is not None
        loops.serving.add(self._loop)
        try:
            await loops.in_thread(self._start_threads)
            await self._start_engines()
            self._guard = asyncio.create_task(self._stop_with_loop(lost), name="rt-app")
        except BaseException:
            if self._serving:
                await self.astop(self._settings.grace)
            loops.serving.discard(self._loop)
            raise

    def stop(self, grace: float, caller: asyncio.Task[Any] | None = None) -> bool:
        """Stop serving; running handlers get ``grace`` seconds. Returns whether all of them ended.

        The handler that asks is not waited for. If it is ``async def``, or one of a group or queue, the rest
        is done in another thread when it has ended: its reply leaves, connections are closed, a loop of its
        own ends.

        Args:
            grace: seconds for running handlers.
            caller: the task of the own loop that waits for this.
        """
        # All but the engines stops in this thread: at the end of a program no other can be had any more.
        deadline, self._guarding = time.monotonic() + grace, False
        try:
            ended = self._stop_all(deadline)
        except BaseException:
            self._closed.set()
            raise
        runner = handling.current()
        askers = {
            task for task in (runner, caller) if isinstance(task, asyncio.Task) and self._has_on_loop(task)
        }
        if askers or self._durable.runs(runner):
            close = partial(Context().run, self._close, deadline, askers)  # where nobody asks for it
            threading.Thread(target=close, name="rt-stop", daemon=True).start()
        else:
            self._close(deadline)
        if not ended:
            logger.warning(
                "%s stopped while handlers were still running after %g s of grace", self.name, grace
            )
        return ended

    async def astop(self, grace: float) -> bool:
        """Await what `stop` does; a cancellation is raised when it has ended."""
        caller = asyncio.current_task() if self._own_loop is not None and self.is_on_running_loop() else None
        return await loops.in_thread(self.stop, grace, caller)

    def waits_for_this(self) -> bool:
        """Whether a stop waits for who has led to this call: a handler, or what else runs on its loop."""
        runner = handling.current()
        if self.is_on_running_loop() or (self._own_loop is not None and self._has_on_loop(runner)):
            return True
        parts: list[RequestThreads | RequestLoop | Lane] = [*self._pools, *self._engines, *self._lanes]
        return self._durable.runs(runner) or any(part.runs(runner) for part in parts)

    def wait_closed(self) -> None:
        """Wait until everything is closed, after a `stop` by somebody else."""
        self._closed.wait()

    def _stop_all(self, deadline: float) -> bool:
        """Let handlers end, but for the one that asks."""
        waiting = self.stop_callers()
        for pool in self._pools:
            pool.drain(waiting)
        ended = [pool.stop(deadline) for pool in self._pools]
        ended.append(self._durable.stop(deadline))
        if self._engines or self._durable.has_loops:
            until = self._patience(deadline)
            ended.append(bool(self._on_loop(lambda: self._stop_engines(deadline, waiting), until)))
        return all([*ended, *[lane.stop(deadline) for lane in self._lanes]])

    def _close(self, deadline: float, askers: set[asyncio.Task[Any]] | None = None) -> None:
        """Wait for those who asked for the stop, and close what handlers may use to their end."""
        until = self._patience(deadline)
        try:
            if askers and self._loop is not None:
                left = max(deadline - time.monotonic(), 0)
                loops.run_on(self._loop, asyncio.wait(askers, timeout=left), until)
                for lane in self._lanes:
                    lane.stop(deadline)
            self._durable.stop(deadline)  # a thread of its own may have asked
            if self._own_loop is not None:
                self._own_loop.stop(until, self._close_on_loop(deadline))
            elif self._loop is not None:
                self._on_loop(lambda: self._close_on_loop(deadline), until)
                loops.serving.discard(self._loop)
        finally:
            self._durable.close()
            self._closed.set()

    def _patience(self, deadline: float) -> float:
        """Return until when the loop is waited for (monotonic seconds): no more if a handler blocks it."""
        if self._loop is not None and not self._is_blocked:
            self._is_blocked = not loops.turns(self._loop, deadline + BLOCKED_SECONDS)
        return time.monotonic() if self._is_blocked else deadline + STUCK_SECONDS

    async def _close_on_loop(self, deadline: float) -> None:
        if self._guard is not None:
            self._guard.cancel()
            await asyncio.wait([self._guard])
        closing = [engine.close(deadline) for engine in self._engines]
        await asyncio.gather(*closing, self._durable.close_loops(deadline))
        if self._own_loop is not None and self._close_loop is not None:
            await self._close_loop()

    def _has_on_loop(self, task: object) -> bool:
        """Return whether this is a task on the loop of the handlers that has not ended."""
        return isinstance(task, asyncio.Task) and task.get_loop() is self._loop and not task.done()

    def _start_threads(self) -> None:
        with ExitStack() as undo:
            self.listener.start()
            undo.callback(self.listener.stop)
            if self._heartbeat is not None:
                self._heartbeat.start()
                undo.callback(self._heartbeat.stop)
            self._durable.start()
            undo.pop_all()
        for pool in self._pools:
            pool.start()
        self._serving = True

    def _undo_start(self) -> None:
        """Leave nothing running: callers would go on sending to a process that never answers."""
        if self._serving:
            self.stop(self._settings.grace)
        elif self._own_loop is not None:
            self._own_loop.stop(time.monotonic() + STUCK_SECONDS)

    async def _start_engines(self) -> None:
        for engine in self._engines:
            await engine.start()
        await self._durable.start_loops()
        if self._watch is not None:
            self._watch.start()

    def stop_callers(self) -> int:
        """Let callers send nothing more, the first part of a stop; returns how many requests wait."""
        if self._waiting is None:
            if self._watch is not None:
                self._watch.stop()
            self._durable.drain()
            self.listener.stop()
            self._waiting = self._heartbeat.stop() if self._heartbeat is not None else 0
        return self._waiting

    def _on_loop(self, make: Callable[[], Coroutine[Any, Any, T]], until: float) -> T | None:
        """Run a coroutine on the loop of the handlers; if that stands still, it runs when that goes on."""
        loop = self._loop
        if loop is not None and loop.is_running():
            return loops.run_on(loop, make(), until)
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(lambda: loop.create_task(make()))
        return None

    async def _stop_engines(self, deadline: float, waiting: int) -> bool:
        ends = [engine.stop(deadline, waiting) for engine in self._engines]
        return all(await asyncio.gather(*ends, self._durable.stop_loops(deadline)))

    async def _stop_with_loop(self, lost: Callable[[Node], None]) -> None:
        """Wait to be cancelled, as whoever ends a loop does with its tasks; then stop while it still runs."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not self._guarding:
                raise
            self._guard = None
            logger.warning("the event loop of %s ends, and nobody awaited astop(): stopping", self.name)
            lost(self)
            await self.astop(self._settings.grace)

    def _lane(self, handler: Handler) -> Lane:
        if handler.binding.is_async:
            assert self._loop is not None
            return LoopLane(handler, self._settings, self._gap, self._counters, self._loop)
        return Lane(handler, self._settings, self._gap, self._counters)

    def _make_engines(self, responders: dict[str, Handler], clock: ServerClock) -> None:
        """Make the sources: ``def`` and ``async def`` apart, and handlers with their own ``concurrency``."""
        sources: dict[object, tuple[Handler, dict[str, Answerer]]] = {}
        for name, handler in responders.items():
            shared = handler.concurrency is None
            source = sources.setdefault(handler.binding.is_async if shared else handler, (handler, {}))
            source[1][keys.requests(name)] = Answerer(
                name, handler, clock, self._counters, send_tracebacks=self._settings.send_tracebacks
            )
        settings = self._settings
        for handler, answerers in sources.values():
            if handler.binding.is_async:
                places = handler.concurrency or settings.coroutines
                self._engines.append(
                    RequestLoop(answerers, places, self._connections, settings, self._counters)
                )
            else:
                threads = handler.concurrency or settings.concurrency
                self._pools.append(
                    RequestThreads(answerers, threads, self._connections, settings, self._counters)
                )

    def _gap(self, gap: Gap) -> None:
        self._counters.add("gaps")
        lost = "an unknown number of" if gap.dropped is None else f"{gap.dropped:,}"
        messages = "message" if gap.dropped == 1 else "messages"
        logger.warning(
            "gap in live events on %s: %s %s lost within %.1f s: %s",
            ", ".join(map(repr, gap.channels[:5])) + (", ..." if len(gap.channels) > 5 else ""),
            lost,
            messages,
            gap.ended - gap.started,
            gap.reason,
        )
        self._report(gap)
