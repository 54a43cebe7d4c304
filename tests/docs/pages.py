"""Reads the code blocks of the documentation, as its tests need them.

Rules: a page that says in its first line that it is generated has no programs; it is left out here, and
has tests of its own. On the other pages a block of Python is a complete program. Two comments may stand
in front of one: ``<!-- no-run: reason -->`` when it cannot run alone, ``<!-- serves: text -->`` when it
runs until SIGTERM and says ``text`` once it is up. A block titled "Output" behind it is all that it prints.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

__all__ = ["REPOSITORY", "Block", "blocks", "programs"]

REPOSITORY = Path(__file__).resolve().parents[2]
_GENERATED = "<!-- generated: "


def _pages() -> list[Path]:
    found = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
    return [page for page in found if page.exists() and not _is_generated(page)]


def _is_generated(page: Path) -> bool:
    with page.open(encoding="utf-8") as lines:
        return lines.readline().startswith(_GENERATED)


PAGES = _pages()

_FENCE = re.compile(
    r"^(?:<!-- (?P<mark>no-run|serves): (?P<note>.+?) -->\n+)?"
    r"(?P<fence>```+)(?P<info>[^\n]*)\n(?P<text>.*?)^(?P=fence)[ ]*$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: where it is, its language and title, its text, and the comment in front of it."""

    page: Path
    line: int
    info: str
    text: str
    mark: str | None
    note: str | None

    @property
    def language(self) -> str:
        return self.info.split()[0] if self.info.split() else ""

    @property
    def is_output(self) -> bool:
        return 'title="Output"' in self.info

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start("fence")) + 1,
            found["info"].strip(),
            found["text"],
            found["mark"],
            found["note"],
        )
        for found in _FENCE.finditer(text)
    ]


def programs() -> Iterator[tuple[Block, str | None]]:
    """Yield the Python blocks of all pages, each with the output that the page shows for it."""
    for page in PAGES:
        found = blocks(page)
        for block, follower in zip_longest(found, found[1:]):
            if block.language == "python":
                yield block, follower.text if follower is not None and follower.is_output else None
