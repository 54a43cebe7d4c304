"""Fields of dataclasses whose types cannot be found: nothing is made of them, which is said at the start."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Annotated, Any, Optional

import pytest

from redis_toolkit import App
from redis_toolkit.convert import converter, not_found

if TYPE_CHECKING:
    from nowhere import OnlyForCheckers  # type: ignore[import-not-found]


@dataclasses.dataclass
class Whole:
    number: int
    itself: Whole | None = None


@dataclasses.dataclass
class Base:
    late: OnlyForCheckers
    whole: Whole


@dataclasses.dataclass
class Half(Base):
    odd: int.nothing  # type: ignore[name-defined]
    parent: Optional[Half] = None  # noqa: UP045
    many: list[Half] = dataclasses.field(default_factory=list)
    inner: OnlyForCheckers = dataclasses.field(init=False, default=None)


@dataclasses.dataclass
class Outer:
    halves: dict[str, list[Half]]


FIELDS = ["'late' of Half", "'odd' of Half"]


@pytest.mark.parametrize(
    ("annotation", "fields"),
    [
        (Whole, []),
        (int, []),
        (Any, []),
        (Half, FIELDS),
        (Outer, FIELDS),
        (Half | None, FIELDS),
        (list[Half], FIELDS),
        (dict[str, tuple[Half, ...]], FIELDS),
        (Annotated[Half, Base], FIELDS),
        (tuple[Half, Whole, Base], [*FIELDS, "'late' of Base"]),
        (Half | Whole, []),  # of a union nothing is made anyway
    ],
    ids=str,
)
def test_what_is_not_found(annotation: Any, fields: list[str]) -> None:
    said = list(not_found(annotation))
    assert [text.split(" of the field ")[1].split(" cannot")[0] for text in said] == fields


def test_what_is_found_is_still_made() -> None:
    make = converter(Half)
    assert make is not None
    whole = {"number": 1, "itself": {"number": 2}}
    made = make({"late": "a", "whole": whole, "odd": [], "parent": None, "many": []}, "data")
    assert (made.late, made.whole, made.odd) == ("a", Whole(1, Whole(2)), [])


def test_it_is_said_when_the_handler_is_registered(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "redis_toolkit")
    app = App("redis://localhost:1")

    @app.on("orders")
    def take(order: list[Half], whole: Whole) -> None: ...

    late, odd = caplog.messages
    for text, named in ((late, "'OnlyForCheckers' of the field 'late' of Half"), (odd, "'int.nothing'")):
        assert "take: the annotation " in text
        assert named in text
        assert "define it at module level" in text
    assert "name 'OnlyForCheckers' is not defined" in late
    assert "nothing" in odd
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
