"""Handlers that fork: a copy of a worker must not go on, it would settle what its parent settles.

Rules: the forks happen in programs of their own, never in the process that runs the tests.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = """
import os, sys
from tests.worker.claims import claimed, job_of, queue, reply_of, task

def in_child(code):
    child = os.fork()
    if child == 0:
        if code:
            raise SystemExit(code)
        return "child"
    return f"parent of {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}"

class Forks:
    def model_dump(self, **_):
        return in_child(5)

kind, code = sys.argv[1], int(sys.argv[2])

def work():
    return Forks() if code == 5 else in_child(code)

def handler(data):
    return work()

async def awaited(data):
    return work()

rig = queue(job_of(handler if kind == "def" else awaited, "add"))
print(reply_of(rig.run(claimed(task(1))))["data"])
"""


@pytest.mark.parametrize("kind", ["def", "async"])
@pytest.mark.parametrize("code", [0, 3, 5], ids=["returns", "raises", "while its result is written"])
def test_what_comes_back_in_a_child_ends_there(kind: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, kind, str(code)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=120,
    )
    assert (done.stdout, done.stderr) == (f"parent of {code}\n", "")
