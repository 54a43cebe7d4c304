"""Mistakes that beginners make: each is refused, or said, where it is made, with the way out."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import logging
import re
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pydantic
import pytest

from redis_toolkit import App, ConfigurationError, EncodeError, RedisOptions, RedisToolkit
from redis_toolkit.binding import Binding
from redis_toolkit.codecs import JSONCodec, MsgpackCodec
from redis_toolkit.errors import PayloadMismatch
from redis_toolkit.message import Message
from redis_toolkit.patterns import ReliableMessaging, RequestResponse, TaskQueue

URL = "redis://localhost:1"


class Order(pydantic.BaseModel):
    id: int
    sku: str


class Shop:
    def take(self, data: Any) -> None: ...

    @classmethod
    def of_class(cls, data: Any) -> None: ...


@pytest.fixture
def app() -> App:
    return App(URL)


def refused(app: App, handler: Any, text: str, **options: Any) -> None:
    with pytest.raises(ConfigurationError, match=text):
        app.on("orders", **options)(handler)
    assert app._router.handlers == []


class TestHandlers:
    def test_one_with_yield_would_never_run(self, app: App) -> None:
        def numbers(data: Any) -> Iterator[int]:
            yield 1

        async def later(data: Any) -> AsyncIterator[int]:
            yield 1

        class Called:
            def __call__(self, data: Any) -> Iterator[int]:
                yield 1

        for handler in (numbers, later, functools.partial(numbers), Called(), Called().__call__):
            refused(app, handler, "has `yield`: return a list, or publish each item")
        with pytest.raises(ConfigurationError, match="yield"):
            app.on_gap(numbers)

    def test_one_of_a_class_body_has_nobody_to_be_called_with(self, app: App) -> None:
        with pytest.raises(
            ConfigurationError, match=r"register the bound method.*app\.on\('of'\)\(Own\(\)\.of\)"
        ):

            class Own:
                @app.on("orders")
                def of(self, data: Any) -> None: ...

        refused(app, Shop.take, "no self to call it with")
        for handler in (Shop().take, Shop.of_class, functools.partial(Shop.take, Shop())):
            Binding(handler)

        def plain(self: Any) -> Any:  # a strange name, and no class around it
            return self

        assert Binding(plain).call(Message("orders", 1)) == 1

    @pytest.mark.parametrize("text", ["OnlyForCheckers", "NoSuchType", "list[NoSuchType]", "no type"])
    def test_an_annotation_that_cannot_be_found_is_told(
        self, app: App, caplog: pytest.LogCaptureFixture, text: str
    ) -> None:
        def take(order: Any, channel: Any, **rest: Any) -> None: ...

        take.__annotations__ = dict.fromkeys(("order", "channel", "rest"), text)
        app.on("orders")(take)
        [line] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert "take: the annotation" in line
        assert repr(text) in line
        assert "'order'" in line
        assert "define it at module level" in line

    def test_options_that_contradict_each_other(self, app: App) -> None:
        refused(
            app, lambda data: data, "every_worker=True is for live events", every_worker=True, events=False
        )

    def test_a_list_of_channels(self, app: App) -> None:
        with pytest.raises(ConfigurationError, match=r"not in a list: write \*channels"):
            app.on(["a", "b"])(print)  # type: ignore[arg-type]

    def test_the_same_function_twice(self, app: App, caplog: pytest.LogCaptureFixture) -> None:
        shop = Shop()
        app.on("orders", "a:*", events=False, requests=True)(shop.take)
        app.on("orders", requests=False)(shop.take)
        assert caplog.text == ""
        app.on("orders", "b")(shop.take)
        assert (
            "Shop.take is registered twice on 'orders': it gets each of their live events twice"
            in caplog.text
        )
        caplog.clear()
        app.on("a:*", events=False, requests=True)(shop.take)
        assert caplog.messages == ["handler Shop.take is registered twice on 'a:*'"]
        caplog.clear()
        assert set(app._router.responders()) == {"orders", "a:*", "b"}
        assert caplog.text == ""

    def test_a_message_handler_of_other_parameters(self) -> None:
        for handler in (lambda data: data, lambda: None, lambda a, b, c: None):
            with pytest.raises(ConfigurationError, match=r"message_handler\(channel, data\)"):
                RedisToolkit(["news"], handler, url=URL)  # type: ignore[arg-type]

        def numbers(channel: str, data: Any) -> Iterator[int]:
            yield 1

        with pytest.raises(ConfigurationError, match="yield"):
            RedisToolkit(["news"], numbers, url=URL)


class TestNames:
    """What a call is called with, or called, by somebody who knows it a little differently."""

    @pytest.mark.parametrize("name", ["publish", "publish_many", "request_many"])
    def test_options_of_calls(self, app: App, name: str) -> None:
        said = rf"^{name}\(\) has no option header=: did you mean headers=\?$"
        with pytest.raises(ConfigurationError, match=said):
            getattr(app, name)("x", [1], header={})
        with pytest.raises(ConfigurationError, match="^a" + said[1:]):
            asyncio.run(getattr(app, "a" + name)("x", [1], header={}))

    def test_options_of_a_toolkit(self) -> None:
        with pytest.raises(
            ConfigurationError, match=r"RedisToolkit\(\) has no option option=: .* options=\?"
        ):
            RedisToolkit(option=1)  # type: ignore[call-arg]
        with pytest.raises(ConfigurationError, match=r"did you mean subscriber_retry_delay=\?"):
            RedisOptions(retry_delay=1)  # type: ignore[call-arg]
        with pytest.raises(
            ConfigurationError, match=r"not dict; it has no a=: it has subscriber_retry_delay, "
        ):
            RedisToolkit(options={"a": 1})  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match=r"options= is a RedisOptions\(.*, not int$"):
            RedisToolkit(options=5)  # type: ignore[arg-type]
        assert RedisOptions(7).subscriber_retry_delay == 7

    def test_the_app_of_a_queue(self, app: App) -> None:
        with pytest.raises(ConfigurationError, match=r"by name: TaskQueue\(name, app=app\)"):
            TaskQueue("q", app)  # type: ignore[arg-type]

    def test_what_submitting_is_called_elsewhere(self, app: App) -> None:
        @TaskQueue("q", app=app).task
        def add(a: int, b: int) -> int:
            return a + b

        with pytest.raises(
            AttributeError, match=r"^'Task' object has no attribute 'delay': submit\(\.\.\.\)"
        ):
            add.delay(1, 2)  # type: ignore[attr-defined]
        with pytest.raises(AttributeError, match=r"'apply_async': submit\(\.\.\.\)"):
            add.apply_async((1, 2))  # type: ignore[attr-defined]
        with pytest.raises(AttributeError, match=r"no attribute 'other'$"):
            add.other  # type: ignore[attr-defined]  # noqa: B018
        assert not hasattr(copy.copy(add), "delay")


class TestPayloads:
    def test_keyword_fields_for_one_model(self) -> None:
        def take(order: Order) -> int:
            return order.id

        message = Message("orders", {"id": 1, "sku": "x"})
        assert Binding(take).call(message) == 1
        with pytest.raises(
            PayloadMismatch, match="fields id, sku came as keywords, which are spread by name"
        ):
            Binding(take).call(message, spread=True)
        with pytest.raises(PayloadMismatch, match=r"send one payload, request\('orders', \{\.\.\.\}\)"):
            Binding(take).call(message, spread=True)
        with pytest.raises(PayloadMismatch) as caught:
            Binding(lambda a, b: None).call(Message("orders", {"a": 1}), spread=True)
        assert "keywords" not in str(caught.value)

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"y": 1}, r"'x' is missing, and it has no parameter 'y': was 'x' meant\? \(One payload"),
            ({"y": 1, "z": 2}, r"the fields y, z came as keywords, .* send one payload"),
        ],
    )
    def test_keyword_fields_that_are_not_the_parameter(self, fields: dict[str, int], said: str) -> None:
        with pytest.raises(PayloadMismatch, match=said):
            Binding(lambda x: x).call(Message("num", fields), spread=True)

    @pytest.mark.parametrize("spread", [True, False])
    def test_fields_with_a_name_that_was_meant(self, spread: bool) -> None:
        def ship(order: int, address: str, express: bool = False) -> None: ...

        fields = {"order": 1, "adress": "x", "other": 2}
        with pytest.raises(PayloadMismatch, match=r"no parameter 'adress': was 'address' meant\?$"):
            Binding(ship).call(Message("ship", fields), spread=spread)
        with pytest.raises(PayloadMismatch, match=r"no parameter 'to': was 'address' meant\?$"):
            Binding(ship).call(Message("ship", {"order": 1, "to": "x"}), spread=spread)
        with pytest.raises(PayloadMismatch, match=r"'order' is missing$"):
            Binding(ship).call(Message("ship", {"to": "x"}), spread=spread)

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"retry": 1}, "request() has no option retry=: did you mean retries=?"),
            ({"time_out": 1, "a": 2}, "has no option time_out=, a=: did you mean timeout=?"),
            ({"a": 2}, "not both, and has no option a=: its options are timeout, retries, headers, codec"),
        ],
    )
    def test_a_payload_and_keywords(self, app: App, fields: dict[str, int], said: str) -> None:
        with pytest.raises(ConfigurationError, match=re.escape(said)):
            app.request("x", 1, **fields)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match=re.escape(said)):
            asyncio.run(app.arequest("x", 1, **fields))  # type: ignore[arg-type]

    @pytest.mark.parametrize("codec", [JSONCodec(), MsgpackCodec()])
    def test_what_was_not_awaited_or_listed(self, codec: Any) -> None:
        async def later() -> int:
            return 1

        waiting = later()
        for value in (waiting, {"a": [waiting]}):
            with pytest.raises(EncodeError, match=r"type coroutine was not awaited.*`return await \.\.\.`"):
                codec.encode(value)
        waiting.close()
        with pytest.raises(EncodeError, match="type generator has no form on the wire: make a list of it"):
            codec.encode(number for number in [1])
        with pytest.raises(EncodeError, match="type object has no form on the wire: turn it into a dict"):
            codec.encode(object())

    @pytest.mark.parametrize("one", ["abc", b"abc", {"a": 1}, 5, None, Order(id=1, sku="x")])
    def test_one_payload_where_many_are_meant(self, app: App, one: Any) -> None:
        for call in (app.publish_many, app.request_many):
            with pytest.raises(ConfigurationError, match=rf"not as {type(one).__name__}: .*\[payload\]"):
                call("x", one)
        for acall in (app.apublish_many, app.arequest_many):
            with pytest.raises(ConfigurationError, match=r"write \[payload\]"):
                asyncio.run(acall("x", one))


class TestQueuesAndGroups:
    @pytest.mark.parametrize("wrong", [5, None, b"g", ["g"], "", "g\n", "g" * 201])
    def test_a_group_that_can_be_none(self, app: App, wrong: Any) -> None:
        for call in (app.dead, app.requeue, app.forget_group):
            with pytest.raises(ConfigurationError, match="group="):
                call("orders", wrong)

    @pytest.mark.parametrize("wrong", [5, True, object(), "1-1"])
    def test_dead_letters_that_are_no_list(self, app: App, wrong: Any) -> None:
        for call in (TaskQueue("q", app=app).retry_dead, functools.partial(app.requeue, "orders", "g")):
            with pytest.raises(ConfigurationError, match=r"for one, write \[letter\]"):
                call(wrong)

    @pytest.mark.parametrize("wrong", [0, True, None, "1", []])
    def test_a_limit_that_is_no_number(self, app: App, wrong: Any) -> None:
        for call in (TaskQueue("q", app=app).dead, functools.partial(app.dead, "orders", "g")):
            with pytest.raises(ConfigurationError, match="limit="):
                call(limit=wrong)

    @pytest.mark.parametrize("wrong", [5, None, "x", {}])
    def test_what_is_neither_a_handle_nor_a_call(self, app: App, wrong: Any) -> None:
        queue = TaskQueue("q", app=app)
        with pytest.raises(ConfigurationError, match="is no TaskHandle"):
            queue.gather([wrong])
        with pytest.raises(ConfigurationError, match="is no TaskCall"):
            queue.submit_many([wrong])

    def test_options_that_are_misspelt(self, app: App) -> None:
        make_queue: Any = TaskQueue
        make_messaging: Any = ReliableMessaging
        on: Any = app.on
        queue, messaging = make_queue("q", app=app), make_messaging(app=app)
        task = queue.task(lambda data: data)
        calls: dict[str, Callable[..., Any]] = {
            r"task\(\) has no option retry=: did you mean retries=\?": lambda: queue.task(retry=3),
            r"on\(\) has no option retrys=: did you mean retries=\?": lambda: on("x", retrys=3),
            r"on\(\) has no option concurency=: did you mean concu": lambda: on("x", concurency=3),
            r"create_ack_subscriber\(\) has no option retrys=: did you mean retries=\?": functools.partial(
                messaging.create_ack_subscriber, "p", print, retrys=1
            ),
            r"create_worker\(\) has no option lese=: did": lambda: queue.create_worker("w", print, lese=1),
            r"TaskQueue\(\) has no option max_pendin=: did": lambda: make_queue("q", max_pendin=1),
            r"ReliableMessaging\(\) takes its options by name: app=, url=": lambda: make_messaging(URL),
            r"options\(\) takes its options by name": lambda: task.options(1),
            r"task\(\) takes its options by name: @queue.task\(name='x'\)": lambda: queue.task("x"),
            r"a task has no option prio=: did you mean priority=\?": lambda: task.options(prio="high"),
            r"a task has no option xyz=: it has delay, eta": lambda: queue.submit("t", 1, xyz=1),
        }
        for text, call in calls.items():
            with pytest.raises(ConfigurationError, match=f"^{text}"):
                call()
        with pytest.raises(ConfigurationError, match=r"acreate_worker.* did you mean retries="):
            asyncio.run(queue.acreate_worker("w", print, retrys=1))
        with pytest.raises(TypeError, match=r"'prio'; did you mean priority=\?"):
            task.submit(1, prio="high")
        with pytest.raises(TypeError, match="task_handler"):
            queue.create_worker("w")

    def test_a_subscriber_of_a_glob(self, app: App) -> None:
        with pytest.raises(ConfigurationError, match=r"has one channel, and 'p:\*' is a glob"):
            ReliableMessaging(app=app).create_ack_subscriber("p:*", print)

    def test_calls_and_handles_that_are_something_else(self, app: App) -> None:
        queue = TaskQueue("q", app=app)
        task = queue.task(lambda data: data)
        for wrong, text in ((task, r"write \[call\]"), ([task], r"write task\.call\(")):
            with pytest.raises(ConfigurationError, match=text):
                queue.submit_many(wrong)
        for other, text in ((queue.handle("1"), r"write \[handle\]"), (["1"], r"queue\.handle\(id\)")):
            with pytest.raises(ConfigurationError, match=text):
                queue.gather(other)  # type: ignore[arg-type]

    def test_nothing_that_is_shown_has_a_password(self) -> None:
        app = App("redis://ann:s3cr3t@localhost:1")
        queue = TaskQueue("q", app=app)
        task = queue.task(lambda data: data)
        named = [queue, ReliableMessaging(app=app), RequestResponse("q", app=app), queue.handle("q"), task]
        for one in [*named, task.options(delay=1)]:
            assert "s3cr3t" not in repr(one)
            assert "'q'" in repr(one) or "localhost" in repr(one)
            assert " at 0x" not in repr(one)
        for make in (functools.partial(TaskQueue, "q"), ReliableMessaging, RequestResponse):
            with pytest.raises(ConfigurationError, match=r"not str: for a server, write url=$"):
                make(app="redis://:s3cr3t@x")  # type: ignore[arg-type]

    @pytest.mark.parametrize("wrong", [5, None, "high", [], ["a", "a"], [[]], [{}], [5], [""]])
    def test_priorities(self, app: App, wrong: Any) -> None:
        with pytest.raises(ConfigurationError, match="priorit"):
            TaskQueue("q", wrong, app=app)

    @pytest.mark.parametrize("wrong", [0, "2", b"2", True, None, 1.5])
    def test_a_number_of_subscribers_threads(self, app: App, wrong: Any) -> None:
        with pytest.raises(ConfigurationError, match="concurrency="):
            ReliableMessaging(app=app).create_ack_subscriber("c", print, concurrency=wrong)

    def test_names_with_line_breaks(self, app: App) -> None:
        with pytest.raises(ConfigurationError, match="not printable"):
            TaskQueue("a\nb", app=app)

    @pytest.mark.parametrize("wrong", [5, "redis://localhost", object()])
    def test_an_app_that_is_none(self, wrong: Any) -> None:
        with pytest.raises(ConfigurationError, match="write url="):
            TaskQueue("q", app=wrong)


class TestApps:
    @pytest.mark.parametrize("url", [6379, b"redis://:s3cr3t@localhost", ("localhost", 6379)])
    def test_a_url_that_is_no_text(self, url: Any) -> None:
        with pytest.raises(ConfigurationError, match=rf"redis://localhost:6379/0, not {type(url).__name__}$"):
            App(url)

    def test_an_option_of_a_url_that_does_not_exist(self) -> None:
        with pytest.raises(ConfigurationError, match=r"there is no option 'foo'$"):
            App("redis://localhost?foo=1")

    def test_a_socket_that_is_named_from_here(self) -> None:
        with pytest.raises(ConfigurationError, match=r"has to be absolute, such as unix:///.*/tmp/sock$"):
            App("unix://tmp/sock")
        with pytest.raises(ConfigurationError, match="has to be absolute") as caught:
            App("unix://ann:s3cr3t@tmp/sock?db=1")
        assert "s3cr3t" not in str(caught.value)
        for url in ("unix:///tmp/sock", "unix://ann:s3cr3t@/tmp/sock?db=1", "unix://ann@/tmp/sock"):
            App(url)

    def test_an_option_that_is_misspelt(self) -> None:
        with pytest.raises(ConfigurationError, match=r"no option concurency=: did you mean concurrency=\?"):
            App(URL, concurency=3)  # type: ignore[call-arg]
        with pytest.raises(ConfigurationError, match="no option xyz=: it has url, "):
            App(URL, xyz=3)  # type: ignore[call-arg]

    def test_what_was_not_awaited_is_named_by_the_app(self, app: App) -> None:
        waiting: Any = app.arequest("x")
        assert waiting.__qualname__ == "App.arequest"
        waiting.close()

    def test_a_blocking_start_is_warned_of_where_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("redis_toolkit._core.loops._warned", False)
        app = App(URL, connect_timeout=0.05, command_timeout=0.1)
        app.on("x")(lambda data: data)

        async def main() -> int:
            line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
            with pytest.raises(ConnectionError), app:
                pass
            return line

        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            line = asyncio.run(main())
        [one] = said
        assert (one.filename, one.lineno) == (__file__, line)
