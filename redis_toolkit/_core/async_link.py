"""One connection on an event loop: commands out in coalesced writes, replies in to whom they belong.

Rules:

- It is connected by the same code as every other connection (`opening.py`); its socket then moves to the
  loop. TLS and logins are handled in one place.
- What is sent in one turn of the loop leaves in one write, or in several when it is much: the server works
  on the first part while the rest is still being made.
- Each command has one receiver, which is called with its reply, with an error reply, or with `Failed`
  when the connection is lost. Receivers run inside the read and must not block or raise.
- A lost connection says "outcome unknown" of what was handed to the transport, and "not executed" of what
  was not: that may be sent again.
- No task and no future per message: callers make a future where they need one.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import hiredis

from redis_toolkit._core import loops
from redis_toolkit._core.connection import NOTHING, Connections, new_reader
from redis_toolkit._core.flow import Command
from redis_toolkit._core.opening import open_link
from redis_toolkit._core.recovery import Failed, Fate, sort
from redis_toolkit._core.tls_transport import TlsTransport

__all__ = ["AsyncLink", "Receiver"]

Receiver = Callable[[Any], None]
SILENCE = 3.0
"""Seconds without a byte, while replies are owed, after which a connection may count as dead. The short
timeout of one caller must not cut off the others."""
WRITE_BYTES = 16 * 1024
"""Bytes that are written without waiting for the end of the turn."""
_pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]


class AsyncLink(asyncio.Protocol):
    """One connection of one event loop.

    Args:
        where: the server, for messages.
        loop: the loop it lives on.
    """

    def __init__(self, where: str, loop: asyncio.AbstractEventLoop) -> None:
        self.where = where
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._reader = new_reader()
        self._receivers: deque[Receiver] = deque()
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._unsent = 0
        self._flushing = False
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._gone = asyncio.Event()
        self._owing_since = 0.0
        self._left = 0
        self._suspected = False
        self.paused = False
        self.lost: Failed | None = None

    @classmethod
    async def open(cls, connections: Connections, deadline: float) -> AsyncLink:
        """Connect and log in by a deadline (monotonic seconds).

        Raises:
            Failed: not reached, or not let in.
        """
        loop = asyncio.get_running_loop()
        link = await open_link(connections, deadline)
        sock = link.detach()
        protocol = cls(link.where, loop)
        try:
            if isinstance(sock, ssl.SSLSocket):
                TlsTransport(loop, sock, protocol)
            else:
                await loop.create_connection(lambda: protocol, sock=sock)
        except BaseException:
            sock.close()
            raise
        return protocol

    def send(self, commands: Sequence[Command | bytes], receivers: Sequence[Receiver]) -> None:
        """Send commands with what else is sent in this turn of the loop.

        Args:
            commands: what to send; some may be given as the bytes of several.
            receivers: one for each reply, in order.
        """
        if self.lost is not None:
            failure = self._not_sent()
            for receiver in receivers:
                receiver(failure)
            return
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._end_turn)
        for command in commands:
            packet = command if isinstance(command, bytes) else _pack(command)
            self._out.append(packet)
            self._out_bytes += len(packet)
        self._receivers.extend(receivers)
        self._unsent += len(receivers)
        if self._out_bytes >= WRITE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand what was sent to the transport now; while the peer takes nothing it is kept here."""
        if not self._out or self.paused or self.lost is not None:
            return
        transport = self._transport
        assert transport is not None
        if transport.is_closing():  # it would drop it without a word
            return
        owing = len(self._receivers) > self._unsent
        packet = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        pending = transport.get_write_buffer_size()
        transport.write(packet)
        if transport.is_closing() and not pending and len(packet) <= WRITE_BYTES:
            return  # the socket refused it as a whole
        self._out.clear()
        self._out_bytes = self._unsent = 0
        if not owing:
            self._owing_since = self._loop.time()

    def owed(self) -> Sequence[Receiver]:
        """Return the receivers of replies that are still to come."""
        return tuple(self._receivers)

    def recall(self) -> list[Receiver]:
        """Take back what was not handed to the transport yet; return its receivers, to be told."""
        unsent = [self._receivers.pop() for _ in range(self._unsent)]
        self._out.clear()
        self._out_bytes = self._unsent = 0
        return unsent[::-1]

    async def writable(self, deadline: float) -> None:
        """Wait while the peer takes nothing more, which `paused` says.

        Raises:
            Failed: until the deadline (monotonic seconds); nothing was sent.
        """
        try:
            async with asyncio.timeout_at(self._loop.time() + deadline - time.monotonic()):
                await self._may_write.wait()
        except TimeoutError as error:
            self.suspect()
            raise sort(error, sent=False, where=self.where) from error

    def suspect(self, patience: float = SILENCE) -> None:
        """Close it if it owes replies, and has neither sent nor taken anything for long (seconds).

        Not before the loop has read what lies in the socket: it may be the loop that stood still.
        """
        if not self._suspected and self._silence() >= patience:
            self._suspected = True
            loops.after_reading(self._loop, partial(self._convict, patience))

    def _convict(self, patience: float) -> None:
        self._suspected = False
        silent = self._silence()
        if silent >= patience:
            self.close(sort(TimeoutError(f"silent for {silent:.1f} s"), sent=True, where=self.where))

    def _silence(self) -> float:
        """Return for how long (seconds) it has owed replies without sending or taking anything."""
        if self.lost is not None or self._transport is None or len(self._receivers) <= self._unsent:
            return 0.0
        now, left = self._loop.time(), self._transport.get_write_buffer_size()
        if left < self._left:
            self._owing_since = now  # it is still taking what it was sent
        self._left = left
        return now - self._owing_since

    def close(self, failure: Failed | None = None) -> None:
        """Close it; whoever waits for a reply gets the failure, or hears that nothing was sent."""
        if self.lost is not None:
            return
        self.lost = failure or sort(ConnectionError("closed"), sent=True, where=self.where)
        if self._transport is not None:
            self._transport.abort()
        self._may_write.set()
        failure = self._not_sent()
        for receiver in self.recall():
            receiver(failure)
        receivers, self._receivers = self._receivers, deque()
        for receiver in receivers:
            receiver(self.lost)

    def _not_sent(self) -> Failed:
        if self.lost is not None and self.lost.fate is not Fate.UNKNOWN:
            return self.lost  # why nothing was sent, by its name
        reason = ConnectionError(f"its connection had been lost: {self.lost}")
        return sort(reason, sent=False, where=self.where)

    async def aclose(self) -> None:
        """Close it, and wait until the loop has let go of its socket."""
        self.close()
        await self._gone.wait()

    # -- called by the loop -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not derive from it

    def data_received(self, data: bytes) -> None:
        reader, receivers = self._reader, self._receivers
        self._owing_since = self._loop.time()
        try:
            reader.feed(data)
            reply = reader.gets()
            while reply is not NOTHING:
                if isinstance(reply, Exception) and not receivers:  # we are not let in, and hear why
                    self.close(sort(reply, sent=True, where=self.where))
                    return
                receivers.popleft()(reply)
                if self.lost is not None:
                    return  # by that receiver: the others have heard of it
                reply = reader.gets()
        except (hiredis.ProtocolError, IndexError) as error:
            self.close(sort(error, sent=True, where=self.where))

    def eof_received(self) -> None:
        self.connection_ended(None)

    def connection_lost(self, error: Exception | None) -> None:
        self.connection_ended(error)
        self._gone.set()

    def connection_ended(self, error: Exception | None) -> None:
        """Close it, as the peer did; said before the transport does, so that nobody sends meanwhile."""
        reason = error or ConnectionError("connection closed by the server")
        self.close(sort(reason, sent=True, where=self.where))

    def pause_writing(self) -> None:
        self.paused = True
        self._may_write.clear()

    def resume_writing(self) -> None:
        self.paused = False
        self._may_write.set()
        self.flush()

    def _end_turn(self) -> None:
        self._flushing = False
        self.flush()
