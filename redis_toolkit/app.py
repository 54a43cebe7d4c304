"""The `App`: register handlers, talk on channels, and live as a background service or as workers.

Rules: nothing is connected or started when an app is built; a decorator returns the function it was
given; whatever cannot work is refused when it is registered or before it is sent.
"""

from __future__ import annotations

import asyncio
import atexit
import copy
import logging
import sys
import threading
from collections.abc import Callable
from functools import cached_property
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from redis_toolkit._core import loops
from redis_toolkit._core.connection import Connections, shared_connections
from redis_toolkit.binding import handler_name, is_async, refuse_generator
from redis_toolkit.codecs import Codec, resolve_codec
from redis_toolkit.errors import ConfigurationError
from redis_toolkit.grouping import GroupOptions, durable_groups, refuse_options
from redis_toolkit.groups import Groups
from redis_toolkit.living import Living
from redis_toolkit.message import Gap
from redis_toolkit.routing import Router
from redis_toolkit.settings import Options, Settings, check_whole, default_url, settings_of
from redis_toolkit.wire import Wire
from redis_toolkit.worker.assignment import assignment
from redis_toolkit.worker.counters import Counters

if TYPE_CHECKING:
    from redis_toolkit.worker.service import Service

__all__ = ["App"]

logger = logging.getLogger("redis_toolkit")

F = TypeVar("F", bound=Callable[..., Any])


class App(Groups, Living):
    """An application on one Redis or Valkey server.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, ``valkey://``, ``embedded://`` (a private server
            from the extra ``embedded``) or ``embedded:///directory`` (one that keeps its data). None
            means ``$REDIS_TOOLKIT_URL``, then ``$REDIS_URL``, then ``redis://localhost:6379/0``.
        codec: ``"json"``, ``"orjson"``, ``"msgpack"``, ``"text"`` or an object with ``encode`` and
            ``decode``.
        redis: a redis-py client whose server and login are used instead of a URL.
        password: a password that is not in the URL, or a function that is called for it whenever a
            connection is made, on the thread that makes it: so it may be a new one each time.
        **options: the fields of `Settings`, such as ``grace=30`` or ``send_tracebacks=True``.

    Raises:
        ConfigurationError: the URL, the codec or an option cannot work.

    Example:
        ```python
        app = App("embedded://")

        @app.on("add")
        def add(a: int, b: int) -> int:
            return a + b

        with app:
            print(app.request("add", a=1, b=2))
        ```
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        codec: str | Codec = "json",
        redis: Any = None,
        password: str | Callable[[], str] | None = None,
        **options: Unpack[Options],
    ) -> None:
        given: object = url
        if given is not None and not isinstance(given, str):  # not shown: it may hold a password
            raise ConfigurationError(
                f"App(url) takes text such as redis://localhost:6379/0, not {type(given).__name__}"
            )
        if redis is not None and (url is not None or password is not None):
            raise ConfigurationError("give an app url= and password=, or redis=, not both")
        settings = settings_of(options, others=("url", "codec", "redis", "password"))
        connections = _connections_of(default_url() if url is None else url, redis, password, settings)
        super().__init__(connections, Wire(resolve_codec(codec), settings.max_payload), settings)
        self._router = Router()
        self._gap_callbacks: list[Callable[[Gap], Any]] = []
        self._counters = Counters()
        self._module = str(sys._getframe(1).f_globals.get("__name__", "__main__"))

    # -- registering ------------------------------------------------------------------------------

    def on(
        self,
        *channels: str,
        concurrency: int | None = None,
        every_worker: bool = False,
        events: bool = True,
        requests: bool | None = None,
        codec: str | Codec | None = None,
        group: str | None = None,
        **durable: Unpack[GroupOptions],
    ) -> Callable[[F], F]:
        """Register a handler for channels and globs: live events and requests, or a durable group.

        With ``group=`` the handler gets each event of its channels at least once per group, whichever
        process of whichever program takes it: also events that came while nobody was there.

        Args:
            *channels: exact names (``"orders"``) and globs (``"orders:*"``, as in ``PSUBSCRIBE``). An
                `ExactChannel` is never read as a glob.
            concurrency: threads of its own. None: one for live events, so that they are handled in
                order, and the app's pool for requests.
            every_worker: whether each worker process hears its live events, instead of one of them.
            events: whether it hears live events.
            requests: whether it answers requests. None: on its channels, not on its globs.
            codec: another codec than the app's, for this handler.
            group: the durable group that it handles events for; no live events and no requests then.
            **durable: what such a group may have besides: the fields of `GroupOptions`, such as
                ``retries=5``.

        Returns:
            A decorator that returns the function unchanged.

        Raises:
            ConfigurationError: a channel, an option or the function's signature cannot work, or the
                app is running already.

        Example:
            ```python
            @app.on("orders", "orders:*")
            def take(order: dict, channel: str): ...
            ```
        """
        if channels and callable(channels[0]):
            raise ConfigurationError('on() needs a channel: @app.on("orders")')
        if concurrency is not None:
            check_whole("concurrency", concurrency)
        wire = self._calls.wire_of(codec)
        if group is None:
            refuse_options(durable)
        elif every_worker or not events or requests is not None:
            raise ConfigurationError(
                f"group={group!r}: a durable group hears no live events and answers no requests, so it has "
                "no every_worker=, events= or requests=: register the function once more without group="
            )

        def register(function: F) -> F:
            if self._started and self._service.started:
                raise ConfigurationError(
                    "this app is running: register handlers before start() or run(); in a notebook, "
                    "stop() it, run this cell again, then start() it"
                )
            if group is not None:
                for one in durable_groups(
                    function, channels, group, concurrency, durable, app=self, wire=wire
                ):
                    self._router.add_durable(one)
                return function
            self._router.add(
                function,
                channels,
                app=self,
                wire=wire,
                concurrency=concurrency,
                every_worker=every_worker,
                events=events,
                requests=requests,
            )
            return function

        return register

    def on_gap(self, callback: Callable[[Gap], Any]) -> Callable[[Gap], Any]:
        """Register a function that is called with each `Gap` in live events; usable as a decorator.

        It runs in a thread of its own, in the process where the gap was. An ``async def`` runs on the
        loop of the handlers, or on a loop of its own when there is none. What it raises is logged.

        Args:
            callback: called with the `Gap`.

        Raises:
            ConfigurationError: it is a generator.

        Example:
            ``app.on_gap(lambda gap: print(gap.channels, gap.reason))``
        """
        refuse_generator(callback)
        self._gap_callbacks.append(callback)
        return callback

    # -- living -----------------------------------------------------------------------------------

    def start(self, workers: int = 0) -> None:
        """Serve in the background; returns when every subscription is confirmed.

        Args:
            workers: 0 serves in threads of this process. N starts N supervised worker processes, as
                `run` does; see there for what a worker runs.

        Raises:
            RedisToolkitError: the server cannot be reached or refuses. Nothing is left running.
        """
        self._start(workers, sys._getframe(1))

    def _start(self, workers: int, caller: FrameType) -> None:
        loops.check_blocking("start")
        self._service.start(workers, caller)
        atexit.register(self.stop)

    def stop(self) -> None:
        """Stop what `start` started: no more work is taken, running handlers get ``grace`` seconds.

        In a worker process it asks the supervisor to stop all of them, which ends `run`, and returns at once.
        """
        if self._started and self._service.stop_program():
            return
        atexit.unregister(self.stop)
        if self._started:
            self._service.stop()
        self._connections.close()

    def _start_anywhere(self) -> None:
        """Start, as the small API does: also on a running loop, without a word about it."""
        self._service.start(0, None)
        atexit.register(self.stop)

    def _stop_anywhere(self, then: Callable[[], None] = lambda: None) -> None:
        """Stop, as the small API does: also from a handler on its own loop; ``then`` is called at the end."""
        atexit.unregister(self.stop)
        if self._started:
            self._service.cleanup(then)
        else:
            then()
        self._connections.close()

    async def astart(self, workers: int = 0) -> None:
        """Await what `start` does. ``async def`` handlers run on the running loop."""
        await self._astart(workers, sys._getframe(1))

    async def _astart(self, workers: int, caller: FrameType) -> None:
        if workers:
            await asyncio.to_thread(self._service.start, workers, caller)
        else:
            await self._service.astart()
        atexit.register(self.stop)

    async def astop(self) -> None:
        """Await what `stop` does, and close what this loop has open.

        When it is cancelled, it stops all the same and ends then.
        """
        if self._started and self._service.stop_program():
            return
        atexit.unregister(self.stop)
        try:
            if self._started:
                await self._service.astop()
        finally:
            await loops.to_the_end(self._async_driver.close())
            self._connections.close()

    def run(self, workers: int = 1) -> None:
        """Serve until SIGTERM or SIGINT: N supervised worker processes.

        Each worker is a fresh interpreter that runs this script again, up to this call, which there
        means: serve. (When another program only imported the app's module, it imports that instead.)
        Put what workers must not do after this call, or into another file: in a worker too,
        ``__name__`` is ``"__main__"``. A worker that dies is started again; the others are not disturbed.

        Args:
            workers: how many processes; 0 serves in this one, for a debugger or a notebook.

        Raises:
            RedisToolkitError: the server cannot be reached.
            WorkersFailed: no worker process could be started.
        """
        self._service.run(workers, sys._getframe(1))

    def sibling(self) -> App:
        """Return a new app on the same server, with the same codec and settings, and no handlers."""
        app = copy.copy(self)
        app.__dict__.pop("_service", None)
        app._router = Router()
        app._gap_callbacks = []
        app._counters = Counters()
        return app

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._connections.where!r})"

    # -- about it ---------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The URL that others can join; an embedded server is started to know it.

        A password that stands in the URL, or is that of ``redis=``, is in it; ``repr(app)`` shows none.
        """
        return self._connections.real_url()

    @property
    def client(self) -> Any:
        """A redis-py client on this server, for whatever redis_toolkit does not do. Replies are bytes."""
        return self._connections.client

    @property
    def worker_pids(self) -> list[int]:
        """The process ids of the worker processes that run now."""
        return self._service.pids if self._started else []

    @property
    def counters(self) -> dict[str, int]:
        """What went another way than the usual one, counted in this process.

        ``gaps``, ``overflowed`` (live messages that a full lane dropped), ``undecodable``, ``mismatched``
        (payloads that did not fit the handler), ``failed`` (handlers that raised), ``expired`` (requests
        and tasks past their deadline, not executed), ``undelivered`` (replies that the server refused).

        Of durable events and tasks besides: ``retried`` (attempts after which there will be another),
        ``dead`` (dead letters), ``rejected`` (by `Reject`), ``poison`` (delivered five times without an end),
        ``unknown`` (tasks of an unknown type, put off for others), ``cancelled``, ``abandoned`` (threads that
        went on after their timeout), ``lost`` (work whose lease ran out while it ran), ``state_lost`` (groups
        that the server had lost), ``orphans`` (put back after somebody had deleted their consumer).
        """
        return self._counters.snapshot()

    @cached_property
    def _service(self) -> Service:
        """The serving part, loaded only by an app that serves."""
        from redis_toolkit.worker.service import Service

        return Service(
            self,
            self._module,
            self._router,
            self._connections,
            self.settings,
            self._report,
            self._counters,
            self._async_driver.close,
        )

    def _confirmed(self) -> bool:
        return not self._started or self._service.confirmed

    @property
    def _started(self) -> bool:
        return "_service" in self.__dict__

    def _serve_as_worker(self) -> None:
        part = assignment()
        if part is not None:
            self._service.serve_as_worker(part)

    def _report(self, gap: Gap) -> None:
        """Call the callbacks, away from the reader that found the gap."""
        if self._gap_callbacks:
            try:
                threading.Thread(target=self._call_back, args=(gap,), name="rt-gap", daemon=True).start()
            except RuntimeError:  # the interpreter is on its way out and gives no threads any more
                self._call_back(gap)

    def _call_back(self, gap: Gap) -> None:
        for callback in list(self._gap_callbacks):
            try:
                if is_async(callback):
                    self._service.await_anywhere(callback, gap)
                else:
                    callback(gap)
            except Exception:
                logger.exception("on_gap callback %s failed", handler_name(callback))


def _connections_of(url: str, redis: Any, password: Any, settings: Settings) -> Connections:
    """Return the connections of an app; a worker process joins the embedded server of its supervisor."""
    part = assignment()  # in any case: what this process starts from now on is no worker
    if redis is not None:
        return Connections(None, client=redis, connect_timeout=settings.connect_timeout)
    if part is not None:
        url = part.urls.get(url, url)
    return shared_connections(url, settings.connect_timeout, password)
