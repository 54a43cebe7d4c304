"""A listener with a thread for each client, as servers made for one test need it."""

from __future__ import annotations

import contextlib
import socket
import threading
from abc import ABC, abstractmethod

from tests.kit.ports import HOST, listen


class Accepting(ABC):
    """Listens from when it is made until `close`; a subclass says in `_serve` what a client gets.

    Args:
        scheme: of its URL.
        query: behind its URL, with the question mark.
    """

    def __init__(self, scheme: str = "redis", query: str = "") -> None:
        self._listener = listen(0)
        self._listener.setblocking(True)
        self.url = f"{scheme}://{HOST}:{self._listener.getsockname()[1]}/0{query}"
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def close(self) -> None:
        """Listen no more, and end all connections and threads."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(30)
        self.cut()
        for thread in self._threads:
            thread.join(30)
        for sock in [self._listener, *self._sockets]:
            sock.close()

    def cut(self) -> None:
        """End all connections."""
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            self._threads.append(threading.Thread(target=self._serve, args=(client,)))
            self._threads[-1].start()

    @abstractmethod
    def _serve(self, client: socket.socket) -> None: ...
