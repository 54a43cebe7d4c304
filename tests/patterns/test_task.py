"""Tasks as functions: what they take, what they are called, what type checkers see of them."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, assert_type

import pytest

from redis_toolkit import App, ConfigurationError, Message
from redis_toolkit.patterns import AsyncTask, Task, TaskCall, TaskHandle, TaskQueue

app = App("redis://127.0.0.1:1/0")
queue = TaskQueue("q", app=app)


@queue.task
def add(a: int, b: int = 2) -> int:
    """Add."""
    return a + b


@queue.task(priority="low", expires=60, unique_key=lambda user, **_: f"mail:{user}")
async def mail(user: str, *, priority: int = 0, **rest: Any) -> str:
    return f"{user} {priority}"


def data(call: TaskCall[Any]) -> Any:
    return call.data


def test_it_is_still_the_function() -> None:
    assert add(1, b=3) == 4
    assert asyncio.run(mail("ann", priority=1)) == "ann 1"
    assert (add.__name__, add.__doc__, str(inspect.signature(add))) == (
        "add",
        "Add.",
        "(a: 'int', b: 'int' = 2) -> 'int'",
    )
    assert inspect.iscoroutinefunction(type(mail).__call__)
    assert (add.name, repr(add)) == ("add", "<task 'add' of queue 'q'>")
    assert isinstance(add, Task)
    assert isinstance(mail, AsyncTask)


def test_it_can_be_a_handler_too() -> None:
    own = App("redis://127.0.0.1:1/0")
    own.on("adding")(add)
    own.on("mailing")(mail)
    assert [handler.binding.is_async for handler in own._router.handlers] == [False, True]


def test_arguments_travel_by_name() -> None:
    assert data(add.call(1)) == {"a": 1}
    assert data(add.call(1, 3)) == {"a": 1, "b": 3}
    assert data(add.call(b=3, a=1)) == {"a": 1, "b": 3}
    assert data(mail.call("ann", priority=1, more=5)) == {"user": "ann", "priority": 1, "more": 5}
    assert add.call(1).spread


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {}, "missing a required argument: 'a'"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"c": 3}, "unexpected keyword argument 'c'"),
        ((1,), {"a": 3}, "multiple values for argument 'a'"),
    ],
)
def test_arguments_are_checked_before_anything_is_sent(args: Any, kwargs: Any, said: str) -> None:
    with pytest.raises(TypeError, match=rf"task add\(a, b=2\): .*{said}"):
        add.submit(*args, **kwargs)
    with pytest.raises(TypeError, match=said):
        add.options(delay=5).call(*args, **kwargs)


def test_positional_only_and_keyword_only() -> None:
    own = TaskQueue("own", app=App("redis://127.0.0.1:1/0"))

    @own.task
    def odd(a: int, /, b: int, *, c: int = 3) -> None: ...

    assert data(odd.call(1, 2, c=4)) == {"a": 1, "b": 2, "c": 4}
    for args, kwargs in [((1, 2, 3), {}), ((), {"a": 1, "b": 2}), ((1,), {})]:
        with pytest.raises(TypeError):
            odd.call(*args, **kwargs)


def test_what_a_worker_gives_is_not_the_callers_to_pass() -> None:
    own = TaskQueue("own", app=App("redis://127.0.0.1:1/0"))

    @own.task
    def told(a: int, message: Message, app: App) -> None: ...

    plain: Any = told
    assert data(plain.call(1)) == {"a": 1}
    with pytest.raises(TypeError, match=r"task told\(a\)"):
        plain.call(1, 2)


class TestOptions:
    def test_among_the_arguments(self) -> None:
        call = add._split((1,), {"b": 3, "priority": "high", "delay": 5})
        assert call.data == {"a": 1, "b": 3}
        assert (call.options.priority, call.options.delay) == ("high", 5)

    def test_a_parameter_of_that_name_is_an_argument(self) -> None:
        call = mail._split(("ann",), {"priority": 1, "id": "7", "delay": 2})
        assert call.data == {"user": "ann", "priority": 1}
        assert (call.options.priority, call.options.id, call.options.delay) == ("low", "7", 2)

    def test_for_those_and_for_the_rest_there_is_options(self) -> None:
        call = mail.options(priority="high").call("ann", priority=1, delay=2)
        assert call.data == {"user": "ann", "priority": 1, "delay": 2}
        assert (call.options.priority, call.options.delay, call.options.expires) == ("high", None, 60)

    def test_those_of_the_task_are_the_default(self) -> None:
        assert (add.call(1).options.priority, mail.call("ann").options.priority) == ("normal", "low")
        assert mail.call("ann").options.unique_key == "mail:ann"
        assert mail.options(unique_key="mine").call("ann").options.unique_key == "mine"

    def test_what_cannot_be(self) -> None:
        for options in ({"priority": "urgent"}, {"delay": -1}, {"nothing": 1}):
            with pytest.raises(ConfigurationError, match=next(iter(options))):
                add.options(**options)
        number: Any = len
        wrong = queue.task(name="wrong", unique_key=number)(add.function)
        with pytest.raises(ConfigurationError, match="unique_key=3"):
            wrong.call("ann")


class TestRegistering:
    def test_one_name_is_one_task(self) -> None:
        def add() -> None: ...

        with pytest.raises(ConfigurationError, match=r"queue 'q' has a task 'add' already.*name="):
            queue.task(add)
        queue.task(name="add-nothing")(add)
        with pytest.raises(ConfigurationError, match="has a task 'add-nothing'"):
            queue.task(name="add-nothing")(add)

    def test_two_objects_are_one_queue(self) -> None:
        own = App("redis://127.0.0.1:1/0")
        first, second = TaskQueue("q", app=own), TaskQueue("q", app=own)
        first.task(name="a")(lambda: None)
        second.task(name="b")(lambda: None)
        [durable] = own._router.durables
        assert set(durable.jobs) == {"a", "b"}

    def test_the_options_of_the_queue_reach_its_worker(self) -> None:
        own = App("redis://127.0.0.1:1/0")
        TaskQueue("q", app=own, concurrency=3, lease=5, result_ttl=0, announce=True).task(lambda x: x)
        [durable] = own._router.durables
        assert (durable.concurrency, durable.lease, durable.announces, durable.is_queue) == (
            3,
            5.0,
            True,
            True,
        )
        assert [job.policy.result_ttl for job in durable.jobs.values()] == [0]

    @pytest.mark.parametrize(
        "options",
        [
            {"priorities": ()},
            {"priorities": "high"},
            {"priorities": ("a", "a")},
            {"priorities": ("a", "")},
            {"queue_name": ""},
            {"queue_name": 5},
            {"max_pending": 0},
            {"concurrency": 0},
            {"lease": 0},
            {"result_ttl": -1},
            {"url": "redis://x", "app": app},
        ],
    )
    def test_what_cannot_be(self, options: Any) -> None:
        with pytest.raises(ConfigurationError):
            TaskQueue(**{"queue_name": "x", **options})

    def test_names_of_its_own_app(self) -> None:
        own = TaskQueue("mine", url="redis://127.0.0.1:1/0")
        assert own.app._module == __name__
        assert repr(own).startswith("TaskQueue('mine' on App(")

    def test_a_signature_that_cannot_be_served(self) -> None:
        with pytest.raises(ConfigurationError, match=r"\*args"):
            queue.task(name="many")(lambda *args: args)


def what_a_type_checker_sees() -> None:
    """Checked, not run: a call with a wrong argument needs an ignore, one with an option keeps its result."""
    assert_type(add(1, 2), int)
    assert_type(add.submit(1, 2), TaskHandle[int])
    assert_type(add.submit(1, priority="high"), TaskHandle[int])
    assert_type(add.submit(1, 2).result(), int)
    assert_type(mail.submit("ann"), TaskHandle[str])
    assert_type(add.options(delay=5).submit(1), TaskHandle[int])
    assert_type(queue.submit_many([add.call(1)]), list[TaskHandle[int]])
    add.submit("one")  # type: ignore[call-overload]
    add.options(delay=5).submit("one")  # type: ignore[arg-type]
    add.call(1, 2, 3)  # type: ignore[call-arg]
