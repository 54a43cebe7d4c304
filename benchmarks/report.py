"""The report: what runs have found, kept as JSON, and the page made of it.

Rules:

- The page is made of `RESULTS`, ``notes.md`` and the targets of the workloads, and of nothing else, so
  that a test can tell whether it is what they say. It says on what kind of machine it was measured, and
  names no path.
- A note that belongs to no section of the page is an error: it would be lost.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from benchmarks.environments import HERE, Unavailable
from benchmarks.figures import Section, Target
from benchmarks.growth import drawn, growth_lines

__all__ = ["PAGE", "WORKLOADS", "keep", "page", "section_lines", "targets", "write"]

WORKLOADS = (
    "request",
    "concurrent",
    "in_flight",
    "live_events",
    "publish",
    "tasks",
    "tasks_more",
    "submit",
    "durable_events",
    "task_latency",
    "rooms",
    "rooms_idle",
    "import_time",
    "idle",
    "idle_durable",
    "backlog",
)
LONG = ("backlog",)
"""Those that only ``--scale`` runs."""
SCALE = "scale"
RESULTS = HERE / "results"
NOTES = HERE / "notes.md"
DOCS = HERE.parent / "docs"
PAGE = DOCS / "benchmarks.md"
PLOTS = DOCS / "benchmarks"

INTRODUCTION = """\
<!-- generated: python -m benchmarks -->
# Benchmarks

Written by `make bench`: the project, its peers and the raw floors side by side, in turns, on one Valkey
without persistence and one NATS server, both over loopback TCP. Everybody sends and answers the same order of
about 80 bytes of JSON and parses it on both sides; where somebody sends bytes that are ready, it is said.
Queues of tasks take part with one worker process and the settings that they advise for speed, BullMQ on Node.

- Only the ratios within one run count; absolute figures depend on the machine. A figure is the median of the
  rounds; a ratio is the median of the ratios within each round, with the smallest and the largest behind it.
- What is timed is the steady state: each caller's first calls are not counted, and the callers go on until
  the last call that counts is answered. A worker that drains a backlog is timed from the first task to the
  last, not while it starts.
- The server, the asking side and the answering side have cores of their own, the same for all contestants.
  Without that, the rounds of one contestant differ more, and how long a single request takes depends on where
  the scheduler puts everybody; so that one is shown both ways.
- CPU columns (`server`, `caller`, `worker`, `listener`, `publisher`) are the CPU time for each call, in µs;
  `server` is Redis or NATS itself. `commands` are the commands that Redis carries out for each call, those
  in scripts included.
"""


def keep(
    name: str, sections: list[Section], versions: str, rounds: int, *, pinned: bool, more: bool = False
) -> None:
    """Keep what was found of one workload; ``more`` rounds go to those that are there."""
    before = _found(name) if more else None
    if before is not None:
        rounds += before["rounds"]
        kept = {section.title: section for section in before["sections"]}
        for section in sections:
            section.rounds[:0] = kept[section.title].rounds
            section.failures = kept[section.title].failures | section.failures
    python = f"Python {platform.python_version()}"
    found = {
        "sections": [section.to_json() for section in sections],
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {python}, {versions}",
        "rounds": rounds,
        "pinned": pinned,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def write() -> None:
    """Write the page, and draw the plots when there is something to plot."""
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE.relative_to(HERE.parent)}")
    if _found(SCALE) is not None:
        PLOTS.mkdir(exist_ok=True)
        try:
            drawn(RESULTS / f"{SCALE}.json", PLOTS)
        except Unavailable as error:
            print(f"no plots: {error}")


def page() -> str:
    """Return the text of the page."""
    table: list[str] = []
    details: list[str] = []
    measured: dict[str, list[str]] = {}
    notes = _notes()
    for name in WORKLOADS:
        found = _found(name)
        if found is None:
            continue
        measured.setdefault(_measured(found), []).append(name)
        for section in found["sections"]:
            table += _target_rows(section, targets(name)[section.title])
            details += ["", *section_lines(section), *notes.pop(section.title, [])]
    grown = _found(SCALE)
    if grown is not None:
        measured.setdefault(_measured(grown), []).append(SCALE)
        details += ["", "## How it grows"]
        for section in grown["sections"]:
            details += ["", *growth_lines(section, PLOTS.name), *notes.pop(section.title, [])]
    if notes:
        raise ValueError(f"{NOTES.name} has notes on what is not on the page: {', '.join(notes)}")
    head = [
        "| workload | contestant | figure | value | ratio | target | |",
        "|---|---|---|---:|---:|---|---|",
    ]
    machines = [f"- `{'`, `'.join(names)}`: {how}" for how, names in measured.items()]
    return "\n".join([INTRODUCTION, *head, *table, "", *machines, *details, ""])


def targets(name: str) -> dict[str, list[Target]]:
    """Return the targets of a workload, by the titles of its sections."""
    found: dict[str, list[Target]] = import_module(f"benchmarks.workloads.{name}").TARGETS
    return found


def _found(name: str) -> dict[str, Any] | None:
    file = RESULTS / f"{name}.json"
    if not file.is_file():
        return None
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    found["sections"] = [Section.from_json(section) for section in found["sections"]]
    return found


def _measured(found: dict[str, Any]) -> str:
    pinned = "on cores of their own" if found["pinned"] else "nobody pinned"
    return f"{found['machine']}; {found['rounds']} rounds; {pinned}"


def _notes() -> dict[str, list[str]]:
    """Return the explanations written by hand, by the title of the section that they belong to."""
    notes: dict[str, list[str]] = {}
    for part in ("\n" + NOTES.read_text(encoding="utf-8")).split("\n## ")[1:]:
        title, _, text = part.partition("\n")
        notes[title.strip()] = ["", text.strip()]
    return notes


def _target_rows(section: Section, wanted: list[Target]) -> Iterator[str]:
    for target in wanted:
        reached, value = section.reached(target), section.median(target.ours, target.figure)
        if target.limit is None and reached is None:
            continue  # a comparison that needs what is not there, an optional codec say
        ratios = section.ratios(target)
        ratio = f"{reached:.2f} ({min(ratios):.2f}..{max(ratios):.2f})" if ratios else ""
        yield (
            f"| {section.title} | {target.ours} | {_label(target.figure)} | {_number(value)} | {ratio} "
            f"| {target.wanted} | {target.verdict(reached)} |"
        )


def section_lines(section: Section) -> list[str]:
    """Return one workload as markdown: who took part, and all figures."""
    lines = [f"## {section.title}", "", section.unit, ""]
    figures = list(dict.fromkeys(key for one in section.rounds for found in one.values() for key in found))
    figures = [figure for figure in figures if figure != "calls"]
    if figures:
        lines.append("| | " + " | ".join(_label(figure) for figure in figures) + " |")
        lines.append("|---|" + "---:|" * len(figures))
    for name in section.contestants:
        cells = " | ".join(_number(section.median(name, figure)) for figure in figures)
        lines.append(f"| {name} | {cells} |")
    remarks = [f"- {name}: {reason}" for name, reason in section.failures.items()]
    remarks += [f"- {note}" for note in section.notes]
    return [*lines, "", *remarks] if remarks else lines


def _label(figure: str) -> str:
    words = {"per_second": "per s", "commands_per_second": "commands per s"}
    return words.get(
        figure, figure.replace("_us", " µs").replace("_ms", " ms").replace("_mb", " MB").replace("_", " ")
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
