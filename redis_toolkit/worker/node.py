"""A node: everything that serves one app in one process, started and stopped as a whole.

Start: subscriptions, then the registration, which also tells the server's time, then the threads that
claim: what expired before is not executed. Stop: subscriptions and registration first, so that callers
send nothing more; then what was sent, claimed or received gets until the end of the grace period.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable

from redis_toolkit import keys
from redis_toolkit._core.connection import Connections
from redis_toolkit.message import Gap
from redis_toolkit.routing import Handler, Router
from redis_toolkit.settings import Settings
from redis_toolkit.worker.answering import Answerer
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.heartbeat import Heartbeat, ServerClock
from redis_toolkit.worker.lane import Lane
from redis_toolkit.worker.listener import Listener
from redis_toolkit.worker.threads import RequestThreads

__all__ = ["Node", "new_process_name"]

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
    ) -> None:
        self.name = name
        self._connections = connections
        self._settings = settings
        self._counters = counters
        self._report = report
        responders = router.responders()
        clock = ServerClock()
        self._lanes = [
            Lane(handler, settings, self._gap, counters) for handler in router.handlers if handler.events
        ]
        self._pools = self._request_threads(responders, clock)
        self.listener = Listener(
            connections,
            settings,
            self._lanes,
            [keys.serve(name) for name in responders],
            self._gap,
            listening=listening,
        )
        globs = [answered for answered, handler in responders.items() if answered in handler.globs]
        exact = [answered for answered, handler in responders.items() if answered not in handler.globs]
        self._heartbeat = Heartbeat(name, connections, settings, clock, exact, globs) if responders else None

    @property
    def confirmed(self) -> bool:
        """Whether every subscription of this process is confirmed by the server."""
        return self.listener.confirmed

    def start(self) -> None:
        """Serve; returns when every subscription is confirmed and callers can send.

        Raises:
            RedisToolkitError: the server cannot be reached or refuses. Nothing is left running.
        """
        self.listener.start()
        if self._heartbeat is not None:
            try:
                self._heartbeat.start()
            except BaseException:
                self.listener.stop()
                raise
        for pool in self._pools:
            pool.start()

    def stop(self, grace: float) -> bool:
        """Stop serving; running handlers get ``grace`` seconds. Returns whether all of them ended."""
        deadline = time.monotonic() + grace
        self.listener.stop()
        waiting = self._heartbeat.stop() if self._heartbeat is not None else 0
        for pool in self._pools:
            pool.drain(waiting)
        ended = [pool.stop(deadline) for pool in self._pools]
        ended += [lane.stop(deadline) for lane in self._lanes]
        if not all(ended):
            logger.warning(
                "%s stopped while handlers were still running after %g s of grace", self.name, grace
            )
        return all(ended)

    def _request_threads(self, responders: dict[str, Handler], clock: ServerClock) -> list[RequestThreads]:
        """Return the pools: one for all handlers without a ``concurrency``, one for each of the others."""
        shared: dict[str, Answerer] = {}
        own: dict[Handler, dict[str, Answerer]] = {}
        for name, handler in responders.items():
            source = shared if handler.concurrency is None else own.setdefault(handler, {})
            source[keys.requests(name)] = Answerer(
                name, handler, clock, self._counters, send_tracebacks=self._settings.send_tracebacks
            )
        sources = [(answerers, handler.concurrency or 1) for handler, answerers in own.items()]
        if shared:
            sources.append((shared, self._settings.concurrency))
        return [
            RequestThreads(answerers, threads, self._connections, self._settings, self._counters)
            for answerers, threads in sources
        ]

    def _gap(self, gap: Gap) -> None:
        self._counters.add("gaps")
        lost = "an unknown number of" if gap.dropped is None else f"{gap.dropped:,}"
        logger.warning(
            "gap in live events on %s: %s messages lost within %.1f s: %s",
            ", ".join(map(repr, gap.channels[:5])) + (", ..." if len(gap.channels) > 5 else ""),
            lost,
            gap.ended - gap.started,
            gap.reason,
        )
        self._report(gap)
