from __future__ import annotations

import re

from tests.kit.matrix import COLUMNS, ROWS, Matrix


def test_a_cell_is_held_when_all_its_tests_passed() -> None:
    matrix = Matrix()
    matrix.note(14, "events", "passed")
    matrix.note(14, "events", "passed")
    matrix.note(14, "requests", "passed")
    matrix.note(14, "requests", "failed")
    matrix.note(15, "requests", "skipped")

    assert matrix.verdict(14, "events") == "held (2)"
    assert matrix.verdict(14, "requests") == "FAILED (1 of 2)"
    assert matrix.verdict(15, "requests") == "NOT COVERED"
    assert matrix.verdict(12, "events") == "-"


def test_the_table_has_all_rows_and_the_columns_in_use() -> None:
    matrix = Matrix()
    matrix.note(14, "events", "passed")
    heads, *lines = matrix.table()

    head, columns = heads[: heads.index("events")], heads[heads.index("events") :].split()
    assert head.split() == ["#", "fault"]
    assert columns == [name for name in COLUMNS if any(name in row.due for row in ROWS.values())]
    assert len(lines) == len(ROWS) == 41
    [line] = [line for line in lines if line.startswith("14 ")]
    verdicts = re.split(r"  +", line)[2:]
    assert verdicts == ["held (1)" if name == "events" else "NOT COVERED" for name in columns]
    assert "14 events" not in matrix.not_covered()
    assert "14 requests" in matrix.not_covered()
