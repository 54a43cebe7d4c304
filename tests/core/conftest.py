"""Embedded servers that end with the test, and programs that use them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from redis_toolkit._core.embedded import EmbeddedServer
from tests.core.embedded_programs import Programs, stopping_servers


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with ExitStack() as stack:
        yield Programs(tmp_path / "programs", stack)


@pytest.fixture
def make() -> Iterator[type[EmbeddedServer]]:
    """The class of embedded servers; what is made of it is stopped."""
    with stopping_servers() as recorded:
        yield recorded


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The directory of an embedded server that keeps its data; not there yet."""
    return tmp_path / "data"
