"""The environments of the peers: made by uv or npm from ``peers.txt``, and again when a line of it changes.

Rules: an interpreter is never downloaded; what cannot be installed is said in the table and is no
reason to fail. What begins with ``npm:`` runs on Node, and then everything in its environment does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["Unavailable", "command", "interpreter", "variables"]

HERE = Path(__file__).resolve().parent
OURS = "ours"
"""The environment that runs the benchmarks."""
NPM = "npm:"


class Unavailable(Exception):
    """A contestant cannot take part; the text says why."""


def interpreter(name: str) -> str:
    """Return the interpreter of an environment, which is made if need be.

    Raises:
        Unavailable: it cannot be made.
    """
    if name == OURS:
        return sys.executable
    wanted, place = _pinned()[name], _place(name)
    made_of = place / "made-of.txt"
    if not (made_of.is_file() and made_of.read_text() == " ".join(wanted)):
        print(f"making the environment {name}: {' '.join(wanted)}", flush=True)
        _make_for_node(name, place, wanted) if _on_node(name) else _make(name, place, wanted)
        made_of.write_text(" ".join(wanted))
    return _program("node") if _on_node(name) else str(place / "bin" / "python")


def command(environment: str, program: str) -> list[str]:
    """Return what runs a program of ``actors/`` in an environment.

    Raises:
        Unavailable: the environment cannot be made.
    """
    run = interpreter(environment)
    if _on_node(environment):
        return [run, str(HERE / "actors" / f"{program}.cjs")]
    return [run, "-m", f"benchmarks.actors.{program}"]


def variables(environment: str) -> dict[str, str]:
    """Return the environment variables that programs in an environment need."""
    return {"NODE_PATH": str(_place(environment) / "node_modules")} if _on_node(environment) else {}


def _place(name: str) -> Path:
    return HERE / ".venvs" / name


def _on_node(name: str) -> bool:
    return name != OURS and any(one.startswith(NPM) for one in _pinned()[name])


def _program(name: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    found = shutil.which(name, path=path)
    if found is None:
        raise Unavailable(f"{name} is not installed")
    return found


def _pinned() -> dict[str, list[str]]:
    lines = (HERE / "peers.txt").read_text().splitlines()
    entries = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    return {name: wanted for name, *wanted in entries}


def _make(name: str, place: Path, wanted: list[str]) -> None:
    uv = _program("uv")
    _carry_out(
        name,
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)],
        [uv, "pip", "install", "--quiet", "--python", str(place / "bin" / "python"), *wanted],
    )


def _make_for_node(name: str, place: Path, wanted: list[str]) -> None:
    place.mkdir(parents=True, exist_ok=True)
    packages = [one.removeprefix(NPM) for one in wanted]
    install = ["install", "--silent", "--no-audit", "--no-fund", "--no-save", "--prefix", str(place)]
    _carry_out(name, [_program("npm"), *install, *packages])


def _carry_out(name: str, *commands: list[str]) -> None:
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    for one in commands:
        done = subprocess.run(one, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"{name} cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
