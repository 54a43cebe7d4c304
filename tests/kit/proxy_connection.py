"""One connection through the proxy: a client's socket, a socket to the server, two pumps between.

``up`` is from the client to the server, ``down`` from the server to the client.

Rules: everything here runs on the proxy's loop and is touched by no other thread. A pump reads into
a queue and writes from it, so a delay costs latency and not throughput, and order is kept. Faults are
looked up when bytes are written, so a switch counts from the next write on. What one side does to the
connection (FIN, RST) is passed on to the other, unless that direction is blackholed.
"""

from __future__ import annotations

import asyncio
import fcntl
import random
import socket
import struct
import termios
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from .resp_frames import Frames

Direction = Literal["up", "down"]
Cut = Literal["fin", "rst"]

CHUNK = 65_536
QUEUED_CHUNKS = 256
DELIVERY = 5.0  # seconds in which a kernel on loopback has long acknowledged what fits its buffer
RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, for no seconds: close() sends RST


@dataclass(eq=False)
class CutAfter:
    """Cut a connection once it has carried `left` more bytes; each connection counts for itself."""

    left: int
    how: Cut
    once: bool


@dataclass(eq=False)
class DropReply:
    """Cut a connection instead of passing on the reply to a request that contains `match`."""

    match: bytes
    how: Cut
    once: bool
    hits: int = 0


@dataclass
class Faults:
    """What is switched on; shared by all connections of one proxy."""

    dark: set[Direction] = field(default_factory=set)
    delay: float = 0.0
    jitter: float = 0.0
    seed: int = 0
    slice_size: int = 0
    cuts: dict[Direction, CutAfter] = field(default_factory=dict)
    drops: list[DropReply] = field(default_factory=list)


class Pump:
    """Carries bytes one way, through the faults."""

    def __init__(self, connection: Connection, direction: Direction) -> None:
        self.direction: Direction = direction
        self.dead = False  # blackholed: reads on, and forwards nothing any more
        self.ended = False  # its source has closed
        self.reset = False  # ... by a reset, of which the other pump was told
        self.lost = False  # its sink has closed
        self.carried = 0
        self.frames = Frames()
        self._connection = connection
        self._faults = connection.faults
        self._queue: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue(QUEUED_CHUNKS)
        self._chance = random.Random(f"{self._faults.seed}:{connection.number}:{direction}")
        self._seed = self._faults.seed
        self._cut: CutAfter | None = None
        self._cut_at = 0

    async def read(self, source: socket.socket) -> None:
        """Take in what the source sends; its end is b"" (FIN) or None (RST)."""
        loop = asyncio.get_running_loop()
        while True:
            data: bytes | None
            try:
                data = await loop.sock_recv(source, CHUNK)
            except OSError:
                data = None
            await self._queue.put((self._due(loop.time()), data))
            if not data:
                return

    async def write(self, sink: socket.socket) -> None:
        """Forward what was taken in, when it is due."""
        loop = asyncio.get_running_loop()
        while True:
            due, data = await self._queue.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if self._connection.closed:  # a full queue does not wait, so a cancellation may come late
                return
            if data is None or (not data and self.reset):
                await _delivered(sink)
                self._connection.source_ended(self, "rst")
                return
            if not data:
                self._connection.source_ended(self, "fin")
                return
            if self.dead:
                continue
            try:
                await self._forward(data, sink)
            except OSError as error:
                self._connection.sink_lost(self, error)

    def _switched_on(self) -> CutAfter | None:
        """Return the cut for this direction; it counts from the first write after the switch."""
        cut = self._faults.cuts.get(self.direction)
        if cut is not self._cut:
            self._cut = cut
            self._cut_at = self.carried + (cut.left if cut else 0)
        return cut

    async def _forward(self, data: bytes, sink: socket.socket) -> None:
        data, drop = self._connection.inspect(self, data)
        cut = self._switched_on()
        if cut is not None:
            data = data[: self._cut_at - self.carried]
        size = self._faults.slice_size or len(data)
        for start in range(0, len(data), size or 1):
            part = data[start : start + size]
            await asyncio.get_running_loop().sock_sendall(sink, part)
            self.carried += len(part)
            if self.dead:  # blackholed between two slices
                return
            if size < len(data):
                await asyncio.sleep(0)  # let the other pumps, and so the reader, see the slice alone
        if drop is not None:
            if drop.how == "rst":
                await _delivered(sink)
            drop.hits += 1
            self._connection.close(drop.how)
        elif cut is not None and self.carried >= self._cut_at and cut is self._switched_on():
            if cut.once:
                del self._faults.cuts[self.direction]
            if cut.how == "rst":
                await _delivered(sink)
            self._connection.close(cut.how)

    def _due(self, now: float) -> float:
        faults = self._faults
        if self._seed != faults.seed:
            self._seed = faults.seed
            self._chance = random.Random(f"{self._seed}:{self._connection.number}:{self.direction}")
        wait = faults.delay + (self._chance.uniform(-faults.jitter, faults.jitter) if faults.jitter else 0.0)
        return now + wait  # an earlier one than before waits in the queue: order is kept


class Connection:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(
        self,
        number: int,
        client: socket.socket,
        faults: Faults,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        on_close: Callable[[Connection], None],
    ) -> None:
        self.number = number
        self.faults = faults
        self.up = Pump(self, "up")
        self.down = Pump(self, "down")
        self.closed = False
        self._sockets = [client]
        self._spawn = spawn
        self._on_close = on_close
        self._tasks: list[asyncio.Task[None]] = []
        self._dropping: dict[int, DropReply] = {}  # the number of a reply: why it is not passed on
        self._tail = b""  # of what went up, as a match may begin in one chunk and end in the next
        self._held = False  # one side has gone in the dark and the other does not know

    def open(self, upstream: tuple[str, int]) -> None:
        """Connect to the server and start pumping."""
        self._start(self._connect(upstream))

    def open_nowhere(self) -> None:
        """The network is dark: the kernel has accepted the client, and nobody will ever answer."""
        self.darken({"up", "down"})
        self._start(self._swallow())

    @property
    def client_is_there(self) -> bool:
        return not self.up.ended

    def darken(self, directions: set[Direction]) -> None:
        for pump in (self.up, self.down):
            pump.dead = pump.dead or pump.direction in directions

    def lighten(self) -> None:
        """The network is back: an end that could not be passed on in the dark is passed on now."""
        if self._held:
            self.close("rst")

    def close(self, how: Cut) -> None:
        """End both sides. Pumps stop where they wait; the caller, if it is one, has to return."""
        if self.closed:
            return
        self.closed = self.up.ended = self.down.ended = True
        loop = asyncio.get_running_loop()
        for task in self._tasks:
            task.cancel()
        for sock in self._sockets:
            # Before closing: the loop would look for a descriptor that the next socket gets.
            loop.remove_reader(sock)
            loop.remove_writer(sock)
            _end(sock, how)
        self._on_close(self)

    def source_ended(self, pump: Pump, how: Cut) -> None:
        """The source of `pump` has closed: tell the other side, if the network lets us."""
        pump.ended = True
        other = self.down if pump is self.up else self.up
        if pump.direction in self.faults.dark and not other.ended:
            self._held = True
            return
        if how == "rst" or pump.dead or other.ended or other.lost:
            self.close(how)
        else:
            sink = self._sockets[1] if pump is self.up else self._sockets[0]
            try:
                sink.shutdown(socket.SHUT_WR)
            except OSError:
                self.close("rst")

    def sink_lost(self, pump: Pump, error: OSError) -> None:
        """Writing failed, as the sink is gone. What it sent before is still passed on, then its end.

        The other pump reads from it and comes to that end; but the error is reported only once, so a
        reset that the writer was told of would look like an orderly end to the reader.
        """
        pump.dead = pump.lost = True
        other = self.down if pump is self.up else self.up
        other.reset = other.reset or isinstance(error, ConnectionResetError)
        if other.ended and not self._held:
            self.close("rst")

    def inspect(self, pump: Pump, data: bytes) -> tuple[bytes, DropReply | None]:
        """Count requests and replies; cut off `data` where a reply begins that is to be dropped.

        The fault comes back only when the end of that reply has arrived as well.
        """
        before = pump.frames.completed
        if pump is self.up:
            self._find_requests(pump, data, before)
            return data, None
        # A reply that is dropped and has begun in an earlier chunk starts, for this one, at 0.
        ends = [0, *pump.frames.feed(data)]
        for number, drop in sorted(self._dropping.items()):
            if before < number <= before + len(ends):
                whole = number <= pump.frames.completed
                return data[: ends[number - before - 1]], drop if whole else None
        return data, None

    # Inside ------------------------------------------------------------------------------------

    def _find_requests(self, pump: Pump, data: bytes, before: int) -> None:
        ends = pump.frames.feed(data)
        for drop in list(self.faults.drops):
            tail = self._tail[-(len(drop.match) - 1) :] if len(drop.match) > 1 else b""
            found = (tail + data).find(drop.match)
            if found >= 0:
                last_byte = found + len(drop.match) - len(tail) - 1
                number = before + 1 + sum(end <= last_byte for end in ends)
                self._dropping[number] = drop
                if drop.once:
                    self.faults.drops.remove(drop)
        longest = max((len(drop.match) for drop in self.faults.drops), default=0)
        self._tail = (self._tail + data)[-longest:] if longest else b""

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(self._spawn(work))

    async def _connect(self, upstream: tuple[str, int]) -> None:
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        server.setblocking(False)
        self._sockets.append(server)
        try:
            await asyncio.get_running_loop().sock_connect(server, upstream)
        except OSError:
            self.close("rst")
            return
        client = self._sockets[0]
        for sock in self._sockets:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._start(self.up.read(client))
        self._start(self.up.write(server))
        self._start(self.down.read(server))
        self._start(self.down.write(client))

    async def _swallow(self) -> None:
        with suppress(OSError):
            while await asyncio.get_running_loop().sock_recv(self._sockets[0], CHUNK):
                pass
        self.close("fin")


async def _delivered(sock: socket.socket) -> None:
    """Wait until the other side's kernel has all that was written: a reset discards what is on the way.

    Not for ever, as nothing more is taken from us when the other side does not read.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DELIVERY
    while loop.time() < deadline:
        unacknowledged = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))[0]
        if not unacknowledged:
            return
        await asyncio.sleep(0.001)


def _end(sock: socket.socket, how: Cut) -> None:
    with suppress(OSError), sock:  # the other side may have been faster
        if how == "rst":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            return
        # close() sends RST instead of FIN when something is left unread.
        sock.shutdown(socket.SHUT_WR)
        for _ in range(100):  # not for ever: the other side may go on sending
            if not sock.recv(CHUNK):
                return
