"""How messages become arguments: each kind of function that someone may register, each kind of parameter."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable
from typing import Any

import pytest

from redis_toolkit.binding import Binding, handler_name
from redis_toolkit.errors import ConfigurationError, PayloadMismatch
from redis_toolkit.message import Headers, Message
from tests.bindings import Line, Order, bind


class FakeApp:
    pass


class OwnApp(FakeApp):
    pass


def take_data(data):  # type: ignore[no-untyped-def]
    return data


class Shop:
    def method(self, data: Any, channel: str) -> Any:
        return (self.__class__.__name__, data, channel)

    @classmethod
    def of_class(cls, data: Any) -> Any:
        return (cls.__name__, data)

    @staticmethod
    def static(data: Any) -> Any:
        return ("static", data)

    def __call__(self, order: Order, message: Message) -> Any:
        return (order, message)


class TestKindsOfFunctions:
    @pytest.mark.parametrize("payload", [None, 0, "x", [1], {"data": 1}, {"a": 1, "b": 2}])
    def test_one_parameter_gets_the_whole_payload(self, payload: Any) -> None:
        assert bind(take_data, payload) is payload
        assert bind(lambda anything: anything, payload) is payload

    def test_methods(self) -> None:
        shop = Shop()
        assert bind(shop.method, 5) == ("Shop", 5, "orders")
        assert bind(Shop.of_class, 5) == ("Shop", 5)
        assert bind(shop.of_class, 5) == ("Shop", 5)
        assert bind(Shop.static, 5) == ("static", 5)

    def test_a_callable_object(self) -> None:
        order, message = bind(Shop(), {"id": "5"})
        assert order == Order(id=5)
        assert isinstance(message, Message)

    def test_a_class_as_handler(self) -> None:
        assert bind(Line, {"sku": "x"}) == Line("x")

    def test_a_builtin(self) -> None:
        assert bind(len, "four") == 4

    def test_partials(self) -> None:
        def handler(db: str, order: Order, channel: str, *, verbose: bool) -> Any:
            return (db, order, channel, verbose)

        assert bind(functools.partial(handler, "db", verbose=True), {"id": 1}) == (
            "db",
            Order(id=1),
            "orders",
            True,
        )
        twice = functools.partial(functools.partial(handler, verbose=False), "db2")
        assert bind(twice, {"id": 1}) == ("db2", Order(id=1), "orders", False)
        assert bind(functools.partial(Shop().method), 5) == ("Shop", 5, "orders")

    def test_what_a_partial_has_fixed_does_not_come_from_outside(self) -> None:
        def handler(a: int, b: int, admin: bool) -> Any:
            return (a, b, admin)

        with pytest.raises(PayloadMismatch, match="'admin'"):
            bind(functools.partial(handler, admin=False), {"a": 1, "b": 2, "admin": True})

    def test_a_decorated_function_is_seen_through(self) -> None:
        def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                return ("wrapped", function(*args, **kwargs))

            return wrapper

        @decorated
        def handler(order: Order, channel: str) -> Any:
            return (order, channel)

        assert bind(handler, {"id": 3}) == ("wrapped", (Order(id=3), "orders"))

    @pytest.mark.parametrize(
        ("function", "name"),
        [
            (take_data, "take_data"),
            (Shop().method, "Shop.method"),
            (Shop(), "Shop"),
            (functools.partial(take_data), "partial"),
        ],
    )
    def test_each_has_a_name_for_messages(self, function: Callable[..., Any], name: str) -> None:
        assert handler_name(function) == name
        assert Binding(function).name == name

    def test_what_cannot_be_a_handler_is_said_at_registration(self) -> None:
        def with_args(*args: Any) -> None: ...

        with pytest.raises(ConfigurationError, match=r"with_args has \*args"):
            Binding(with_args)
        with pytest.raises(ConfigurationError):
            Binding(5)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="cannot be a handler"):
            Binding(dict)


class TestWhatComesFromTheMessage:
    def test_channel_by_name(self) -> None:
        def handler(data: Any, channel: str) -> Any:
            return (data, channel)

        assert bind(handler, {"channel": "mine"}, channel="users:1") == ({"channel": "mine"}, "users:1")
        assert bind(lambda channel: channel, {"a": 1}) == "orders"

    def test_message_headers_and_app_by_annotation(self) -> None:
        def handler(m: Message, h: Headers, a: FakeApp, data: Any) -> Any:
            return (m, h, a, data)

        app = FakeApp()
        message, headers, given, data = bind(handler, 5, app=app, headers=Headers(a="b"), id="7", attempt=2)
        assert (message.data, message.id, message.attempt) == (5, "7", 2)
        assert (headers, given, data) == ({"a": "b"}, app, 5)

    def test_an_app_of_ones_own_class(self) -> None:
        def handler(app: FakeApp, data: Any) -> Any:
            return (app, data)

        app = OwnApp()
        assert bind(handler, 5, app=app) == (app, 5)

    def test_they_are_no_part_of_the_payload(self) -> None:
        def handler(a: int, channel: str) -> Any:
            return (a, channel)

        assert bind(handler, 5) == (5, "orders")
        with pytest.raises(PayloadMismatch):
            bind(handler, {"a": 1, "channel": "forged"}, spread=True)

    def test_nor_of_the_rest(self) -> None:
        def handler(m: Message, **rest: Any) -> Any:
            return rest

        assert bind(handler, {"a": 1}) == {"a": 1}
        with pytest.raises(PayloadMismatch, match="from the message"):
            bind(handler, {"m": 1})

    def test_without_a_parameter_the_payload_is_not_looked_at(self) -> None:
        assert bind(lambda: "called", {"a": 1}) == "called"
        assert bind(lambda channel: channel, 5) == "orders"
        with pytest.raises(PayloadMismatch, match="takes nothing"):
            bind(lambda: "called", {"a": 1}, spread=True)

    def test_an_annotation_wins_over_the_name(self) -> None:
        def handler(channel: Message) -> Any:
            return channel

        assert isinstance(bind(handler, 5), Message)


class TestSpreading:
    def test_a_map_over_several_parameters(self) -> None:
        def add(a: int, b: int) -> int:
            return a + b

        assert bind(add, {"b": 2, "a": 1}) == 3

    def test_one_parameter_is_spread_only_when_the_caller_says_so(self) -> None:
        def handler(a: Any) -> Any:
            return a

        assert bind(handler, {"a": 1}) == {"a": 1}
        assert bind(handler, {"a": 1}, spread=True) == 1
        with pytest.raises(PayloadMismatch, match="no parameter 'b'"):
            bind(handler, {"b": 1, "a": 2}, spread=True)

    def test_defaults(self) -> None:
        def handler(a: int, b: int = 2, *, c: int = 3) -> Any:
            return (a, b, c)

        assert bind(handler, {"a": 1}) == (1, 2, 3)
        assert bind(handler, {"a": 1, "c": 0}) == (1, 2, 0)

    def test_keyword_only(self) -> None:
        def one(*, order: Order) -> Any:
            return order

        assert bind(one, {"id": 4}) == Order(id=4)

    def test_positional_only(self) -> None:
        def handler(a: int, channel: str, /, b: int) -> Any:
            return (a, channel, b)

        def with_defaults(a: int = 1, b: int = 2, /) -> Any:
            return (a, b)

        assert bind(handler, {"b": 2, "a": 1}) == (1, "orders", 2)
        assert bind(with_defaults, {}) == (1, 2)
        assert bind(with_defaults, {"a": 5}) == (5, 2)
        assert bind(with_defaults, {"b": 5}) == (1, 5)

    def test_the_rest(self) -> None:
        def handler(a: int, **rest: Any) -> Any:
            return (a, rest)

        assert bind(handler, {"a": 1, "b": 2, "c": 3}) == (1, {"b": 2, "c": 3})
        assert bind(handler, {"a": 1}) == (1, {})
        assert bind(lambda **all_of_it: all_of_it, {"x": 1}) == {"x": 1}

    def test_what_is_missing_unknown_or_no_map_is_named(self) -> None:
        def handler(a: int, b: int) -> None: ...

        with pytest.raises(PayloadMismatch, match=r"handler .*handler takes 'a', 'b': 'b' is missing"):
            bind(handler, {"a": 1})
        with pytest.raises(PayloadMismatch, match="no parameter 'c'"):
            bind(handler, {"a": 1, "b": 2, "c": 3})
        for payload in (5, None, "ab", [1, 2]):
            with pytest.raises(PayloadMismatch, match=type(payload).__name__):
                bind(handler, payload)

    def test_the_handler_is_not_called_when_it_does_not_fit(self) -> None:
        called = []

        def handler(a: int, order: Order) -> None:
            called.append(a)

        for payload in ({}, {"a": 1}, {"a": 1, "order": {"id": "no number"}}, 7):
            with pytest.raises(PayloadMismatch):
                bind(handler, payload)
        assert called == []

    def test_each_parameter_is_converted(self) -> None:
        def handler(order: Order, when: datetime.date) -> Any:
            return (order, when)

        found = bind(handler, {"order": {"id": 1}, "when": "2024-02-29"})
        assert found == (Order(id=1), datetime.date(2024, 2, 29))

    def test_a_type_error_inside_the_handler_is_its_own(self) -> None:
        def handler(a: int, b: int) -> None:
            raise TypeError("mine")

        with pytest.raises(TypeError, match="mine"):
            bind(handler, {"a": 1, "b": 2})


def test_a_payload_that_is_no_map_goes_to_the_only_parameter_without_a_default() -> None:
    def closure(data: object, n: int = 7) -> tuple[object, int]:
        return data, n

    binding = Binding(closure)
    assert binding.call(Message("x", 5)) == (5, 7)
    assert binding.call(Message("x", {"data": 1, "n": 2})) == (1, 2)
    with pytest.raises(PayloadMismatch, match="'data' is missing"):
        binding.call(Message("x", {"n": 2}))
