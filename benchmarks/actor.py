"""A running actor: a program of ``actors/`` in its own environment, and the conversation with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks import cores
from benchmarks.environments import HERE, command, variables
from benchmarks.servers import cpu_seconds
from tests.kit import proc

__all__ = ["Actor", "ActorFailed", "surroundings"]

REPOSITORY = Path(__file__).resolve().parents[1]
PATIENCE = 10.0
BYTECODE = HERE / ".results" / "bytecode"
"""Compiled modules, of ours and of the peers: what compiling takes and leaves behind is in no figure."""


def surroundings() -> dict[str, str]:
    """Return the environment variables of a program that is measured: it uses compiled modules."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPATH": str(REPOSITORY), "PYTHONPYCACHEPREFIX": str(BYTECODE)}


class ActorFailed(Exception):
    """An actor could not do what it was asked; the text is its own."""


class Actor:
    """One program, running from when it is made until `close`.

    Args:
        program: its name in ``actors/``.
        role: what it is there for.
        environment: whose interpreter runs it.
        log: where it writes what goes wrong.
        pinned: whether it runs on the core of its role only.
        **given: the parameters of its role.
    """

    def __init__(
        self, program: str, role: str, environment: str, log: Path, *, pinned: bool = False, **given: Any
    ) -> None:
        self.program, self.role = program, role.rpartition("_")[2]
        self._log = log
        run = [*command(environment, program), role, json.dumps(given)]
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                run,
                cwd=REPOSITORY,
                env=surroundings() | variables(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._children: list[int] = []
        if pinned:
            cores.pin(self._process.pid, self.role)
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def ask(self, do: str, **parameters: Any) -> Any:
        """Give an order and wait for the answer."""
        self.begin(do, **parameters)
        return self._answer()

    def begin(self, do: str, **parameters: Any) -> None:
        """Give an order; `end` waits for its answer."""
        assert self._process.stdin is not None
        try:
            print(json.dumps({"do": do, **parameters}), file=self._process.stdin, flush=True)
        except BrokenPipeError as error:
            raise ActorFailed(f"{self.program} {self.role} has ended; {self._last_words()}") from error

    def end(self) -> Any:
        """Wait for the answer to the order that was begun."""
        return self._answer()

    def children(self) -> list[int]:
        """Return the worker processes of one that has them."""
        self._children = list(self.ask("pids"))
        return self._children

    def cpu(self) -> float:
        """Return the CPU seconds that it and its known worker processes have used."""
        return cpu_seconds([self._process.pid, *self._children])

    def adopt(self) -> None:
        """Know all worker processes that it has now, whatever it is, and theirs."""
        self._children, parents = [], [self._process.pid]
        while parents:
            found = proc.children(parents.pop())
            self._children += found
            parents += found

    def memory_mb(self) -> dict[str, float]:
        """Return the resident and the proportional memory of its first worker process, or its own."""
        pid = (self.children() if (self.program, self.role) == ("ours", "worker") else [self._process.pid])[0]
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
        return {"rss_mb": sizes["Rss"], "pss_mb": sizes["Pss"]}

    def close(self) -> None:
        """End its input, which ends it, and wait."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended already
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            children = proc.children(self._process.pid)  # they would outlive it
            self._process.kill()
            self._process.wait()
            for pid in children:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.stdout.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ActorFailed(f"{self.program} {self.role} has ended; {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise ActorFailed(answer["error"])
        return answer["result"]

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it wrote nothing"
