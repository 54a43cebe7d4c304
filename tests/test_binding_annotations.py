"""What annotations make of a payload. All in this file are text, as the future import makes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional

import pydantic
import pytest

from redis_toolkit.errors import PayloadMismatch
from redis_toolkit.message import Message
from tests.bindings import Line, Order, bind

if TYPE_CHECKING:
    from nowhere import OnlyForCheckers  # type: ignore[import-not-found]


@dataclasses.dataclass
class Cart:
    owner: str
    lines: list[Line]
    best: Line | None = None
    parent: Optional[Cart] = None  # noqa: UP045 - the older spelling, and a class that contains itself


def test_models() -> None:
    def handler(order: Order) -> Any:
        return order

    assert bind(handler, {"id": "5"}) == Order(id=5)
    with pytest.raises(PayloadMismatch, match=r"order is no Order: id: "):
        bind(handler, {"id": "x"})


def test_lists_and_optional_ones() -> None:
    def many(orders: list[Order]) -> Any:
        return orders

    def perhaps(order: Order | None) -> Any:
        return order

    assert bind(many, [{"id": 1}, {"id": 2}]) == [Order(id=1), Order(id=2)]
    assert bind(perhaps, None) is None
    assert bind(perhaps, {"id": 1}) == Order(id=1)


def test_nested_dataclasses() -> None:
    def handler(cart: Cart) -> Any:
        return cart

    payload = {
        "owner": "ann",
        "lines": [{"sku": "x"}, {"sku": "y", "count": 2}],
        "parent": {"owner": "bob", "lines": []},
    }
    assert bind(handler, payload) == Cart("ann", [Line("x"), Line("y", 2)], None, Cart("bob", []))
    with pytest.raises(PayloadMismatch, match=r"cart\.lines\[1\] lacks 'sku' of Line"):
        bind(handler, {"owner": "ann", "lines": [{"sku": "x"}, {}]})


def test_a_local_class_that_the_function_uses() -> None:
    class Local(pydantic.BaseModel):
        a: int

    def handler(it: Local) -> Any:
        return isinstance(it, Local)

    assert bind(handler, {"a": 1})


def test_a_local_class_that_only_the_annotation_names() -> None:
    class Local(pydantic.BaseModel):
        a: int

    def handler(it: Local) -> Any:
        return type(it).__name__

    assert bind(handler, {"a": 1}) == "Local"


def test_a_local_class_is_taken_from_the_innermost_function_around() -> None:
    class Local(pydantic.BaseModel):
        outer: int

    class Other(pydantic.BaseModel):
        a: int

    def around() -> Any:
        class Local(pydantic.BaseModel):
            inner: int

        class Handlers:
            def handle(self, it: Local, other: Other) -> Any:
                return it, other

        return bind(Handlers().handle, {"it": {"inner": 1}, "other": {"a": 2}})

    it, other = around()
    assert it.inner == 1
    assert type(other) is Other
    assert Local(outer=1).outer == 1


def test_a_local_class_of_a_function_that_has_returned_is_none(caplog: pytest.LogCaptureFixture) -> None:
    def make() -> Callable[..., Any]:
        class Local(pydantic.BaseModel):
            a: int

        def handler(it: Local) -> Any:
            return it

        return handler

    assert bind(make(), {"a": 1}) == {"a": 1}
    assert "the annotation 'Local' of its parameter 'it' cannot be found" in caplog.text


def test_a_name_that_exists_only_for_type_checkers_is_none() -> None:
    def handler(it: OnlyForCheckers, channel: OnlyForCheckers, message: Message) -> Any:
        return (it, channel, message.id)

    assert bind(handler, {"a": 1}, id="7") == ({"a": 1}, "orders", "7")


def test_a_dataclass_with_such_a_name_in_it() -> None:
    @dataclasses.dataclass
    class Half:
        it: OnlyForCheckers
        line: Line

    half = Half

    def handler(data: Any) -> Any:
        return data

    handler.__annotations__["data"] = half
    assert bind(handler, {"it": 1, "line": {"sku": "x"}}) == Half(1, Line("x"))


def test_plain_ones_are_not_checked() -> None:
    def handler(number: int) -> Any:
        return number

    assert bind(handler, "no number") == "no number"
