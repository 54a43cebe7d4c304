"""How throughput and latency grow along an axis: plots, and the same in words.

A section of this kind has contestants named ``<series> · <place on the axis>``, and the place once more
as the figure ``x``.
"""

from __future__ import annotations

import os
import subprocess
from itertools import pairwise
from pathlib import Path

from benchmarks.environments import HERE, interpreter
from benchmarks.figures import Figures, Section

__all__ = ["drawn", "growth_lines"]

FIGURES = {"per_second": "throughput", "p50_us": "p50", "p99_us": "p99"}


def drawn(results: Path, directory: Path) -> None:
    """Draw one SVG for each section of a file of results.

    Raises:
        Unavailable: what draws them cannot be installed.
    """
    command = [interpreter("plots"), "-m", "benchmarks.plots", str(results), str(directory)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(HERE.parent)})


def growth_lines(section: Section, plots: str) -> list[str]:
    """Return a section as markdown: its plot, and the ratio of each series' last point to its first."""
    axis = section.title.rpartition(" ")[2]
    lines = [f"### {section.title}", "", section.unit, ""]
    lines += [f"![{section.title}: throughput and latency]({plots}/scale-{axis}.svg)", ""]
    lines += [_in_words(name, points, axis) for name, points in _series(section).items()]
    remarks = [f"- {name}: {reason}" for name, reason in section.failures.items()]
    return lines + remarks


def _series(section: Section) -> dict[str, list[Figures]]:
    """Return the medians of each series, in the order of the axis."""
    series: dict[str, list[Figures]] = {}
    for contestant in section.contestants:
        medians = {figure: section.median(contestant, figure) for figure in ("x", *FIGURES)}
        point = {figure: value for figure, value in medians.items() if value is not None}
        series.setdefault(contestant.rpartition(" · ")[0], []).append(point)
    return {name: sorted(points, key=lambda point: point["x"]) for name, points in series.items()}


def _in_words(name: str, points: list[Figures], axis: str) -> str:
    first, last = points[0], points[-1]
    ratios = ", ".join(
        f"{words} {last[figure] / first[figure]:.3g} times" for figure, words in FIGURES.items()
    )
    text = f"- {name}: from {first['x']:,.0f} to {last['x']:,.0f} {axis} {ratios}"
    steps = [
        (after["per_second"] / before["per_second"], before, after) for before, after in pairwise(points)
    ]
    worst, before, after = min(steps, key=lambda step: step[0], default=(1.0, first, last))
    if worst >= 1:
        return f"{text}; throughput falls nowhere."
    fall = f"{worst:.3g} times, from {before['x']:,.0f} to {after['x']:,.0f}"
    return f"{text}; its steepest fall of throughput is {fall}."
