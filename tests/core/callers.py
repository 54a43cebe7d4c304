"""Apps that ask, apps that answer, an interrupt at the right moment, a server made of fixed replies."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from redis_toolkit import App
from tests.core.accepting import Accepting
from tests.kit.servers import Server
from tests.kit.waiting import eventually

LATE = 5.0  # seconds over a deadline that a busy machine may need


def echo(data: Any) -> Any:
    """The simplest handler."""
    return data


@contextmanager
def serving(url: str, **handlers: Callable[..., Any]) -> Iterator[App]:
    """Serve requests in threads of this process."""
    app = App(url, block=0.2, reconnect_cap=0.2, grace=5)
    for channel, handler in handlers.items():
        app.on(channel)(handler)
    with app:
        yield app


@contextmanager
def calling(url: str, **options: Any) -> Iterator[App]:
    app = App(url, **options)
    try:
        yield app
    finally:
        app.stop()


def listens(server: Server, channel: str) -> None:
    """Make a request to `channel` be taken, and never answered."""
    server.execute("ZADD", f"rt:c:{{{channel}}}:servers", 9e12, "somebody")


class Interrupted(BaseException):
    """As a KeyboardInterrupt, which would end the test run if it came at the wrong time."""


@contextmanager
def interrupting(when: Callable[[], Any]) -> Iterator[None]:
    """Interrupt the main thread, as Ctrl-C does, once `when` is true."""

    def interrupt(number: int, frame: Any) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    main = threading.main_thread().ident
    assert main is not None

    def watch() -> None:
        eventually(when)
        signal.pthread_kill(main, signal.SIGUSR1)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        thread.join(60)
        signal.signal(signal.SIGUSR1, before)


class Scripted(Accepting):
    """Answers each command of any client with the next of some replies, then with the last for ever.

    The PING with which a process makes sure that it has reached a server is none of them.
    """

    def __init__(self, *replies: bytes, scheme: str = "redis") -> None:
        self.replies = list(replies)
        self.seen: list[bytes] = []
        self._greeted = False
        super().__init__(scheme)

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as lines:
            try:
                while head := lines.readline():
                    words = []
                    for _ in range(int(head[1:])):
                        words.append(lines.read(int(lines.readline()[1:]) + 2)[:-2])
                    client.sendall(self._reply(words))
            except OSError:
                return

    def _reply(self, words: list[bytes]) -> bytes:
        if words[0] in (b"CLIENT", b"SELECT"):
            return b"+OK\r\n"
        if words[0] == b"PING" and not self._greeted:
            self._greeted = True
            return b"+PONG\r\n"
        self.seen.append(words[0])
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
