from __future__ import annotations

from tests.kit.matrix import ROWS, Matrix


def test_a_cell_is_held_when_all_its_tests_passed() -> None:
    matrix = Matrix()
    matrix.note(14, "events", "passed")
    matrix.note(14, "events", "passed")
    matrix.note(14, "requests", "passed")
    matrix.note(14, "requests", "failed")
    matrix.note(15, "events", "known")
    matrix.note(15, "events", "passed")
    matrix.note(15, "requests", "skipped")

    assert matrix.verdict(14, "events") == "held (2)"
    assert matrix.verdict(14, "requests") == "FAILED (1 of 2)"
    assert matrix.verdict(15, "events") == "known (1 of 2)"
    assert matrix.verdict(15, "requests") == "NOT COVERED"
    assert matrix.verdict(12, "events") == "-"


def test_the_table_has_all_rows_and_the_columns_in_use() -> None:
    matrix = Matrix()
    matrix.note(14, "events", "passed")
    heads, *lines = matrix.table()

    assert heads.split() == ["#", "fault", "events", "requests"]
    assert len(lines) == len(ROWS) == 41
    [line] = [line for line in lines if line.startswith("14 ")]
    assert line.split()[-4:] == ["held", "(1)", "NOT", "COVERED"]
    assert "14 events" not in matrix.not_covered()
    assert "14 requests" in matrix.not_covered()
