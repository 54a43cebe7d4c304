"""Every call that touches the server exists twice: to wait for, and to await."""

from __future__ import annotations

import inspect

import pytest

from redis_toolkit import App
from redis_toolkit._core.connection import Connections
from redis_toolkit._core.sync_driver import SyncDriver

PAIRS = ("publish", "publish_many", "request", "request_many", "health_check", "start", "stop")
TOUCH_NO_SERVER = {"on", "on_gap", "sibling"}
BLOCKS_FOR_GOOD = {"run"}
"""Serves in worker processes until a signal: inside a program of coroutines it is ``async with app``."""


def methods() -> dict[str, object]:
    return {
        name: value for name, value in inspect.getmembers(App, inspect.isfunction) if not name.startswith("_")
    }


@pytest.mark.parametrize("name", PAIRS)
def test_what_the_documentation_promises_exists_twice(name: str) -> None:
    assert name in methods()
    assert "a" + name in methods()


def test_every_method_has_a_twin_or_a_reason_to_have_none() -> None:
    names = set(methods())
    twins = {name for name in names if name[0] == "a" and name[1:] in names}
    assert names - twins == {name[1:] for name in twins} | TOUCH_NO_SERVER | BLOCKS_FOR_GOOD
    assert {name[1:] for name in twins} == set(PAIRS)


@pytest.mark.parametrize("name", PAIRS)
def test_twins_have_the_same_parameters(name: str) -> None:
    waiting, awaited = methods()[name], methods()["a" + name]
    assert inspect.signature(waiting) == inspect.signature(awaited)  # type: ignore[arg-type]
    assert not inspect.iscoroutinefunction(waiting)
    assert inspect.iscoroutinefunction(awaited)


@pytest.mark.parametrize("name", PAIRS)
def test_both_say_what_they_do(name: str) -> None:
    for each in (name, "a" + name):
        assert inspect.getdoc(getattr(App, each))
    assert f"`{name}`" in (inspect.getdoc(getattr(App, "a" + name)) or "")


def test_the_context_managers_are_twins() -> None:
    for name in ("enter", "exit"):
        waiting, awaited = getattr(App, f"__{name}__"), getattr(App, f"__a{name}__")
        assert inspect.signature(waiting) == inspect.signature(awaited)


def test_a_flow_has_no_twin() -> None:
    """What a driver for threads needs of connections and flows, one for loops has too, and no more."""
    from redis_toolkit._core.async_driver import AsyncDriver

    for method in ("__init__", "run"):
        waiting, awaited = getattr(SyncDriver, method), getattr(AsyncDriver, method)
        assert inspect.signature(waiting) == inspect.signature(awaited)
    assert not [name for name in dir(Connections) if name.startswith("a") and hasattr(Connections, name[1:])]
