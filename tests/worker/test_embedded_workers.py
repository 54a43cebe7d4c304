"""Worker processes on an embedded server that another process has started, and that ends with it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from redis_toolkit import App
from tests.kit.processes import Process
from tests.kit.waiting import eventually
from tests.worker.programs import PID, Programs

OWNER = """
print("ready", app.publish("x", 1), app.url, flush=True)
while not (here / "gate").exists():
    time.sleep(0.01)
app.stop()
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"embedded://{tmp_path / 'data'}"


@pytest.fixture
def owner(programs: Programs, url: str) -> Process:
    """A client that has started the server, until the gate is opened."""
    program = programs.start(OWNER, url=url)
    program.wait_for_line("ready")
    return program


def answer(client: App) -> int:
    """Return the pid of the worker that answers, 0 while there is none."""
    with contextlib.suppress(ConnectionError, TimeoutError):
        return int(client.request("pid", timeout=5))
    return 0


@pytest.mark.parametrize("end", ["ends", "is killed"])
def test_a_service_revives_the_server_of_a_client_that_is_gone(
    programs: Programs, owner: Process, url: str, end: str
) -> None:
    service = programs.serving(PID, "app.run(workers=2)\n", url=url, settings={"reconnect_cap": 0.2})
    # By its socket: an app that names the directory would start the server itself.
    client = App(owner.wait_for_line("ready").split()[2])
    workers = set(service.children()) - {0}
    assert answer(client) in workers
    if end == "ends":
        programs.open_gate()
        assert owner.wait() == 0
    else:
        owner.kill()
    eventually(lambda: answer(client) in workers, timeout=60, what="an answer of the same workers")
    client.stop()
    service.terminate()
    assert service.wait() == 0
