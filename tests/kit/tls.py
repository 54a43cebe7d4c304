"""TLS in front of a server that has none, with certificates made for the test.

Rules: everything listens on loopback and ends with the block; each connection is carried to the server
as it is. A fault of the network goes into a `Proxy` in front of it.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

from .ports import HOST

__all__ = ["Certificates", "TLSFront"]


class Certificates:
    """An authority, a certificate of a server that it signed, and one of a client, as files."""

    def __init__(self, directory: Path, *names: str) -> None:
        self.authority = trustme.CA()
        self.ca = str(directory / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca)
        self.server = self.authority.issue_cert(*(names or (HOST, "localhost")))
        self.client = str(directory / "client.pem")
        self.authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(self.client)


class TLSFront:
    """Listens with a certificate, and carries what comes to the server's plain port."""

    def __init__(self, port: int, certificates: Certificates, *, ask_client: bool = False) -> None:
        self.upstream = port
        self.port = 0
        self.accepted = 0
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificates.server.configure_cert(self._context)
        if ask_client:
            certificates.authority.configure_trust(self._context)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tls-front")
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(30)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def url(self, certificates: Certificates | None = None, more: str = "") -> str:
        trust = f"?ssl_ca_certs={certificates.ca}" if certificates is not None else "?"
        return f"rediss://{HOST}:{self.port}/0{trust}{more}"

    def cut(self) -> None:
        """End every connection."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(30)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._carry, HOST, 0, ssl=self._context)

    async def _close(self) -> None:
        self._server.close()
        await self._cut()

    async def _cut(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        far_writer = None
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self.upstream)
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, far_writer))
                group.create_task(_pump(far_reader, writer))
        except asyncio.CancelledError:
            return  # the end of the front, or a cut
        finally:
            self._tasks.discard(task)
            for end in (writer, far_writer):
                if end is not None:
                    end.transport.abort()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    sink.transport.abort()
