from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import uuid
from typing import Annotated, Any, Optional

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redis_toolkit.codecs import JSONCodec, MsgpackCodec
from redis_toolkit.convert import converter
from redis_toolkit.errors import PayloadMismatch


class Colour(enum.Enum):
    RED = "red"


class Model(pydantic.BaseModel):
    a: int
    b: list[datetime.date] = []


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0

    def __post_init__(self) -> None:
        if self.x == 13:
            raise ValueError("unlucky")


@dataclasses.dataclass
class Path:
    name: str
    points: list[Point]
    start: Point | None = None
    by_name: dict[str, Point] = dataclasses.field(default_factory=dict)
    length: float = dataclasses.field(init=False, default=1.5)


NUMBER = uuid.UUID("12345678-1234-5678-1234-567812345678")


def convert(annotation: Any, value: Any) -> Any:
    make = converter(annotation)
    return value if make is None else make(value, "data")


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (
            datetime.datetime,
            "2024-02-29T12:00:00+00:00",
            datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC),
        ),
        (datetime.date, "2024-02-29", datetime.date(2024, 2, 29)),
        (datetime.time, "01:02:03", datetime.time(1, 2, 3)),
        (uuid.UUID, str(NUMBER), NUMBER),
        (decimal.Decimal, "1.10", decimal.Decimal("1.10")),
        (bytes, "AP8=", b"\x00\xff"),
        (bytes, b"\x00\xff", b"\x00\xff"),
        (Colour, "red", Colour.RED),
        (Model, {"a": "1", "b": ["2024-02-29"]}, Model(a=1, b=[datetime.date(2024, 2, 29)])),
        (Point, {"x": 1}, Point(1)),
        (Point, Point(1, 2), Point(1, 2)),
        (list[Point], [{"x": 1}], [Point(1)]),
        (tuple[Point, ...], [{"x": 1}, {"x": 2}], (Point(1), Point(2))),
        (tuple[int, uuid.UUID], [5, str(NUMBER)], (5, NUMBER)),
        (tuple, [1, 2], (1, 2)),
        (set, [1, 1], {1}),
        (set[uuid.UUID], [str(NUMBER)], {NUMBER}),
        (frozenset[int], [1], frozenset({1})),
        (dict[str, Point], {"a": {"x": 1}}, {"a": Point(1)}),
        (Point | None, None, None),
        (Point | None, {"x": 1}, Point(1)),
        (Optional[Point], {"x": 1}, Point(1)),  # noqa: UP045 - the older spelling
        (Annotated[uuid.UUID, "documented"], str(NUMBER), NUMBER),
        (list[Point | None], [None, {"x": 1}], [None, Point(1)]),
        (
            Path,
            {"name": "p", "points": [{"x": 1}], "start": {"x": 2}, "by_name": {"a": {"x": 3}}},
            Path("p", [Point(1)], Point(2), {"a": Point(3)}),
        ),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_what_an_annotation_makes_of_a_payload(annotation: Any, value: Any, expected: Any) -> None:
    found = convert(annotation, value)

    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "annotation",
    [int, str, float, bool, dict, list, Any, object, None, list[int], dict[str, Any], int | str],
)
def test_plain_annotations_cost_nothing(annotation: Any) -> None:
    assert converter(annotation) is None


def test_of_a_union_nothing_is_guessed() -> None:
    assert converter(Point | Model) is None


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        (uuid.UUID, "x", "data is no UUID"),
        (uuid.UUID, 5, "data is int, and UUID is made of text"),
        (datetime.datetime, "yesterday", "data is no datetime"),
        (decimal.Decimal, "much", "data is no Decimal"),
        (bytes, "%%%", "data is no bytes"),
        (bytes, "é", "data is no bytes"),
        (Colour, "blue", "data is no Colour"),
        (Colour, ["red"], "data is no Colour"),
        (Model, {"a": "x"}, "data is no Model: a: "),
        (Model, 5, "data is no Model: data: "),
        (Point, 5, "data is int, and Point is made of a map"),
        (Point, {}, "data lacks 'x' of Point"),
        (Point, {"x": 1, "z": 2}, "data has 'z', which Point does not have"),
        (Point, {"x": 13}, "data is no Point: unlucky"),
        (Path, {"name": "p", "points": [], "length": 2}, "data has 'length'"),
        (Path, {"name": "p", "points": [{"x": 1}, {}]}, r"data\.points\[1\] lacks 'x'"),
        (Path, {"name": "p", "points": [], "by_name": {"a": 5}}, r"data\.by_name\.a is int"),
        (list[Point], {"x": 1}, "data is dict, not a list"),
        (list[Point], "abc", "data is str, not a list"),
        (tuple[int, int], [1], "data has 1 items, not 2"),
        (dict[str, Point], [1], "data is list, not a map"),
        (set, [[1]], "data"),
        (set[Point], [{"x": 1}], "data"),
        (frozenset, [{}], "data"),
    ],
)
def test_what_does_not_fit_names_the_place(annotation: Any, value: Any, said: str) -> None:
    with pytest.raises(PayloadMismatch, match=said):
        convert(annotation, value)


@given(
    st.datetimes() | st.dates() | st.times() | st.uuids() | st.decimals(allow_nan=False) | st.binary(),
    st.sampled_from([JSONCodec(), MsgpackCodec()]),
)
def test_what_travels_as_text_comes_back(value: Any, codec: Any) -> None:
    assert convert(type(value), codec.decode(codec.encode(value))) == value


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_payload_fits_or_is_a_mismatch(value: Any) -> None:
    for annotation in (
        Path,
        Model,
        list[Point],
        tuple[uuid.UUID, Colour],
        set,
        dict[str, bytes],
        Point | None,
    ):
        try:
            convert(annotation, value)
        except PayloadMismatch:
            continue
