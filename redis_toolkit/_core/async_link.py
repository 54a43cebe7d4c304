"""One connection on an event loop: commands out in coalesced writes, replies in to whom they belong.

Rules:

- It is connected by the same code as every other connection (`Connections.dedicated`, in a thread of
  the loop's executor); its socket then moves to the loop. TLS and logins are handled in one place.
- Everything that is sent in one turn of the loop leaves in one write.
- Each command has one receiver, which is called with its reply, with an error reply, or with `Failed`
  when the connection is lost. Receivers run inside the read and must not block or raise.
- No task and no future per message: callers make a future where they need one.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis

from redis_toolkit._core.connection import NOTHING, Connections, new_reader, packed
from redis_toolkit._core.flow import Command
from redis_toolkit._core.recovery import Failed, sort

__all__ = ["AsyncLink", "Receiver"]

Receiver = Callable[[Any], None]
SILENCE = 3.0
"""Seconds without a byte, while replies are owed, after which a connection may count as dead. The short
timeout of one caller must not cut off the others."""


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
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._gone = asyncio.Event()
        self._owing_since = 0.0
        self.lost: Failed | None = None

    @classmethod
    async def open(cls, connections: Connections, deadline: float) -> AsyncLink:
        """Connect and log in by a deadline (monotonic seconds).

        Raises:
            Failed: not reached, or not let in.
        """
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(None, connections.dedicated, deadline)
        try:
            link = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_late)
            raise
        sock = link.detach()
        try:
            _, protocol = await loop.create_connection(lambda: cls(link.where, loop), sock=sock)
        except BaseException:
            sock.close()
            raise
        return protocol

    def send(self, commands: Sequence[Command | bytes], receivers: Sequence[Receiver]) -> None:
        """Send commands, one receiver for each, with everything else of this turn of the loop."""
        if self.lost is not None:
            for receiver in receivers:
                receiver(self.lost)
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        if not self._receivers:
            self._owing_since = self._loop.time()
        self._out.append(packed(commands))
        self._receivers.extend(receivers)

    async def writable(self, deadline: float) -> None:
        """Wait while the peer takes nothing more: a caller with much to send does so between sends.

        Raises:
            Failed: until the deadline (monotonic seconds), or the connection is lost; nothing was sent.
        """
        if not self._may_write.is_set():
            try:
                async with asyncio.timeout_at(self._loop.time() + deadline - time.monotonic()):
                    await self._may_write.wait()
            except TimeoutError as error:
                self.suspect()
                raise sort(error, sent=False, where=self.where) from error

    def suspect(self) -> None:
        """Close it if it owes replies and has been silent for long: somebody ran out of patience."""
        silent = self._loop.time() - self._owing_since
        if self._receivers and silent >= SILENCE:
            self.close(sort(TimeoutError(f"silent for {silent:.1f} s"), sent=True, where=self.where))

    def close(self, failure: Failed | None = None) -> None:
        """Close it; whoever waits for a reply gets the failure."""
        if self.lost is None:
            error = ConnectionError("closed")
            self.lost = failure or sort(error, sent=True, where=self.where)
            if self._transport is not None:
                self._transport.abort()
            self._may_write.set()
            receivers, self._receivers = self._receivers, deque()
            self._out.clear()
            for receiver in receivers:
                receiver(self.lost)

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
                receivers.popleft()(reply)
                reply = reader.gets()
        except (hiredis.ProtocolError, IndexError) as error:
            self.close(sort(error, sent=True, where=self.where))

    def connection_lost(self, error: Exception | None) -> None:
        reason = error or ConnectionError("connection closed by the server")
        self.close(sort(reason, sent=True, where=self.where))
        self._gone.set()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def _flush(self) -> None:
        if self._out and self._transport is not None and self.lost is None:
            packet = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            self._transport.write(packet)


def _close_late(opening: asyncio.Future[Any]) -> None:
    """Close a connection that was made after its caller had been cancelled."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
