"""Notebooks, prompts and programs from standard input: a loop that runs, and no script to run again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from redis_toolkit import App, ConfigurationError
from redis_toolkit._core import loops
from tests.hazards.conftest import Start
from tests.kit.servers import Server
from tests.kit.waiting import eventually

DEADLINE = 60.0


class Notebook:
    """Cells that share one module without a file, run while a loop runs in the main thread."""

    def __init__(self, url: str) -> None:
        self.module = ModuleType("__main__")
        self.module.__dict__.update(url=url)
        self._cells = 0

    def __getitem__(self, name: str) -> Any:
        return getattr(self.module, name)

    def run(self, source: str) -> None:
        """Run a cell."""
        self._cells += 1
        exec(compile(source, f"<cell {self._cells}>", "exec"), self.module.__dict__)  # noqa: S102


@pytest.fixture
def notebook(bus: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    monkeypatch.setattr(loops, "_warned", False)
    notebook = Notebook(bus.url)
    yield notebook
    if "app" in notebook.module.__dict__:
        notebook["app"].stop()


START = "from redis_toolkit import App\napp = App(url, block=0.2)"
HANDLER = """
heard = globals().setdefault("heard", [])

@app.on("news")
def hear(data):
    heard.append((VERSION, data))
    return VERSION
"""


def test_blocking_calls_work_and_warn_once(notebook: Notebook) -> None:
    async def main() -> list[str]:
        notebook.run(START)
        notebook.run("""@app.on("double", "a-double")\ndef double(number): return 2 * number""")
        notebook.run("""@app.on("adouble")\nasync def adouble(number): return 2 * number""")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            notebook.run("app.start()")
            notebook.run(
                "answers = [app.request('double', 1, timeout=60), app.request('adouble', 2, timeout=60)]"
            )
            notebook.run("app.publish('double', 1), app.health_check()")
            notebook.run("app.stop()")
        return [f"{one.filename}: {one.message}" for one in said]

    assert asyncio.run(main()) == [
        "<cell 4>: start() blocks the running event loop while it waits: await astart() instead"
    ]
    assert notebook["answers"] == [2, 4]


def test_cells_may_await_instead(notebook: Notebook) -> None:
    async def main() -> None:
        notebook.run(START)
        notebook.run("""@app.on("double")\nasync def double(number): return 2 * number""")
        app: App = notebook["app"]
        for _ in range(2):
            await app.astart()
            assert await app.arequest("double", 1, timeout=DEADLINE) == 2
            await app.astop()

    asyncio.run(main())


def test_a_cell_that_is_run_again_replaces_its_handler(notebook: Notebook) -> None:
    notebook.run(START)
    notebook.run(HANDLER.replace("VERSION", "1"))
    notebook.run("app.start()")
    app: App = notebook["app"]
    assert app.request("news", "a", timeout=DEADLINE) == 1
    with pytest.raises(ConfigurationError, match=r"stop\(\) it, run this cell again"):
        notebook.run(HANDLER.replace("VERSION", "2"))
    notebook.run("app.stop()")
    notebook.run(HANDLER.replace("VERSION", "2"))
    notebook.run("app.start(); heard.clear()")
    assert app.request("news", "a", timeout=DEADLINE) == 2
    app.publish("news", "b")
    eventually(lambda: (2, "b") in notebook["heard"], what="the message")
    assert notebook["heard"] == [(2, "a"), (2, "b")]


def test_only_a_function_of_the_same_name_and_channels_is_replaced(notebook: Notebook) -> None:
    notebook.run(START)
    cell = """
@app.on("a", events=False)
@app.on("a", requests=False)
def f(data): pass

@app.on("b")
def g(data): pass

app.on("b")(lambda data: None)
app.on("b")(len)
for n in range(2):
    def make():
        @app.on("c")
        def f(data): pass
    make()
"""
    notebook.run(cell)
    handlers = notebook["app"]._router.handlers
    assert len(handlers) == 7
    notebook.run(cell)
    assert len(handlers) == 3 + 2 * 4
    notebook.run("@app.on('d')\ndef f(data): pass")
    assert len(handlers) == 3 + 2 * 4 + 1


def test_a_script_may_use_a_name_again() -> None:
    app = App("redis://127.0.0.1:1")
    for _ in range(2):

        @app.on("a")
        def _(data: Any) -> None:
            pass

    assert len(app._router.handlers) == 2


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_serving_in_a_thread_ends_with_stop(bus: Server, kind: str) -> None:
    app = App(bus.url, block=0.2)

    def answer(number: int) -> int:
        return number

    async def answer_async(number: int) -> int:
        return number

    app.on("same")(answer if kind == "def" else answer_async)
    thread = threading.Thread(target=app.run, kwargs={"workers": 0})
    thread.start()
    eventually(lambda: app.publish("same", 0) == 1, what="a subscription")
    assert app.request("same", 1, timeout=DEADLINE) == 1
    app.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    app.stop()


def test_serving_in_a_thread_with_workers_ends_with_stop(start: Start) -> None:
    program = start(
        """
import os, sys, threading
from redis_toolkit import App

app = App(sys.argv[1], block=0.2)

@app.on("pid")
def pid():
    return os.getpid()

def serve():
    app.run(workers=2)

thread = threading.Thread(target=serve)
thread.start()
while len(app.worker_pids) < 2 or app.publish("pid", 0) == 0:
    pass
assert app.request("pid", timeout=60) != os.getpid()
app.stop()
thread.join(60)
print("ended", thread.is_alive(), flush=True)
"""
    )
    program.wait_for_line("ended False")
    assert program.wait(60) == 0, program.output


SERVE = """
import os, sys
from redis_toolkit import App
app = App({url!r}, block=0.2)
@app.on("pid")
def pid(): return os.getpid()
"""


@pytest.mark.parametrize("call", ["app.run(workers=2)", "app.start(workers=2)"])
@pytest.mark.parametrize("options", [("-",), (), ("-i",), ("-i", "script.py"), ("-m", "asyncio")])
def test_worker_processes_are_refused_where_there_is_no_script(
    bus: Server, tmp_path: Path, options: tuple[str, ...], call: str
) -> None:
    source = SERVE.format(url=bus.url)
    if "script.py" in options:
        (tmp_path / "script.py").write_text(source)
        source = ""
    typed = f"{source}\n{call}\nprint('goes on', len(app.worker_pids))\n"
    ended = subprocess.run(
        [sys.executable, *options], input=typed, capture_output=True, text=True, cwd=tmp_path, timeout=120,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert "ConfigurationError: worker processes run the script again" in ended.stderr, ended.stderr
    assert "app.start() or app.run(workers=0)" in ended.stderr


def test_a_program_on_the_command_line_has_worker_processes(bus: Server, tmp_path: Path) -> None:
    source = SERVE.format(url=bus.url) + (
        "app.start(workers=2); print(app.request('pid', timeout=60) in app.worker_pids); app.stop()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, cwd=tmp_path, timeout=120,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert ended.stdout == "True\n", ended.stderr
