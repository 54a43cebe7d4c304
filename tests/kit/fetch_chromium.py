"""Puts a Chromium for the tests of pages into a directory: ``DIRECTORY/chromium``, a script that starts it.

It is the one that the machine has (``$CHROMIUM``, or on the PATH), else Debian's ``chromium-headless-shell``.
Nothing is installed and nobody has to be root: apt finds out which packages are missing and fetches them from
where the machine takes its packages, and they are unpacked into the directory. On a machine without one and
without apt this says so and ends without an error, and the tests that need it are skipped, with that reason.

Usage: ``python tests/kit/fetch_chromium.py DIRECTORY``
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGE = "chromium-headless-shell"
PROGRAM = f"usr/lib/chromium/{PACKAGE}"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", PACKAGE)
MACOS = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"


def main(target: Path) -> int:
    target = target.resolve()
    target.mkdir(parents=True, exist_ok=True)
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, (*NAMES, MACOS))), None)
    if found is not None and _starts([found]):
        _write_start(target, found, {})
        return 0
    try:
        start, environment = _fetch(target)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        print(f"No Chromium here, and none to be had by apt: {said.strip()}", file=sys.stderr)
        print("The chat in the browser will NOT be tested.", file=sys.stderr)
        return 0
    _write_start(target, start, environment)
    return 0


def _starts(command: list[str], environment: dict[str, str] | None = None) -> bool:
    settings = {**os.environ, **(environment or {})}
    try:
        return subprocess.run([*command, "--version"], capture_output=True, env=settings).returncode == 0
    except OSError:
        return False


def _fetch(target: Path) -> tuple[str, dict[str, str]]:
    """Download what is missing, unpack it, and return the program and the environment that it needs."""
    packages, root = target / "packages", target / "root"
    (packages / "partial").mkdir(parents=True, exist_ok=True)
    (target / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    ours = [f"Dir::Cache::archives={packages}", "Debug::NoLocking=1", "APT::Sandbox::User=root"]
    download = ["install", "--yes", "--download-only", "--no-install-recommends", PACKAGE]
    try:
        _apt(download, ours)
    except subprocess.CalledProcessError:  # the lists of packages are missing, or too old
        ours += [f"Dir::State::lists={target / 'lists'}", f"Dir::Cache::pkgcache={target / 'pkgcache.bin'}"]
        ours += [f"Dir::Cache::srcpkgcache={target / 'srcpkgcache.bin'}"]
        _apt(["update"], ours)
        _apt(download, ours)
    for package in sorted(packages.glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", package, root], check=True, capture_output=True, text=True)
    for rest in (packages, target / "lists"):
        shutil.rmtree(rest)
    for rest in target.glob("*cache.bin"):
        rest.unlink()
    libraries = sorted({str(path.parent) for path in root.glob("**/lib/*-linux-*/**/*.so*")})
    environment = {"LD_LIBRARY_PATH": ":".join(libraries)}
    if (root / "etc" / "fonts").is_dir():  # the machine had no fonts either
        environment["FONTCONFIG_SYSROOT"] = str(root)
    program = str(root / PROGRAM)
    if not _starts([program], environment):
        raise OSError(f"{program} does not start")
    return program, environment


def _apt(command: list[str], options: list[str]) -> None:
    settings = [word for option in options for word in ("-o", option)]
    subprocess.run(["apt-get", "-qq", *settings, *command], check=True, capture_output=True, text=True)


def _write_start(target: Path, program: str, environment: dict[str, str]) -> None:
    settings = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    # Written beside its place and moved there: an interrupted run leaves no half of it.
    part = target / "chromium.part"
    part.write_text("\n".join(["#!/bin/sh", *settings, f'exec {shlex.quote(program)} "$@"', ""]))
    part.chmod(0o755)
    part.replace(target / "chromium")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
