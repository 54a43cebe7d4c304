"""Draws what the workload ``scale`` has found: throughput and latency along each axis, as SVG.

It runs in an environment of its own: ``python -m benchmarks.plots <scale.json> <directory>``. Grey ink on
no background, and colours of middle lightness, can be read on a light page and on a dark one.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib  # type: ignore[import-not-found]

matplotlib.use("svg")
INK = "#808080"
matplotlib.rcParams.update(
    {
        "svg.hashsalt": "benchmarks",  # the same figures give the same file
        "svg.fonttype": "none",  # text stays text, in the reader's font
        "font.family": "sans-serif",
        "savefig.transparent": True,
        "legend.framealpha": 0,
        "legend.fontsize": "small",
        "axes.prop_cycle": matplotlib.cycler(color=["#2f8fd8", "#e0762b", "#38a169", "#b05fd0"]),
        "axes.grid": True,
        "grid.alpha": 0.25,
        "axes.spines.top": False,
        "axes.spines.right": False,
        **dict.fromkeys(
            ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"),
            INK,
        ),
    }
)

from matplotlib import pyplot, ticker  # noqa: E402 (after its settings)

__all__ = ["main"]

Series = dict[str, dict[float, dict[str, float]]]
"""By name and place on the axis: the medians of the figures."""
AXES = {
    "callers": "callers at once",
    "bytes": "bytes of payload",
    "channels": "channels",
    "processes": "processes",
}


def main(source: Path, directory: Path) -> None:
    """Draw one file for each section."""
    for section in json.loads(source.read_text())["sections"]:
        axis = section["title"].rpartition(" ")[2]
        _draw(_series(section["rounds"]), axis, directory / f"scale-{axis}.svg")


def _series(rounds: list[dict[str, dict[str, float]]]) -> Series:
    series: Series = {}
    for name in dict.fromkeys(name for one in rounds for name in one):
        found = [one[name] for one in rounds if name in one]
        medians = {figure: statistics.median(one[figure] for one in found) for figure in found[0]}
        series.setdefault(name.rpartition(" · ")[0], {})[medians["x"]] = medians
    return series


def _draw(series: Series, axis: str, file: Path) -> None:
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6))
    for name, points in series.items():
        places = sorted(points)
        (line,) = left.plot(places, [points[place]["per_second"] for place in places], marker="o", label=name)
        for percentile, style in (("p50", "-"), ("p99", ":")):
            latencies = [points[place][f"{percentile}_us"] / 1000 for place in places]
            right.plot(places, latencies, style, marker=".", color=line.get_color())
    right.set_yscale("log")
    right.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    right.yaxis.set_minor_locator(ticker.NullLocator())
    if axis == "bytes":
        left.set_yscale("log")
    else:
        left.set_ylim(bottom=0)
    _dress(left, axis, series, "requests/s")
    _dress(right, axis, series, "ms")
    left.legend()
    right.plot([], [], "-", color=INK, label="p50")
    right.plot([], [], ":", color=INK, label="p99")
    right.legend()
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def _dress(axes: Any, axis: str, series: Series, label: str) -> None:
    if axis == "processes":
        axes.set_xticks(sorted({place for points in series.values() for place in points}))
    else:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel(AXES[axis])
    axes.set_ylabel(label)
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.5g}"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
