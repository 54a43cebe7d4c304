"""``python -m benchmarks``: run the workloads, and write the table and the plots.

``--quick`` is for development: fewer calls and rounds. ``--scale`` adds how throughput and latency grow
with callers, payloads, channels and processes, and a backlog of a million tasks. ``--only request`` runs one
workload; what other runs have found stays in the table. ``--more`` adds rounds to those that are kept.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from importlib import import_module

from benchmarks import report
from benchmarks.stage import Stage


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few calls, two rounds: for development")
    parser.add_argument("--rounds", type=int, help="rounds in which all take turns (5)")
    parser.add_argument("--scale", action="store_true", help="also measure how it grows")
    parser.add_argument(
        "--only",
        action="append",
        choices=(*report.WORKLOADS, report.SCALE),
        help="one workload; may be repeated",
    )
    parser.add_argument("--more", action="store_true", help="add the rounds to those that are kept")
    parser.add_argument("--no-pin", action="store_true", help="let everybody run on any core")
    parser.add_argument("--report", action="store_true", help="measure nothing, write table and plots again")
    given = parser.parse_args()
    usual = [name for name in report.WORKLOADS if name not in report.LONG]
    names = given.only or [*usual, *((*report.LONG, report.SCALE) if given.scale else ())]
    if not given.report:
        rounds, scale = given.rounds or (2 if given.quick else 5), 0.1 if given.quick else 1.0
        run(names, rounds=rounds, scale=scale, pinned=not given.no_pin, more=given.more)
    report.write()


def run(names: list[str], *, rounds: int, scale: float, pinned: bool, more: bool = False) -> None:
    """Measure workloads and keep what was found."""
    with ExitStack() as stack:
        stage = Stage(stack, rounds=rounds, scale=scale, pinned=pinned)
        for name in names:
            workload = import_module(f"benchmarks.workloads.{name}")
            sections, begun = [], time.monotonic()
            for section in workload.sections(stage):
                print("\n".join(report.section_lines(section)), flush=True)
                sections.append(section)
            report.keep(name, sections, stage.versions, rounds, pinned=stage.pinned, more=more)
            print(f"\n{name}: {time.monotonic() - begun:.0f} s\n", flush=True)


if __name__ == "__main__":
    main()
