"""What a supervisor hands to the process that it starts, and the socket between them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from redis_toolkit.worker import assignment as module
from redis_toolkit.worker.assignment import VARIABLE, Assignment, Channel, assignment


@pytest.fixture(autouse=True)
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_taken", [])
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    one, other = map(Channel, socket.socketpair())
    yield one, other
    one.close()
    other.close()


def test_a_program_that_nobody_supervises_has_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    assert assignment() is None
    monkeypatch.setenv(VARIABLE, "{}")  # too late: it is asked once
    assert assignment() is None


def test_a_worker_takes_its_part_out_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = socket.socketpair()
    with mine, theirs:
        os.set_inheritable(theirs.fileno(), True)
        part = Assignment(theirs.fileno(), "me", 2, {"embedded://": "unix:///x"}, ("/a", "/b"))
        for name, value in part.to_environment().items():
            monkeypatch.setenv(name, value)
        found = assignment()
        assert found is not None
        assert (found.fd, found.process, found.ordinal) == (theirs.fileno(), "me", 2)
        assert found.urls == {"embedded://": "unix:///x"}
        assert list(found.path) == ["/a", "/b"]
        assert VARIABLE not in os.environ
        assert not os.get_inheritable(theirs.fileno())
        assert assignment() is found


def test_messages_arrive_whole_and_in_order(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    assert one.send(ready=True)
    assert one.send(failed="two\nlines")
    received: list[dict[str, object]] = []
    while len(received) < 2:
        received += other.receive() or []
    assert received == [{"ready": True}, {"failed": "two\nlines"}]


def test_a_message_in_pieces_is_put_together(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    one.socket.sendall(b'{"listen"')
    assert other.receive() == []
    one.socket.sendall(b': null}\n{"st')
    assert other.receive() == [{"listen": None}]
    one.socket.sendall(b'op": true}\n')
    assert other.receive() == [{"stop": True}]


def test_both_sides_see_that_the_other_has_gone(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    one.close()
    assert other.receive() is None
    while other.send(ready=True):  # the first may still fit into a buffer
        pass
    assert one.receive() is None
