"""The environments of the peers: made by uv from ``peers.txt``, and again when a line of it changes.

Rules: an interpreter is never downloaded; what cannot be installed is said in the table and is no
reason to fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["Unavailable", "interpreter"]

HERE = Path(__file__).resolve().parent
OURS = "ours"
"""The environment that runs the benchmarks."""


class Unavailable(Exception):
    """A contestant cannot take part; the text says why."""


def interpreter(name: str) -> str:
    """Return the interpreter of an environment, which is made if need be.

    Raises:
        Unavailable: it cannot be made.
    """
    if name == OURS:
        return sys.executable
    wanted = _pinned()[name]
    place = HERE / ".venvs" / name
    python, made_of = place / "bin" / "python", place / "made-of.txt"
    if not (made_of.is_file() and made_of.read_text() == " ".join(wanted)):
        _make(name, place, python, wanted)
        made_of.write_text(" ".join(wanted))
    return str(python)


def _pinned() -> dict[str, list[str]]:
    lines = (HERE / "peers.txt").read_text().splitlines()
    entries = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    return {name: wanted for name, *wanted in entries}


def _make(name: str, place: Path, python: Path, wanted: list[str]) -> None:
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if uv is None:
        raise Unavailable("uv is not installed")
    print(f"making the environment {name}: {' '.join(wanted)}", flush=True)
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)],
        [uv, "pip", "install", "--quiet", "--python", str(python), *wanted],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"{name} cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
