"""Apps on an embedded server: a private one, and one that several processes share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from redis_toolkit import App, RequestTimeout
from redis_toolkit._core import embedded
from tests.e2e.conftest import MakeApp
from tests.kit.processes import History, Process
from tests.kit.waiting import eventually

SERVING = """
    import signal
    import sys
    from redis_toolkit import App
    from tests.kit.processes import History

    app, history, name = App(sys.argv[1], reconnect_cap=0.2), History(sys.argv[2]), sys.argv[3]

    @app.on("add")
    def add(a: int, b: int) -> dict:
        return {"sum": a + b, "by": name}

    @app.on("news")
    def hear(data) -> None:
        history.write("heard", data=data, name=name)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    app.start()
    print("ready", flush=True)
    while True:
        signal.pause()
"""


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"embedded://{tmp_path / 'data'}"


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(autouse=True)
def servers_end() -> Iterator[None]:
    """Stop the servers that a test has started in this process."""
    yield
    for server in list(embedded._servers):
        server.stop()


def serving(processes: ExitStack, tmp_path: Path, url: str, history: History, name: str) -> Process:
    process = Process(directory=tmp_path, source=SERVING, args=[url, str(history.path), name], name=name)
    processes.enter_context(process)
    return process


def test_a_private_server_is_one_for_all_apps_of_the_process_that_name_it(make_app: MakeApp) -> None:
    got: list[Any] = []
    app = make_app("embedded://")
    app.on("news")(got.append)
    app.on("echo")(lambda data: data)
    with app:
        assert app.publish("news", {"id": 1}) == 1
        assert app.request("echo", 2) == 2
        eventually(lambda: got == [{"id": 1}])
        other = make_app(app.url)  # the URL that others can join
        assert other.request("echo", 3) == 3


def test_processes_that_name_a_directory_share_messages(
    tmp_path: Path, url: str, history: History, processes: ExitStack, make_app: MakeApp
) -> None:
    workers = [serving(processes, tmp_path, url, history, name) for name in ("one", "two")]
    for worker in workers:
        worker.wait_for_line("ready")
    app = make_app(url)
    answers = [app.request("add", a=number, b=1, timeout=30) for number in range(100)]
    assert [answer["sum"] for answer in answers] == list(range(1, 101))
    assert {answer["by"] for answer in answers} <= {"one", "two"}
    assert app.publish("news", "x") == 2
    heard = history.wait_for(lambda entries: len(entries) == 2, event="heard")
    assert sorted(entry["name"] for entry in heard) == ["one", "two"]
    for worker in workers:
        worker.terminate()
        assert worker.wait() == 0
    # The first to stop took the server with it, so the other could perhaps not take its registration back.
    with pytest.raises(RequestTimeout):
        app.request("add", a=1, b=1, timeout=0.5)


def test_data_outlives_the_processes(
    tmp_path: Path, url: str, processes: ExitStack, make_app: MakeApp
) -> None:
    source = """
        import sys
        from redis_toolkit import App

        app = App(sys.argv[1])
        app.client.set("kept", "yes")
        print(app.publish("news", 1))
    """
    with Process(directory=tmp_path, source=source, args=[url], name="writer") as writer:
        assert writer.wait() == 0
    assert writer.stdout == "0\n"
    assert make_app(url).client.get("kept") == b"yes"


def test_the_others_go_on_when_the_one_that_started_it_is_killed(
    tmp_path: Path, url: str, history: History, processes: ExitStack, make_app: MakeApp
) -> None:
    first = serving(processes, tmp_path, url, history, "first")
    first.wait_for_line("ready")
    second = serving(processes, tmp_path, url, history, "second")
    second.wait_for_line("ready")
    app = make_app(url, lease=1.0)
    assert app.request("add", a=1, b=1, timeout=30)["sum"] == 2
    first.kill()

    def answered() -> bool:
        try:
            return bool(app.request("add", a=2, b=2, timeout=30)["by"] == "second")
        except (ConnectionError, TimeoutError):
            return False

    eventually(answered)
    eventually(lambda: _published(app) and history.read("heard"))


def _published(app: App) -> int:
    try:
        return app.publish("news", "still here")
    except ConnectionError:
        return 0
