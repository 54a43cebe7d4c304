"""Every example runs and ends well."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import REPOSITORY
from tests.kit.processes import Process

CENSUS = REPOSITORY / "examples" / "stdlib_census.py"
EXAMPLES = sorted(path for path in (REPOSITORY / "examples").glob("*.py") if path != CENSUS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs_to_its_end(path: Path, tmp_path: Path) -> None:
    with Process(directory=tmp_path, path=path) as program:
        assert program.wait(120.0) == 0, program.output
        assert "Traceback" not in program.stderr
        assert program.stdout.strip()


def test_the_census_kills_a_worker_and_has_each_file_once(tmp_path: Path) -> None:
    with Process(directory=tmp_path, path=CENSUS, args=("60",)) as program:  # of so many files
        assert program.wait(120.0) == 0, program.output
        killed = re.findall(r"^kill -9 (\d+): the worker that began ", program.stdout, re.MULTILINE)
        assert len(killed) == 1, program.output
        assert f"worker process {killed[0]} ended with signal SIGKILL" in program.stderr
        assert re.search(r"files +│ 60,", program.stdout), program.output
        assert re.search(r"results +│ every file exactly once", program.stdout), program.output
        assert f"worker {killed[0]} " in program.stdout
