"""Draws what the workload ``scale`` has found: throughput and latency along each axis, as SVG.

It runs in an environment of its own: ``python -m benchmarks.plots <scale.json> <directory>`` prints a
line for each file: its name and its title.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib  # type: ignore[import-not-found]

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "benchmarks"  # the same figures give the same file

from matplotlib import pyplot  # noqa: E402 (after the choice of the backend)

__all__ = ["main"]

Series = dict[str, dict[float, dict[str, float]]]
"""By name and place on the axis: the medians of the figures."""


def main(source: Path, directory: Path) -> None:
    """Draw one file for each section."""
    for section in json.loads(source.read_text())["sections"]:
        axis = section["title"].rpartition(" ")[2]
        file = directory / f"scale-{axis}.svg"
        _draw(_series(section["rounds"]), axis, section["unit"], file)
        print(file.name, f"Requests by {axis}: {section['unit']}")


def _series(rounds: list[dict[str, dict[str, float]]]) -> Series:
    series: Series = {}
    for name in dict.fromkeys(name for one in rounds for name in one):
        found = [one[name] for one in rounds if name in one]
        medians = {figure: statistics.median(one[figure] for one in found) for figure in found[0]}
        series.setdefault(name.rpartition(" · ")[0], {})[medians["x"]] = medians
    return series


def _draw(series: Series, axis: str, unit: str, file: Path) -> None:
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    for name, points in series.items():
        places = sorted(points)
        throughput = [points[place]["per_second"] for place in places]
        (line,) = left.plot(places, throughput, marker="o", label=name)
        for percentile, style in (("p50", "-"), ("p99", ":")):
            latencies = [points[place][f"{percentile}_us"] / 1000 for place in places]
            right.plot(
                places, latencies, style, marker=".", color=line.get_color(), label=f"{name}, {percentile}"
            )
    _dress(left, axis, "requests/s")
    _dress(right, axis, "ms")
    right.set_yscale("log")
    figure.suptitle(unit)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def _dress(axes: Any, axis: str, label: str) -> None:
    if axis != "processes":
        axes.set_xscale("log")
    axes.set_xlabel(axis)
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0 if label == "requests/s" else None)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
