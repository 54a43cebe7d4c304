"""The faults that are caused for real, row by row, and the columns that have to hold under them.

Rules: a row keeps its number for ever, as tests and the documentation name it. A cell is due when a test
for it must exist; a cell that is not due may have tests all the same. A cell is *held* when all its tests
passed, and *failed* when one of them did not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, get_args

__all__ = ["COLUMNS", "ROWS", "Column", "Matrix", "Outcome", "Row"]

Column = Literal["events", "durable", "requests", "tasks", "chat"]
Outcome = Literal["passed", "failed", "skipped"]

COLUMNS: tuple[Column, ...] = get_args(Column)


@dataclass(frozen=True, slots=True)
class Row:
    """One fault, and the columns for which a test of it has to exist."""

    name: str
    due: tuple[Column, ...] = ()


_E: tuple[Column, ...] = ("events",)
_R: tuple[Column, ...] = ("requests",)
_ER: tuple[Column, ...] = ("events", "requests")
_DT: tuple[Column, ...] = ("durable", "tasks")
_RDT: tuple[Column, ...] = ("requests", *_DT)
_ERDT: tuple[Column, ...] = ("events", *_RDT)
_DTC: tuple[Column, ...] = (*_DT, "chat")
_EC: tuple[Column, ...] = (*_E, "chat")
_ALL: tuple[Column, ...] = (*_ERDT, "chat")

ROWS: dict[int, Row] = {
    1: Row("a worker is killed inside a handler", _ALL),
    2: Row("a worker is killed between effect and settling", _DTC),
    3: Row("one message kills worker after worker", _DT),
    4: Row("SIGTERM, with time to finish", _ALL),
    5: Row("SIGTERM or SIGINT twice, at any moment", _ERDT),
    6: Row("a worker stands still for longer than its lease", _DTC),
    7: Row("Python code keeps the CPU busy in a handler", _DT),
    8: Row("a handler hangs", _DT),
    9: Row("the server is killed, every write on disk", _DT),
    10: Row("the server is killed, writes on disk each second"),
    11: Row("the server forgets everything", _ALL),
    12: Row("SCRIPT FLUSH", _RDT),
    13: Row("a key or a group is deleted by somebody else", _DT),
    14: Row("CLIENT KILL of all connections, again and again", _ALL),
    15: Row("CLIENT PAUSE; the server stands still", _ERDT),
    16: Row("FIN or RST in the middle of a reply", _ALL),
    17: Row("a network that swallows everything", _ALL),
    18: Row("executed, and the reply is dropped", _ALL),
    19: Row("latency, slices of a byte, a cut at every offset", _ER),
    20: Row("cancellation at every await; Ctrl-C in a wait", _ALL),
    21: Row("fork after connecting", _ER),
    22: Row("Sentinel failover"),
    23: Row("a cluster node dies; a slot moves"),
    24: Row("LOADING, MASTERDOWN, READONLY", _ERDT),
    25: Row("maxmemory without eviction", _ERDT),
    26: Row("another eviction policy"),
    27: Row("disk full", _ER),
    28: Row("a worker's clock is an hour wrong", _RDT),
    29: Row("garbage in any channel, list or field", _ALL),
    30: Row("decode bombs", _ERDT),
    31: Row("a payload over the cap", _ALL),
    32: Row("a slow subscriber; a full queue", _ER),
    33: Row("another codec, a newer envelope", _DT),
    34: Row("WRONGTYPE on each of our keys", _RDT),
    35: Row("missing rights, at the start and while running", _ER),
    36: Row("wrong password, certificate or port", _ER),
    37: Row("maxclients; an empty pool", _ER),
    38: Row("channel and glob overlap; glob characters in names", _EC),
    39: Row("1,000 clients reconnect at once", _ER),
    40: Row("a long run with churn", ("chat",)),
    41: Row("line breaks and escapes in names, ids and errors", _ER),
}


@dataclass(slots=True)
class Matrix:
    """What the tests of each cell came to."""

    _cells: dict[tuple[int, Column], Counter[Outcome]] = field(default_factory=dict)

    def note(self, row: int, column: Column, outcome: Outcome) -> None:
        """Count one test of a cell."""
        self._cells.setdefault((row, column), Counter())[outcome] += 1

    def verdict(self, row: int, column: Column) -> str:
        """Say what a cell came to, with the number of its tests."""
        seen = self._cells.get((row, column), Counter())
        if seen["failed"]:
            return f"FAILED ({seen['failed']} of {seen.total()})"
        if seen["passed"]:
            return f"held ({seen['passed']})"
        return "NOT COVERED" if column in ROWS[row].due else "-"

    def not_covered(self) -> list[str]:
        """Return the cells that are due and have no test that ran."""
        return [
            f"{number} {column}"
            for number, row in ROWS.items()
            for column in row.due
            if self.verdict(number, column) == "NOT COVERED"
        ]

    def table(self) -> list[str]:
        """Return the lines of the table: each row with each column that has something in it."""
        columns = [
            column
            for column in COLUMNS
            if any(column in row.due or (number, column) in self._cells for number, row in ROWS.items())
        ]
        heads = ("#", "fault", *columns)
        lines = [
            (str(number), row.name, *(self.verdict(number, column) for column in columns))
            for number, row in ROWS.items()
        ]
        widths = [max(map(len, cells)) for cells in zip(heads, *lines, strict=True)]
        return ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in (heads, *lines)]
