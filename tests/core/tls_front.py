"""TLS in front of a server that has none, with a certificate made for it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.core.accepting import Accepting
from tests.kit.ports import HOST


class TlsFront(Accepting):
    """Listens with TLS and passes bytes on to a port, both ways."""

    def __init__(self, port: int, directory: Path) -> None:
        key, certificate = directory / "key.pem", directory / "certificate.pem"
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
        subprocess.run(
            [*made, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
        )
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._port = port
        super().__init__("rediss", "?ssl_cert_reqs=none")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self, plain: socket.socket) -> None:
        """One thread each way would use one TLS object twice: a relay through memory does not."""
        tls_in, tls_out = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(tls_in, tls_out, server_side=True)
        lock = threading.Lock()
        upstream = socket.create_connection((HOST, self._port))
        self._sockets.append(upstream)

        def write(data: bytes) -> None:
            with lock:
                if data:
                    tls.write(data)
                plain.sendall(tls_out.read())

        def back() -> None:
            with contextlib.suppress(OSError, ssl.SSLError):
                while data := upstream.recv(65536):
                    write(data)

        returning = threading.Thread(target=back)
        returning.start()
        with contextlib.suppress(OSError, ssl.SSLError):
            while data := plain.recv(65536):
                with lock:
                    tls_in.write(data)
                    clear = _decrypted(tls)
                write(b"")
                upstream.sendall(clear)
        for sock in (plain, upstream):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        returning.join(30)


def _decrypted(tls: ssl.SSLObject) -> bytes:
    clear = b""
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
        while data := tls.read(65536):
            clear += data
    return clear
