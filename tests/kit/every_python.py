"""Runs the tests on every named version of Python that this machine really has, and sums up.

Each version gets an environment of its own, ``.venv-3.x``, with the locked dependencies, and a version
with ``+uvloop`` behind it has uvloop too, on which the tests' loops then run as well. A version
counts as there when an interpreter of it runs: uv looks for one without downloading any, and the
versions that pyenv keeps are tried too, as its shims start only those that are switched on.

Usage: ``python tests/kit/every_python.py 3.11 3.11+uvloop 3.12 ...`` in the project's root. The exit
status is 1 if any version fails.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

_UV = str(Path(sys.executable).with_name("uv"))
WITH_UVLOOP = "+uvloop"
_CLOSING_LINE = re.compile(r"=+ (.*\b(?:passed|failed|error|errors|skipped|ran)\b.*) =+")


def main(versions: list[str]) -> int:
    results: dict[str, str] = {}
    failed = False
    for version in versions:
        python = _find(version.removesuffix(WITH_UVLOOP))
        if python is None:
            results[version] = "not on this machine"
            continue
        print(f"Python {version}: {python}", flush=True)
        status, results[version] = _run(version, python)
        failed = failed or status != 0
    print("\n".join(f"Python {version}: {result}" for version, result in results.items()))
    return int(failed or not versions)


def _find(version: str) -> str | None:
    """An interpreter of this version that starts, or None."""
    command = [_UV, "python", "find", "--no-python-downloads", "--system", version]
    found = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [
        found,
        *map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"), reverse=True)),
    ]
    return next((python for python in candidates if python and _is(version, python)), None)


def _is(version: str, python: str) -> bool:
    program = "import ssl, sys; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run([python, "-c", program], capture_output=True, text=True)
    except OSError:
        return False
    return answer.stdout.strip() == version


def _run(version: str, python: str) -> tuple[int, str]:
    """Set the environment up and run the tests: pytest's exit status and its closing line."""
    environment = Path(f".venv-{version}")
    inside = str(environment / "bin" / "python")
    install = [
        _UV,
        "pip",
        "install",
        "-q",
        "--python",
        inside,
        "--no-deps",
        "--no-build-isolation",
        "-e",
        ".",
    ]
    for command in (
        [_UV, "venv", "-q", "--allow-existing", "--python", python, str(environment)],
        [_UV, "pip", "sync", "-q", "--require-hashes", "--python", inside, "requirements.lock"],
        install,
        *([[_UV, "pip", "install", "-q", "--python", inside, "uvloop"]] * version.endswith(WITH_UVLOOP)),
    ):
        status = subprocess.run(command).returncode
        if status != 0:
            return status, "the environment could not be set up; see above"
    return _pytest(inside)


def _pytest(python: str) -> tuple[int, str]:
    closing = "pytest printed no closing line"
    command = [python, "-m", "pytest", "--color=no", "--numprocesses=3", "--dist=worksteal"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pytest:
        assert pytest.stdout is not None
        for line in pytest.stdout:
            print(line, end="", flush=True)
            if match := _CLOSING_LINE.fullmatch(line.strip()):
                closing = match[1]
    return pytest.returncode, closing


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
