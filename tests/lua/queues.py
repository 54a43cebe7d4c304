"""A queue with two priorities, for tests of what workers do with it."""

from __future__ import annotations

from redis_toolkit import keys
from redis_toolkit._core.flows import tasks
from redis_toolkit._core.flows.tasks import Submission
from redis_toolkit._core.flows.work import Claimed
from tests.kit.servers import Server
from tests.lua import trips
from tests.lua.driving import drive

PRIORITIES = ("high", "low")
SOURCE = tasks.queue_source("q", PRIORITIES)
HIGH, LOW = SOURCE.streams
GROUP = tasks.GROUP
DELAYED, BODIES, DEAD = SOURCE.delayed, SOURCE.bodies, SOURCE.dead


def record(id: str) -> str:
    return keys.task_record("q", id)


def submit(server: Server, *ids: str, priority: str = "low") -> None:
    many = [Submission(name, b'{"id":"%s"}' % name.encode(), priority) for name in ids]
    drive(server, tasks.submit_many("q", many, PRIORITIES))


def claim(server: Server, free: int = 100, consumer: str = "me") -> list[Claimed]:
    return drive(server, trips.claim(SOURCE, consumer, free)).items


def claimed(server: Server, *ids: str, consumer: str = "me", priority: str = "low") -> list[Claimed]:
    """Submit tasks and claim them."""
    submit(server, *ids, priority=priority)
    items = claim(server, consumer=consumer)
    assert [item.body for item in items] == [b'{"id":"%s"}' % name.encode() for name in ids]
    return items
