"""Sockets under links: deadlines for whole packets, and the threshold that is never left set."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from redis_toolkit._core.sockets import PlainSocket
from tests.kit.ports import HOST, listen

Pair = tuple[PlainSocket, socket.socket]
BIG = b"x" * 32_000_000
"""More than the buffers of both sides hold."""


def within(seconds: float) -> float:
    return time.monotonic() + seconds


@pytest.fixture
def pair() -> Iterator[Pair]:
    with listen(0) as listener:
        listener.setblocking(True)
        ours = socket.create_connection((HOST, listener.getsockname()[1]))
        theirs, _ = listener.accept()
    with ours, theirs:
        yield PlainSocket(ours), theirs


LINUX = sys.platform == "linux"


def threshold(sock: PlainSocket) -> int:
    return sock.raw.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)


class TestSending:
    def test_more_than_fits_at_once(self, pair: Pair) -> None:
        ours, theirs = pair
        got: list[int] = []
        taker = threading.Thread(target=lambda: got.extend(iter(lambda: len(theirs.recv(1 << 20)), 0)))
        taker.start()
        ours.send(BIG, within(30))
        ours.raw.shutdown(socket.SHUT_WR)
        taker.join(30)
        assert sum(got) == len(BIG)

    def test_to_one_who_takes_nothing_ends_by_the_deadline(self, pair: Pair) -> None:
        ours, _ = pair
        with pytest.raises(TimeoutError):
            ours.send(BIG, within(0.05))
        assert ours.raw.gettimeout() == 0


class TestReceiving:
    def test_nothing_by_the_deadline(self, pair: Pair) -> None:
        assert pair[0].receive(within(0.01)) is None
        assert pair[0].is_quiet()

    def test_what_is_there_is_found_after_the_deadline(self, pair: Pair) -> None:
        ours, theirs = pair
        theirs.sendall(b"here")
        assert ours.receive(within(30)) == b"here"
        theirs.sendall(b"again")
        while ours.is_quiet():
            time.sleep(0.001)
        assert ours.receive(within(-1)) == b"again"

    def test_the_end(self, pair: Pair) -> None:
        ours, theirs = pair
        theirs.close()
        assert ours.receive(within(30)) == b""
        assert not ours.is_quiet()


class TestTheThreshold:
    """Only Linux keeps the sleeper asleep; elsewhere few bytes are received like many."""

    def test_few_bytes_wake_nobody(self, pair: Pair) -> None:
        ours, theirs = pair
        theirs.sendall(b":1\r\n")
        while ours.is_quiet():
            time.sleep(0.001)
        few = ours.receive_more_than(4, within(0.05))
        assert few == (None if LINUX else b":1\r\n")
        theirs.sendall(b"*")
        assert ours.receive_more_than(4, within(30)) == (b":1\r\n*" if LINUX else b"*")

    def test_it_is_taken_back(self, pair: Pair) -> None:
        ours, theirs = pair
        assert ours.receive_more_than(4, within(0.01)) is None
        assert threshold(ours) == 1
        theirs.sendall(b"12345")
        assert ours.receive_more_than(4, within(30)) == b"12345"
        assert threshold(ours) == 1
        theirs.sendall(b"1")
        assert ours.receive(within(30)) == b"1"

    def test_it_is_taken_back_after_an_interrupt(self, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
        ours, _ = pair

        def interrupted(_sock: PlainSocket, _deadline: float) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(PlainSocket, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ours.receive_more_than(4, within(30))
        assert threshold(ours) == 1

    def test_the_end_wakes(self, pair: Pair) -> None:
        ours, theirs = pair
        theirs.sendall(b"12")
        theirs.close()
        assert ours.receive_more_than(4, within(30)) == b"12"


def test_a_unix_socket_has_no_threshold() -> None:
    one, other = socket.socketpair()
    with one, other:
        ours = PlainSocket(one)
        other.sendall(b"1")
        assert ours.receive_more_than(4, within(30)) == b"1"
