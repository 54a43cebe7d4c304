"""Importing redis_toolkit does nothing but import: it may be done anywhere, at any time, by any program."""

from __future__ import annotations

import json
import site
import subprocess
import sys
from pathlib import Path

import pytest

import redis_toolkit

ROOT = Path(redis_toolkit.__file__).parents[1]
PATHS = json.dumps([str(ROOT), *site.getsitepackages()])
PROLOGUE = f"""
import importlib, os, pkgutil, signal, sys, threading
sys.path[:0] = {PATHS}

def import_all():
    import redis_toolkit
    names = [one.name for one in pkgutil.walk_packages(redis_toolkit.__path__, "redis_toolkit.")]
    assert len(names) > 30, names
    for name in names:
        importlib.import_module(name)
"""


def run(source: str, *options: str) -> None:
    command = [sys.executable, *options, "-W", "error", "-c", PROLOGUE + source]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    assert ended.stdout == ""


@pytest.mark.parametrize("options", [(), ("-S",), ("-E",), ("-I",), ("-S", "-E", "-I"), ("-O",), ("-OO",)])
def test_everything_is_imported_in_any_interpreter(options: tuple[str, ...]) -> None:
    run("import_all()", *options)


def test_everything_is_imported_in_a_thread(tmp_path: Path) -> None:
    run(
        """
thread = threading.Thread(target=import_all)
thread.start()
thread.join()
assert "redis_toolkit.worker.supervisor" in sys.modules
"""
    )


def test_an_import_has_no_side_effects() -> None:
    run(
        """
import asyncio, gc, logging, warnings  # what these do is not ours
import redis, hiredis, msgpack, tenacity

events = []
watching = True
def hook(event, arguments):
    if watching and event.split(".")[0] in ("socket", "subprocess") or event in ("os.fork", "os.posix_spawn"):
        events.append((event, arguments))

class Watched(dict):
    def __getitem__(self, name):
        look(name)
        return super().__getitem__(name)

    def pop(self, name, *default):
        look(name)
        return super().pop(name, *default)

    def get(self, name, default=None):
        look(name)
        return super().get(name, default)

def look(name):
    frame = sys._getframe(1)
    while frame is not None:
        if "/redis_toolkit/" in frame.f_code.co_filename:
            events.append(("environment", name))
        frame = frame.f_back if "os.py" in frame.f_code.co_filename or frame.f_code.co_name in (
            "look", "get", "pop", "__getitem__") else None

def state():
    loggers = [logging.getLogger(name) for name in (None, "redis_toolkit", "redis", "asyncio", "tenacity")]
    return dict(
        signals=[signal.getsignal(number) for number in signal.valid_signals()],
        threads=threading.enumerate(),
        logging=[(logger.level, list(logger.handlers), logger.propagate) for logger in loggers],
        filters=list(warnings.filters),
        hooks=(sys.excepthook, threading.excepthook, sys.unraisablehook, sys.getswitchinterval()),
        garbage=(gc.isenabled(), gc.get_threshold()),
        descriptors=sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else [],
        policy=type(asyncio.events._event_loop_policy),
        cwd=os.getcwd(),
        path=list(sys.path),
        environment=dict(os.environ),
    )

sys.addaudithook(hook)
os.environ._data = Watched(os.environ._data)
before = state()
events.clear()
import_all()
seen = list(events)
after = state()
assert seen == [], seen
for name in before:
    assert before[name] == after[name], (name, before[name], after[name])
"""
    )


def test_building_apps_connects_to_nothing_and_starts_nothing() -> None:
    run(
        """
from redis_toolkit import App, RedisToolkit
from redis_toolkit.patterns import RequestResponse

def hook(event, arguments):
    if event.startswith(("socket.", "subprocess.")) or event in ("os.fork", "_thread.start_new_thread"):
        opened.append(event)

opened = []
sys.addaudithook(hook)
threads = threading.enumerate()
for url in ("redis://127.0.0.1:1", "rediss://127.0.0.1:1", "unix:///nowhere", "embedded://"):
    app = App(url)
    app.on("a")(len)
    RedisToolkit(url=url)
    RequestResponse(app=app)
    app.sibling()
assert opened == [], opened
assert threading.enumerate() == threads
"""
    )
