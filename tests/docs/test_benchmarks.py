"""The page of figures is whole: all rows, all plots, and no path of the machine that made it."""

from __future__ import annotations

import re

import pytest

from benchmarks import report
from benchmarks.figures import Target
from tests.docs.pages import REPOSITORY

TEXT = report.PAGE.read_text(encoding="utf-8")
TARGETS = [
    (title, target)
    for name in report.WORKLOADS
    for title, targets in report.targets(name).items()
    for target in targets
    if target.limit is not None  # the others are shown when both sides were there
]


@pytest.mark.parametrize(
    ("title", "target"),
    TARGETS,
    ids=[f"{title}: {target.ours}, {target.wanted}" for title, target in TARGETS],
)
def test_each_target_has_a_row_with_what_was_measured(title: str, target: Target) -> None:
    start = f"| {title} | {target.ours} | "
    rows = [line for line in TEXT.splitlines() if line.startswith(start) and f"| {target.wanted} |" in line]

    assert rows
    assert not any("not measured" in row for row in rows)


def test_the_page_is_what_its_figures_and_notes_make() -> None:
    assert report.page() == TEXT, "write it again: python -m benchmarks --report"


def test_each_plot_is_there_and_can_be_read_as_text() -> None:
    shown = re.findall(r"!\[.+?\]\((.+?\.svg)\)", TEXT)

    assert len(shown) == 4
    for name in shown:
        assert "<svg" in (report.PAGE.parent / name).read_text(encoding="utf-8")
    assert {name.rpartition("/")[2] for name in shown} == {plot.name for plot in report.PLOTS.iterdir()}


def test_nothing_names_a_path_of_a_machine() -> None:
    files = [report.PAGE, report.NOTES, *report.RESULTS.iterdir(), *report.PLOTS.iterdir()]
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert str(REPOSITORY) not in text
        assert not re.search(r"(?<![\w.:/<])/(?:home|root|tmp|usr|var|opt|Users|private)/", text), file.name
