"""What the tests of the kit share: one server and one proxy per test, and a look for leaks."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit import proc
from tests.kit.proxy import Proxy
from tests.kit.servers import Server


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No thread, file descriptor or child process stays behind a test."""
    gc.collect()  # what an earlier test left over is not this one's
    files, threads, children = _open_files(), set(threading.enumerate()), proc.children(os.getpid())
    yield
    gc.collect()
    assert _open_files() <= files
    assert set(threading.enumerate()) <= threads  # one of an earlier test may have ended meanwhile
    assert set(proc.children(os.getpid())) <= set(children)


@pytest.fixture
def server(nothing_is_left: None, tmp_path: Path) -> Iterator[Server]:
    with Server(directory=tmp_path) as running:
        yield running


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", server.port) as running:
        yield running


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
