"""A TLS connection that was opened elsewhere, as a transport of an event loop.

asyncio's own TLS begins with a handshake of its own, and what redis-py has opened has that behind it.

Rules: a TLS socket may hold data that the selector does not know of, so it is read until it is empty. A
write that the socket does not take is kept and tried again, also after a read: TLS may want to read
before it writes. The loop must be able to watch sockets (all but Windows' proactor loop are).
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

__all__ = ["TlsTransport"]

READ_BYTES = 64 * 1024
READS = 16
"""How often it is read in one turn of the loop, as long as nothing is left in the TLS layer."""
HIGH, LOW = 64 * 1024, 16 * 1024
"""Bytes kept for the socket at which the protocol is told to pause, and to resume."""
_WAITS = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError, InterruptedError)


class TlsTransport(asyncio.Transport):
    """Carries an open TLS socket; the protocol is told at once that the connection is made.

    Args:
        loop: the loop that watches the socket.
        sock: connected, non-blocking, the handshake done. It belongs to the transport now.
        protocol: who is told.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: ssl.SSLSocket, protocol: Any) -> None:
        super().__init__({"socket": sock})
        self._loop = loop
        self._sock = sock
        self._protocol = protocol
        self._number = sock.fileno()
        self._buffer = bytearray()
        self._closing = self._paused = False
        protocol.connection_made(self)
        loop.add_reader(self._number, self._readable)
        loop.call_soon(self._readable)  # what the TLS layer holds already

    def write(self, data: Any) -> None:
        """Send bytes, now or when the socket takes them."""
        if self._closing or not data:
            return
        waiting = bool(self._buffer)
        self._buffer += data
        if not waiting:
            self._send()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the socket has not taken yet."""
        return len(self._buffer)

    def is_closing(self) -> bool:
        """Return whether nothing is sent any more."""
        return self._closing

    def close(self) -> None:
        """Close it, as `abort`: nobody who closes a connection here waits for what is unsent."""
        self._end(None)

    def abort(self) -> None:
        """Close it at once; the protocol hears of it in the next turn of the loop."""
        self._end(None)

    def _readable(self) -> None:
        reads = 0
        while not self._closing and (reads < READS or self._sock.pending()):
            reads += 1
            try:
                data = self._sock.recv(READ_BYTES)
            except _WAITS:
                break
            except OSError as error:
                self._end(error)
                return
            if not data:
                self._protocol.eof_received()
                self._end(None)
                return
            self._protocol.data_received(data)
        if self._buffer and not self._closing:
            self._send()

    def _send(self) -> None:
        """Give the socket what it takes; the rest when it is writable."""
        try:
            while self._buffer:
                with memoryview(self._buffer) as view:
                    count = self._sock.send(view[:READ_BYTES])
                del self._buffer[:count]
        except _WAITS:
            self._loop.add_writer(self._number, self._send)
        except OSError as error:
            self._end(error)
            return
        else:
            self._loop.remove_writer(self._number)
        self._tell_pressure()

    def _tell_pressure(self) -> None:
        if not self._paused and len(self._buffer) > HIGH:
            self._paused = True
            self._protocol.pause_writing()
        elif self._paused and len(self._buffer) <= LOW:
            self._paused = False
            self._protocol.resume_writing()

    def _end(self, error: Exception | None) -> None:
        if self._closing:
            return
        self._closing = True
        self._buffer.clear()
        self._loop.remove_reader(self._number)
        self._loop.remove_writer(self._number)
        self._sock.close()
        self._loop.call_soon(self._protocol.connection_lost, error)
