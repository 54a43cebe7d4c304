"""The fault matrix in pytest: which tests belong to it, how long they last, and what they came to.

::

    @pytest.mark.fault(14, "events", "requests")
    def test_connections_are_killed(tier: Tier) -> None:
        seconds = tier(2, 30)

Rules: a test that belongs to the matrix says so with ``fault(ROW, *COLUMNS)``, once for each row. It runs
with all other tests, in its quick form. With ``--faults`` only the tests of the matrix run, in full, and
those marked ``long`` too; the table is printed, and a cell that is due and has no test fails the run when
no tests were chosen by hand. ``-m fault --matrix`` prints it for the quick form.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

import pytest

from .matrix import COLUMNS, ROWS, Matrix, Outcome

T = TypeVar("T")

_MATRIX = pytest.StashKey[Matrix]()


@dataclass(frozen=True, slots=True)
class Tier:
    """Chooses between the quick and the full form of a test."""

    full: bool

    def __call__(self, quick: T, full: T) -> T:
        """Return what this run wants of the two."""
        return full if self.full else quick


@pytest.fixture(scope="session")
def tier(pytestconfig: pytest.Config) -> Tier:
    """How long a test shall be at it: ``tier(quick, full)``."""
    return Tier(full=pytestconfig.getoption("--faults"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", action="store_true", help="run the fault matrix in full, and print it")
    parser.addoption("--matrix", action="store_true", help="print what became of the fault matrix")


class _Noting:
    """Notes what the tests of the matrix came to; a failing teardown counts against its test."""

    def __init__(self, matrix: Matrix) -> None:
        self.matrix = matrix

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome = _outcome(report)
        cells = dict(report.user_properties).get("fault")
        if outcome is not None and cells:
            for row, column in cells:  # type: ignore[attr-defined]
                self.matrix.note(row, column, outcome)


def pytest_configure(config: pytest.Config) -> None:
    matrix = config.stash[_MATRIX] = Matrix()
    config.pluginmanager.register(_Noting(matrix), "fault-matrix")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what this run is not about; a marker that names no cell is an error."""
    for item in items:
        for mark in item.iter_markers("fault"):
            if not mark.args[1:] or mark.args[0] not in ROWS or set(mark.args[1:]) - set(COLUMNS):
                raise pytest.UsageError(f"{item.nodeid}: fault{mark.args} is no row with columns")
    full = config.getoption("--faults")
    groups: dict[bool, list[pytest.Item]] = {True: [], False: []}
    for item in items:
        marker = item.get_closest_marker("fault" if full else "long")
        groups[(marker is not None) is full].append(item)
    config.hook.pytest_deselected(items=groups[False])
    items[:] = groups[True]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write the cells of a test on its report, as the reports of all processes come together in one."""
    report = yield
    cells = [(mark.args[0], column) for mark in item.iter_markers("fault") for column in mark.args[1:]]
    report.user_properties = [*report.user_properties, ("fault", cells)]
    return report


def _outcome(report: pytest.TestReport) -> Outcome | None:
    if report.failed:
        return "failed"
    if report.skipped:
        return "skipped"
    return "passed" if report.when == "call" else None


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    if hasattr(config, "workerinput"):
        return  # one of several processes, which has seen a part only
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.getoption("keyword")
    if (
        config.getoption("--faults")
        and everything
        and exitstatus == 0
        and config.stash[_MATRIX].not_covered()
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("--faults") or config.getoption("--matrix"):
        terminalreporter.section("fault matrix")
        for line in config.stash[_MATRIX].table():
            terminalreporter.line(line)
