"""Every call that touches the server exists twice: to wait for, and to await."""

from __future__ import annotations

import inspect

import pytest

from redis_toolkit import App
from redis_toolkit._core.connection import Connections
from redis_toolkit._core.sync_driver import SyncDriver
from redis_toolkit.patterns import (
    AsyncTask,
    ChatRoom,
    Membership,
    NotificationSystem,
    Task,
    TaskHandle,
    TaskQueue,
    UserNotificationClient,
)
from redis_toolkit.patterns.running import Running

PAIRS: dict[type, set[str]] = {
    App: {
        *(
            "publish",
            "publish_many",
            "request",
            "request_many",
            "health_check",
            "start",
            "stop",
            "groups",
            "dead",
            "requeue",
            "forget_group",
        ),
        *("dead", "requeue", "groups", "forget_group"),
    },
    TaskQueue: {
        *("submit_task", "submit", "submit_many", "gather", "create_worker", "start", "stop"),
        *("pause", "resume", "purge", "stats", "join", "dead", "retry_dead"),
    },
    Task: {"submit"},
    AsyncTask: {"submit"},
    TaskHandle: {"result", "status", "progress", "cancel"},
    Running: {"stop"},
    NotificationSystem: {
        *(
            "send_notification",
            "broadcast",
            "unread",
            "unread_count",
            "mark_read",
            "mark_all_read",
            "dropped",
        ),
        "stop",
    },
    UserNotificationClient: {"unread", "unread_count", "mark_read", "mark_all_read", "stop"},
    ChatRoom: {
        *("join", "leave", "members", "send_message", "typing", "send_direct", "history", "direct_history"),
        *("metadata", "set_metadata", "rooms"),
    },
    Membership: {"stop"},
}
TO_BE_ITERATED = {(ChatRoom, "join")}
"""Its twin is awaited, or entered by ``async with``, or iterated over."""
TOUCH_NO_SERVER: dict[type, set[str]] = {
    App: {"on", "on_gap", "sibling"},
    TaskQueue: {"task", "call", "handle"},
    Task: {"call", "options"},
    AsyncTask: {"call", "options"},
}
SMALL_API: dict[type, set[str]] = {
    TaskQueue: {"cleanup"},
    Running: {"cleanup"},
    Membership: {"cleanup"},
    NotificationSystem: {"cleanup"},
    UserNotificationClient: {"cleanup"},
}
"""Other names of `stop`, that may be called anywhere."""
BLOCKS_FOR_GOOD: dict[type, set[str]] = {App: {"run"}, TaskQueue: {"run"}}
"""Serves in worker processes until a signal: inside a program of coroutines it is ``async with app``."""
ALL = [(kind, name) for kind, names in PAIRS.items() for name in sorted(names)]


def methods(kind: type) -> dict[str, object]:
    return {
        name: value
        for name, value in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


@pytest.mark.parametrize("kind", PAIRS)
def test_every_method_has_a_twin_or_a_reason_to_have_none(kind: type) -> None:
    names = set(methods(kind))
    twins = {name for name in names if name[0] == "a" and name[1:] in names}
    alone = [reason.get(kind, set()) for reason in (TOUCH_NO_SERVER, SMALL_API, BLOCKS_FOR_GOOD)]
    assert {name[1:] for name in twins} == PAIRS[kind]
    assert names - twins == PAIRS[kind].union(*alone)


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_twins_have_the_same_parameters(kind: type, name: str) -> None:
    waiting, awaited = methods(kind)[name], methods(kind)["a" + name]
    given = [list(inspect.signature(one).parameters.values()) for one in (waiting, awaited)]  # type: ignore[arg-type]
    assert given[0] == given[1]
    if (kind, name) not in TO_BE_ITERATED:
        assert inspect.signature(waiting) == inspect.signature(awaited)  # type: ignore[arg-type]
    assert not inspect.iscoroutinefunction(waiting)
    assert inspect.iscoroutinefunction(awaited) or (kind, name) in TO_BE_ITERATED


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_both_say_what_they_do(kind: type, name: str) -> None:
    for each in (name, "a" + name):
        assert inspect.getdoc(getattr(kind, each))
    assert f"`{name}`" in (inspect.getdoc(getattr(kind, "a" + name)) or "")


def test_the_context_managers_are_twins() -> None:
    for kind in (App, TaskQueue, Running, Membership):
        for name in ("enter", "exit"):
            waiting, awaited = getattr(kind, f"__{name}__"), getattr(kind, f"__a{name}__")
            assert inspect.signature(waiting) == inspect.signature(awaited)


def test_a_flow_has_no_twin() -> None:
    """What a driver for threads needs of connections and flows, one for loops has too, and no more."""
    from redis_toolkit._core.async_driver import AsyncDriver

    for method in ("__init__", "run"):
        waiting, awaited = getattr(SyncDriver, method), getattr(AsyncDriver, method)
        assert inspect.signature(waiting) == inspect.signature(awaited)
    assert not [name for name in dir(Connections) if name.startswith("a") and hasattr(Connections, name[1:])]
