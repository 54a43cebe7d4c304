"""Every example runs and ends well."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import REPOSITORY
from tests.kit.processes import Process

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))
ARGUMENTS = {"stdlib_census.py": ("40",)}
"""What makes an example short enough for a test: here the number of files to look at."""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs_to_its_end(path: Path, tmp_path: Path) -> None:
    with Process(directory=tmp_path, path=path, args=ARGUMENTS.get(path.name, ())) as program:
        assert program.wait(120.0) == 0, program.output
        assert "Traceback" not in program.stderr
        assert program.stdout.strip()
