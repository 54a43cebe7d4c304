"""What was measured: the figures of each contestant and round, ratios between them, and verdicts.

Rules: of a figure the median of the rounds counts; of a ratio the median of the ratios within each
round, so that what slows one round down slows both sides down. A contestant that failed has a text
instead of figures, and so has every ratio with it.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Figures", "Section", "Target"]

Figures = dict[str, float]


@dataclass
class Target:
    """One line of the table of targets.

    Attributes:
        figure: what is compared, such as ``p50_us``.
        ours: the contestant that is judged.
        limit: what the ratio, or without a peer the figure itself, has to reach; None only shows it.
        peer: whom it is compared with; None compares with the limit alone.
        at_most: whether less is better.
        stretch: a limit beyond that, or None.
    """

    figure: str
    ours: str
    limit: float | None
    peer: str | None = None
    at_most: bool = False
    stretch: float | None = None

    def verdict(self, reached: float | None) -> str:
        """Return in words whether it is reached."""
        if self.limit is None:
            return ""
        if reached is None:
            return "not measured"
        if self._meets(reached, self.limit):
            further = self.stretch is not None and self._meets(reached, self.stretch)
            return "reached, stretch too" if further else "reached"
        return "**not reached**"

    def _meets(self, reached: float, limit: float) -> bool:
        return reached <= limit if self.at_most else reached >= limit

    @property
    def wanted(self) -> str:
        """The target as the table shows it."""
        if self.limit is None:
            return f"times {self.peer}"
        sign = "≤" if self.at_most else "≥"
        of = f" times {self.peer}" if self.peer else ""
        more = f" (stretch {sign} {self.stretch:g})" if self.stretch is not None else ""
        return f"{sign} {self.limit:g}{of}{more}"


@dataclass
class Section:
    """One workload: its rounds, its targets, and what is worth saying about it."""

    title: str
    unit: str
    targets: list[Target] = field(default_factory=list)
    rounds: list[dict[str, Figures]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def contestants(self) -> list[str]:
        """Everyone who has figures, in the order of appearance."""
        return list(dict.fromkeys(name for figures in self.rounds for name in figures))

    def median(self, contestant: str, figure: str) -> float | None:
        """Return the median of a figure over the rounds."""
        found = [one[contestant][figure] for one in self.rounds if figure in one.get(contestant, {})]
        return statistics.median(found) if found else None

    def reached(self, target: Target) -> float | None:
        """Return the ratio, or the figure, that a target is about."""
        if target.peer is None:
            return self.median(target.ours, target.figure)
        ratios = self.ratios(target)
        return statistics.median(ratios) if ratios else None

    def ratios(self, target: Target) -> list[float]:
        """Return the ratio that a target is about, of each round in which both took part."""
        if target.peer is None:
            return []
        return [
            one[target.ours][target.figure] / one[target.peer][target.figure]
            for one in self.rounds
            if target.ours in one and target.peer in one
        ]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can carry it."""
        value: dict[str, Any] = _rounded(asdict(self))
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Section:
        """Return the section that `to_json` wrote."""
        targets = [Target(**target) for target in value.pop("targets")]
        return cls(targets=targets, **value)


def _rounded(value: Any) -> Any:
    """Return the same with numbers of five significant digits: the others would be noise."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value
