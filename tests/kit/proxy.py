"""A small TCP proxy between clients and a server, with faults that can be switched at any moment.

::

    with Proxy(HOST, server.port) as proxy:
        app = App(proxy.url)
        proxy.drop_reply(b"XADD")        # executed, and the caller never learns it

Rules: every method may be called from any thread, before the start too, and has taken effect when it
returns. Clients that the kernel has accepted by then count as connected. What applies to connections
that are open and what to later ones is said at each fault. Without a fault, FIN and RST of one side
are passed on to the other; a server that is down looks like a connection that is reset as it opens.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from .ports import HOST, free_port, listen
from .proxy_connection import Connection, Cut, CutAfter, Direction, DropReply, Faults

__all__ = ["Cut", "Direction", "DropReply", "Proxy"]

T = TypeVar("T")

DEADLINE = 30.0
BIND_ATTEMPTS = 50


class Proxy:
    """Listens on a port of its own and carries each connection to `upstream_host`:`upstream_port`."""

    def __init__(self, upstream_host: str, upstream_port: int) -> None:
        self.upstream = (upstream_host, upstream_port)
        self.port = free_port()
        self.accepted = 0
        self._faults = Faults()
        self._listener: socket.socket | None = None
        self._connections: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: list[BaseException] = []
        self._port_is_ours = False

    # Living ------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen; after a `stop`, on the same port."""
        if self._loop is not None:
            raise RuntimeError(f"the proxy on port {self.port} runs already")
        self._listener = self._bind()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._note)
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()
        self._call(self._watch_listener)
        return self

    def stop(self) -> None:
        """Close all (FIN) and end the thread; raises what went wrong inside. May be called twice."""
        if self._loop is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result(DEADLINE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._loop.close()
        self._loop = self._thread = None
        if self._errors:
            raise RuntimeError(f"{len(self._errors)} errors inside the proxy") from self._errors[0]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Looking -----------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @property
    def connections(self) -> int:
        """How many clients are connected now."""
        return self._call(lambda: sum(connection.client_is_there for connection in self._connections))

    # Faults ------------------------------------------------------------------------------------

    def fin(self) -> None:
        """Close all open connections orderly, on both sides; later ones are not affected."""
        self._call(lambda: self._close_all("fin"))

    def rst(self) -> None:
        """Reset all open connections, on both sides; later ones are not affected."""
        self._call(lambda: self._close_all("rst"))

    def refuse(self) -> None:
        """Stop listening: new connections are refused; open ones go on."""
        self._call(self._close_listener)

    def accept(self) -> None:
        """Listen again, after `refuse`."""
        self._call(self._open_listener)

    def blackhole(self, direction: Literal["up", "down", "both"] = "both") -> None:
        """Let nothing through any more in a direction: no byte, and no FIN or RST either.

        Open connections are dead in that direction from now on, also after `heal`, as bytes are
        missing in them. New ones are accepted by the kernel, never reach the server, and stay dead too.
        A second call adds its direction to the first.
        """
        directions: set[Direction] = {"up", "down"} if direction == "both" else {direction}

        def switch() -> None:
            self._faults.dark |= directions
            for connection in self._connections:
                connection.darken(directions)

        self._call(switch)

    def heal(self) -> None:
        """End the blackhole for new connections; those it has hit stay dead until a side closes.

        Where one side has closed in the dark, the other is reset now.
        """

        def switch() -> None:
            self._faults.dark.clear()
            for connection in list(self._connections):
                connection.lighten()

        self._call(switch)

    def delay(self, seconds: float, jitter: float = 0.0, seed: int = 0) -> None:
        """Hold back each chunk, each way, `seconds` plus or minus up to `jitter`; order is kept.

        For open and new connections; 0 ends it. `seed` fixes the jitter per connection.
        """

        def switch() -> None:
            self._faults.delay, self._faults.jitter, self._faults.seed = seconds, jitter, seed

        self._call(switch)

    def slice(self, n: int) -> None:
        """Forward at most `n` bytes per write, each way; for open and new connections; 0 ends it."""

        def switch() -> None:
            self._faults.slice_size = n

        self._call(switch)

    def cut_after(self, n: int, direction: Direction = "down", how: Cut = "fin", once: bool = True) -> None:
        """Cut a connection once `n` more bytes went in `direction`; with 0, when the next byte comes.

        Connections open now count from now, later ones from their start, each for itself. With
        `once`, the first one that gets there is cut and the fault is over; else all are. A second
        call for the same direction replaces the first.
        """

        def switch() -> None:
            self._faults.cuts[direction] = CutAfter(n, how, once)

        self._call(switch)

    def drop_reply(self, match: bytes, once: bool = True, how: Cut = "fin") -> DropReply:
        """Let the server execute the next request that contains `match`, and cut instead of replying.

        For open and new connections. Replies to requests before it on the connection are still passed
        on. Returns the fault; its `hits` grows when a reply has been dropped. `match` is compared with
        the raw bytes of a request. In a transaction each queued command has a reply of its own: match
        ``EXEC``. Not for connections that subscribe with RESP2, where replies cannot be counted.
        """
        if not match:
            raise ValueError("match is empty: it would hit any request")
        drop = DropReply(match, how, once)
        self._call(lambda: self._faults.drops.append(drop))
        return drop

    def clear(self) -> None:
        """End every fault: as `heal` and `accept`, and no delay, slices, cuts and dropped replies."""
        self.heal()
        self.delay(0)
        self.slice(0)
        self._call(self._faults.cuts.clear)
        self._call(self._faults.drops.clear)
        if self._loop is not None:
            self.accept()

    # Inside; all but _bind and _call run on the loop ---------------------------------------------

    def _bind(self) -> socket.socket:
        for _ in range(BIND_ATTEMPTS):
            try:
                listener = listen(self.port)
            except OSError:
                if self._port_is_ours:
                    raise
                self.port = free_port()
            else:
                self._port_is_ours = True
                return listener
        raise RuntimeError("no port to listen on")

    def _call(self, action: Callable[[], T]) -> T:
        """Run `action` on the loop and return its result; without a loop, here."""
        if self._loop is None:
            return action()
        done: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                self._accept_waiting()
                done.set_result(action())
            except BaseException as error:
                done.set_exception(error)  # raised where the result is awaited

        self._loop.call_soon_threadsafe(run)
        return done.result(DEADLINE)

    def _watch_listener(self) -> None:
        assert self._loop is not None
        assert self._listener is not None
        self._loop.add_reader(self._listener, self._accept_waiting)

    def _accept_waiting(self) -> None:
        while self._listener is not None:
            try:
                client, _address = self._listener.accept()
            except BlockingIOError:
                return
            client.setblocking(False)
            self.accepted += 1
            connection = Connection(
                self.accepted, client, self._faults, self._spawn, self._connections.discard
            )
            self._connections.add(connection)
            if self._faults.dark:
                connection.open_nowhere()
            else:
                connection.open(self.upstream)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        assert self._loop is not None
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._errors.append(error)

    def _note(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._errors.append(context.get("exception") or RuntimeError(context["message"]))

    def _close_all(self, how: Cut) -> None:
        for connection in list(self._connections):
            connection.close(how)

    def _close_listener(self) -> None:
        if self._listener is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _open_listener(self) -> None:
        if self._loop is None:
            raise RuntimeError("the proxy has not been started")
        if self._listener is None:
            self._listener = self._bind()
            self._watch_listener()

    async def _shut_down(self) -> None:
        self._close_listener()
        self._close_all("fin")
        if self._tasks:
            await asyncio.wait(self._tasks)  # they have been cancelled: let them see it
