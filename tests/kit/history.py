"""A log that many processes write and a test reads: what happened, told by no Redis.

Rules: one JSON object per line with ``event``, ``pid`` and ``at`` (seconds of the clock that all
processes of the machine share and nobody sets); one write per line to a file opened for appending,
so lines of several processes never mix; a line under 4 KiB. A worker that is killed in the middle of
anything has written a whole line or none.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .waiting import eventually

LONGEST_LINE = 4096
OURS = ("event", "pid", "at")

Entry = dict[str, Any]


class History:
    """The log at `path`; any number of these, in any number of processes, share one file."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def write(self, event: str, /, **fields: Any) -> None:
        """Append one entry; `fields` are anything that JSON can say."""
        taken = [name for name in OURS if name in fields]
        if taken:
            raise ValueError(f"the history writes {', '.join(taken)} itself: choose another name")
        entry = {"event": event, "pid": os.getpid(), "at": time.monotonic(), **fields}
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        if len(line) > LONGEST_LINE:
            raise ValueError(f"history entry of {len(line)} bytes: at most {LONGEST_LINE} are written as one")
        # Opened for each entry: nothing is held open, so there is nothing to close or to inherit.
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            written = os.write(file, line)
        finally:
            os.close(file)
        if written != len(line):
            raise OSError(f"only {written} of {len(line)} bytes were written to {self.path}")

    def read(self, event: str | None = None) -> list[Entry]:
        """Return all entries, or those of one event, in the order in which they were written."""
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]  # a line without its end is still being written
        entries: list[Entry] = [json.loads(line) for line in whole.splitlines()]
        return [entry for entry in entries if event is None or entry["event"] == event]

    def wait_for(
        self,
        predicate: Callable[[list[Entry]], object],
        timeout: float = 30.0,
        *,
        event: str | None = None,
        what: str = "the history",
    ) -> list[Entry]:
        """Return the entries (of `event`) once `predicate` accepts their list."""
        accepted: list[Entry] = []

        def look() -> bool:
            accepted[:] = self.read(event)
            return bool(predicate(accepted))

        try:
            eventually(look, timeout, what)
        except AssertionError as error:
            shown = "\n".join(map(str, accepted[-20:])) or "(nothing)"
            raise AssertionError(f"{error}; the last of {len(accepted)} entries:\n{shown}") from None
        return accepted
