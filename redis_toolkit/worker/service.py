"""The life of one app in one process: in threads here, or as supervised worker processes.

In a worker process the same calls mean something else: the one that its supervisor was started by
serves and never returns; those before it do nothing, as their workers exist already.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

from redis_toolkit._core import loops
from redis_toolkit._core.connection import Connections
from redis_toolkit._core.flows import events, serving
from redis_toolkit._core.sync_driver import SyncDriver
from redis_toolkit.errors import ConfigurationError, RedisToolkitError
from redis_toolkit.message import Gap
from redis_toolkit.routing import Beside, Router
from redis_toolkit.settings import Settings, check_whole
from redis_toolkit.worker import child
from redis_toolkit.worker.assignment import Assignment, assignment
from redis_toolkit.worker.counters import Counters
from redis_toolkit.worker.node import Node, new_process_name
from redis_toolkit.worker.program import program_of
from redis_toolkit.worker.supervisor import Supervisor

__all__ = ["Service"]

logger = logging.getLogger("redis_toolkit")

EMBEDDED_LOOK = 1.0
"""Seconds between two looks at an embedded server that worker processes use."""
_serves_as_worker = threading.Event()
"""Set once this process serves as a worker: until then it runs the program up to that point."""
_supervised = itertools.count(1)
"""Numbers the supervised starts of a program, the same in the supervisor's process and in its workers."""


class Service:
    """Starts and stops the serving of one app.

    Args:
        app: the app, to find it again in a worker.
        module: name of the module in which it was built.
        router: its handlers.
        connections: where connections come from.
        settings: its numbers.
        report: called with each `Gap`.
        counters: where is counted what went another way than the usual one.
        close_loop: closes what the app has open on the running loop.
    """

    def __init__(
        self,
        app: Any,
        module: str,
        router: Router,
        connections: Connections,
        settings: Settings,
        report: Callable[[Gap], None],
        counters: Counters,
        close_loop: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._app = app
        self._module = module
        self._router = router
        self._connections = connections
        self._settings = settings
        self._report = report
        self._close_loop = close_loop
        self.counters = counters
        self._lock = threading.RLock()
        self._node: Node | None = None
        self._stopped: Node | None = None
        self._supervisor: Supervisor | None = None
        self._supervising: threading.Thread | None = None
        self._until: threading.Event | None = None  # ends run(workers=0)
        self._ask_supervisor: Callable[[], object] | None = None  # in a worker process
        self._pid = os.getpid()

    @property
    def started(self) -> bool:
        """Whether it serves, here or in worker processes."""
        self._forget_in_a_fork()
        return self._node is not None or self._supervisor is not None

    @property
    def confirmed(self) -> bool:
        """Whether all subscriptions of this process are confirmed; True when it has none."""
        self._forget_in_a_fork()
        node = self._node
        return node is None or node.confirmed

    @property
    def pids(self) -> list[int]:
        """The process ids of the worker processes."""
        supervisor = self._supervisor
        return supervisor.pids if supervisor is not None else []

    def start_beside(self, one: Beside, start: Callable[[], None]) -> None:
        """Serve durable work beside this app, until worker processes serve it.

        In a worker process that does not serve yet nothing is started: this app is what will serve, if any.
        """
        if assignment() is None or _serves_as_worker.is_set():
            start()
        self._router.beside.append(one)

    def start(self, workers: int, caller: FrameType | None) -> None:
        """Serve in the background: in threads of this process, or in worker processes."""
        check_whole("workers", workers, least=0)
        with self._lock:
            self._refuse_second_start()
            if workers == 0:
                node = self._new_node(new_process_name(), listening=True)
                node.start()
                self._node = node
                return
            supervisor = self._supervise(workers, caller)
            if supervisor is None:
                return
            self._supervisor = supervisor
            self._supervising = threading.Thread(
                target=self._run_supervisor, args=(supervisor,), name="rt-supervisor"
            )
            self._supervising.daemon = True
            self._supervising.start()
        supervisor.all_ready.wait()
        if supervisor.failure is not None:
            self.stop()
            raise supervisor.failure

    async def astart(self) -> None:
        """Serve in the background, with ``async def`` handlers on the running loop."""
        with self._lock:
            self._refuse_second_start()
            node = self._new_node(new_process_name(), listening=True, loop=asyncio.get_running_loop())
            self._node = node
        try:
            await node.astart(self._lost)
        except BaseException:
            self._node = None
            raise

    async def astop(self) -> None:
        """Stop serving, without blocking the loop; when cancelled, it stops all the same and ends then."""
        node = self._node
        if node is not None and node.is_on_running_loop():
            self._node, self._stopped = None, node
            await node.astop(self._settings.grace)
        else:
            await loops.in_thread(self.stop)

    def stop(self) -> None:
        """Stop serving; running handlers get the grace period, but for the one that asks for it.

        When another one stops it already, wait for that; a handler, which that waits for, does not.
        """
        self._forget_in_a_fork()
        if self._node is not None and self._node.is_on_running_loop():
            raise ConfigurationError("stop() would wait for the event loop that it runs on: await astop()")
        with self._lock:
            node, self._node = self._node, None
            stopped, self._stopped = self._stopped, node or self._stopped
            supervisor, self._supervisor = self._supervisor, None
            thread, self._supervising = self._supervising, None
        if node is not None:
            node.stop(self._settings.grace)
        elif stopped is not None and not stopped.waits_for_this():
            stopped.wait_closed()
        if supervisor is not None:
            supervisor.stop()
        if thread is not None:
            thread.join()
        if self._until is not None:
            self._until.set()

    def stop_program(self) -> bool:
        """In a worker process that serves this app: ask its supervisor to stop all of them, and do not wait.

        `stop` would: its lock is held by the thread that serves.

        Returns:
            Whether this is one.
        """
        self._forget_in_a_fork()
        ask = self._ask_supervisor
        if ask is not None:
            ask()
        return ask is not None

    def cleanup(self, then: Callable[[], None]) -> None:
        """Do what `stop` does, wherever it is called, and call ``then`` afterwards.

        On the loop of the handlers it returns when nothing more can arrive: what is being handled there,
        the caller perhaps, can only finish when the caller lets the loop go on.
        """
        node = self._node
        if node is None or not node.is_on_running_loop():
            self.stop()
            then()
            return
        self._node, self._stopped = None, node
        node.stop_callers()

        def rest() -> None:
            node.stop(self._settings.grace)
            then()

        try:
            threading.Thread(target=rest, name="rt-stop", daemon=True).start()
        except RuntimeError as error:  # the interpreter is on its way out, and takes everything along
            logger.debug("not stopped to the end: %s", error)

    def _lost(self, node: Node) -> None:
        """Forget a node that stops by itself, as its loop ends."""
        if self._node is node:
            self._node = None

    def run(self, workers: int, caller: FrameType | None) -> None:
        """Serve until SIGTERM or SIGINT."""
        check_whole("workers", workers, least=0)
        _log_to_stderr()
        if workers == 0:
            self._refuse_second_start()
            self._until = threading.Event()
            try:
                child.until_signal(lambda: self.start(0, caller), self._until, self.stop)
            finally:
                self._connections.close()
            return
        with self._lock:
            self._refuse_second_start()
            supervisor = self._supervise(workers, caller)
            if supervisor is None:
                return
            self._supervisor = supervisor
        supervisor.run_until_signal(self._supervised)

    def _supervised(self) -> None:
        self._supervisor = None
        self._connections.close()

    def await_anywhere(self, function: Callable[..., Coroutine[Any, Any, Any]], argument: Any) -> None:
        """Call a coroutine function from a thread of its own, on the loop of the handlers if one runs."""
        node = self._node
        loop = node.loop if node is not None else None
        if loop is not None and loop.is_running():
            loops.run_on(loop, function(argument))
        else:
            asyncio.run(function(argument))

    def serve_as_worker(self, part: Assignment) -> None:
        """Serve as the worker process that this is; does not return."""
        _log_to_stderr()
        self._router.take_over()
        _serves_as_worker.set()

        def when_asked(ask: Callable[[], object]) -> None:
            self._ask_supervisor = ask

        child.serve(self._new_node(part.process, listening=False), part, self._settings.grace, when_asked)

    def _forget_in_a_fork(self) -> None:
        """In a forked child: what runs is the parent's, whose threads are not here."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._lock = threading.RLock()
            self._node = self._stopped = self._supervisor = self._supervising = self._until = None
            self._ask_supervisor = None

    def _refuse_second_start(self) -> None:
        if not self._router.bindings and not self._router.beside:
            logger.warning("this app has no handlers: register them with @app.on before it starts")
        if self._node is not None and self._node.has_lost_its_loop:
            self.stop()
        if self.started:
            raise ConfigurationError("this app has been started: stop() it first")

    def _new_node(self, name: str, *, listening: bool, loop: asyncio.AbstractEventLoop | None = None) -> Node:
        return Node(
            name,
            self._router,
            self._connections,
            self._settings,
            self.counters,
            self._report,
            listening=listening,
            loop=loop,
            close_loop=self._close_loop,
        )

    def _supervise(self, workers: int, caller: FrameType | None) -> Supervisor | None:
        """Return a supervisor; in a worker process serve instead, or return None if another app does."""
        ordinal = next(_supervised)
        part = assignment()
        if part is not None and part.ordinal in (0, ordinal):
            self.serve_as_worker(part)
        if part is not None:
            return None
        beside = [job.binding for one in self._router.beside for job in one.durable.jobs.values()]
        modules = {getattr(one.function, "__module__", "") for one in self._router.bindings + beside}
        program = program_of(self._app, self._module, caller, modules)
        driver = SyncDriver(self._connections, self._settings)
        driver.run(events.ping())  # one clear error here, instead of one from each worker
        self._router.take_over()

        def bury(process: str) -> None:
            try:
                driver.run(serving.withdraw(process, list(self._router.responders(quiet=True))))
            except RedisToolkitError as error:
                logger.warning(
                    "registrations of dead worker %s stay until their lease ends: %s", process, error
                )

        supervisor = Supervisor(
            program,
            workers,
            ordinal=ordinal,
            grace=self._settings.grace,
            # Others are in the program that a worker runs: a password need not stand in its environment too.
            urls=lambda: (
                {self._connections.url: self._connections.real_url()} if self._connections.is_embedded else {}
            ),
            bury=bury,
        )
        if self._connections.is_embedded:
            watch = threading.Thread(
                target=self._watch_embedded, args=(supervisor,), name="rt-embedded", daemon=True
            )
            watch.start()
        return supervisor

    def _run_supervisor(self, supervisor: Supervisor) -> None:
        try:
            supervisor.run()
        except RedisToolkitError as error:
            logger.error("%s", error)
        except Exception as error:
            supervisor.failure = supervisor.failure or error
            logger.exception("the supervisor failed")
        if self._supervisor is supervisor and supervisor.failure is None:  # a worker asked for the stop
            self._supervisor = None

    def _watch_embedded(self, supervisor: Supervisor) -> None:
        """See that the embedded server is there, as the workers only know its socket: another process may
        have started it, and have ended it."""
        while not supervisor.ended.wait(EMBEDDED_LOOK):
            try:
                self._connections.real_url()
            except RedisToolkitError as error:
                logger.warning("the embedded server could not be started again: %s", error)


def _log_to_stderr() -> None:
    """Show our log lines in a program that has set up no logging, as one that calls run() often has not."""
    if logging.getLogger().handlers or logger.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s [%(process)d] %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
