"""The subscribers of a process: who hears the same server shares one, and one connection.

Rules:

- One begins with the first who hears anything, and ends with the last one.
- In a forked child nobody hears anything, and nothing is said on the connection, which is the parent's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future

from redis_toolkit._core.connection import Connections
from redis_toolkit.settings import Settings
from redis_toolkit.worker.hearer import Hearer
from redis_toolkit.worker.subscriber import Subscriber

__all__ = ["end_unused", "enter", "leave", "remove"]

_subscribers: dict[tuple[Connections, float, float], Subscriber] = {}
_lock = threading.Lock()


def enter(connections: Connections, settings: Settings, hearer: Hearer) -> tuple[Subscriber, Future[None]]:
    """Let somebody hear; returns by whom, and what is done once the server has confirmed it."""
    name = (connections, settings.ping_interval, settings.reconnect_cap)
    with _lock:
        found = _subscribers.get(name)
        if found is None or found.ended:
            found = _subscribers[name] = Subscriber(connections, settings)
        found.start()
        return found, found.add(hearer)


def leave(subscriber: Subscriber, hearer: Hearer) -> None:
    """Let somebody hear nothing any more but what was published before; the last one ends the connection."""
    subscriber.drain(hearer)
    subscriber.remove(hearer)
    end_unused()


def remove(hearer: Hearer) -> None:
    """Let somebody hear nothing any more, wherever that is, without waiting; `end_unused` may follow."""
    with _lock:
        found = list(_subscribers.values())
    for one in found:
        one.remove(hearer)


def end_unused(watch: Callable[[], None] | None = None) -> None:
    """End the connections on which nobody hears anything any more, and wait for that.

    Args:
        watch: who does not watch any of them any more.
    """
    with _lock:
        for one in _subscribers.values() if watch is not None else ():
            one.watching.discard(watch)
        unused = {name: one for name, one in _subscribers.items() if not one.used}
        for name in unused:
            del _subscribers[name]
    for one in unused.values():
        one.stop()


def _forget() -> None:
    """In a forked child: another thread of the parent may have held the lock."""
    global _lock
    _lock = threading.Lock()
    _subscribers.clear()


os.register_at_fork(after_in_child=_forget)
