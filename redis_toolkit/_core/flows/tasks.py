"""Queues, the caller's side: submitting tasks, purging, counting.

Rules:

- A plain submit is one ``XADD``; only what is later, once or limited needs a script.
- A submit is repeated after an unknown outcome only if it carries a dedupe id.
- How a task ends, and who waits for that, is in ``task_ends.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from redis_toolkit import keys
from redis_toolkit._core.flow import Call, Command, Deadline, Flow, ScriptCall
from redis_toolkit._core.flows.work import Held, Source
from redis_toolkit._core.scripts import TASK_PROGRESS, TASK_PURGE, TASK_STATS, TASK_SUBMIT, UNLOCK
from redis_toolkit.errors import QueueFull, counted

__all__ = [
    "GROUP",
    "Stats",
    "Submission",
    "Submitted",
    "add",
    "all_cancelled",
    "progress",
    "purge",
    "queue_source",
    "stats",
    "submit_many",
    "unlock",
]

GROUP = "workers"
CHUNK = 1000
PURGED = 500


def queue_source(queue: str, priorities: Sequence[str]) -> Source:
    """Return the keys of a queue, its priorities in the order of claiming."""
    places = tuple(keys.task_place(priority) for priority in priorities)
    return Source(
        name=queue,
        group=GROUP,
        streams=tuple(keys.task_ready(queue, priority) for priority in priorities),
        prefix=keys.task_streams(queue),
        back=places,
        makeable=len(places),
        leaves=(True,) * len(places),
        id_field="",
        delayed=keys.task_delayed(queue),
        bodies=keys.task_bodies(queue),
        dead=keys.task_dead(queue),
        counters=keys.task_counters(queue),
        paused=keys.task_paused(queue),
        cancelled=keys.task_cancelled(queue),
        waiters=keys.task_waiters(queue),
        records=keys.task_records(queue),
        locks=keys.task_locks(queue),
        due=keys.task_due(queue),
        control=keys.task_control(queue),
    )


@dataclass(slots=True)
class Submission:
    """One task to submit.

    Attributes:
        id: its id; also the dedupe id when ``once_ms`` is set.
        envelope: its body.
        priority: one of the queue's.
        delay_ms: how much later it becomes ready, or None.
        due_ms: the server's ms when it does, or None; goes before ``delay_ms``.
        once_ms: for how long another submit with this id adds nothing, or None.
        unique: a key that one task of the queue holds at a time, until it has ended, or None.
        unique_ms: when the key is free again although its task has not ended.
    """

    id: str
    envelope: bytes
    priority: str
    delay_ms: int | None = None
    due_ms: int | None = None
    once_ms: int | None = None
    unique: str | None = None
    unique_ms: int = 24 * 3600 * 1000


@dataclass(slots=True)
class Submitted:
    """What came of it: ``ready``, ``later``, ``same`` (submitted before) or ``locked``.

    ``detail`` is the entry id, the server's ms when it is due, either of these, or the id of the task that
    holds the unique key.
    """

    state: str
    detail: str


def _submit_command(
    queue: str, task: Submission, streams: dict[str, str], most: int | None
) -> Command | ScriptCall:
    ready = streams.get(task.priority) or keys.task_ready(queue, task.priority)
    plain = task.delay_ms is None and task.due_ms is None and task.once_ms is None and task.unique is None
    if plain and most is None:
        return ("XADD", ready, "*", "b", task.envelope)
    bodies = keys.task_bodies(queue)
    return ScriptCall(
        TASK_SUBMIT,
        (
            ready,
            keys.task_delayed(queue),
            bodies,
            bodies if task.once_ms is None else keys.task_submitted(queue, task.id),
            bodies if task.unique is None else keys.task_lock(queue, task.unique),
            *streams.values(),
        ),
        (
            task.id,
            task.envelope,
            keys.task_place(task.priority),
            "" if task.delay_ms is None else task.delay_ms,
            "" if task.due_ms is None else task.due_ms,
            "" if most is None else most,
            "" if task.once_ms is None else task.once_ms,
            "" if task.unique is None else task.unique_ms,
            keys.task_due(queue),
        ),
    )


def add(entries: Sequence[tuple[str, bytes]]) -> Flow[list[str]]:
    """Add plain tasks in order (stream and envelope of each); returns the ids of their entries (``XADD``)."""
    added: list[str] = []
    for start in range(0, len(entries), CHUNK):
        chunk = entries[start : start + CHUNK]
        replies = yield Call(tuple([("XADD", stream, "*", "b", envelope) for stream, envelope in chunk]))
        added += [reply.decode("ascii") for reply in replies]
    return added


def submit_many(
    queue: str, tasks: Sequence[Submission], priorities: Sequence[str], *, max_pending: int | None = None
) -> Flow[list[Submitted | QueueFull]]:
    """Submit tasks in order, in few round trips; returns what came of each.

    What is refused as there are ``max_pending`` ready, running or due later is a `QueueFull` there.
    """
    done: list[Submitted | QueueFull] = []
    streams = {priority: keys.task_ready(queue, priority) for priority in priorities}
    for start in range(0, len(tasks), CHUNK):
        chunk = tasks[start : start + CHUNK]
        commands = tuple(_submit_command(queue, task, streams, max_pending) for task in chunk)
        repeatable = all(task.once_ms is not None for task in chunk)
        for reply in (yield Call(commands, repeatable=repeatable)):
            if isinstance(reply, bytes):
                done.append(Submitted("ready", reply.decode("ascii")))
                continue
            state = reply[0].decode("ascii")
            if state == "full":
                holds = counted(reply[1], "task")
                done.append(QueueFull(f"queue {queue!r} holds {holds}, its max_pending is {max_pending:,}"))
            else:
                done.append(Submitted(state, reply[1].decode("utf-8", "backslashreplace")))
    return done


# -- one task -------------------------------------------------------------------------------------------


def all_cancelled(source: Source) -> Flow[list[str]]:
    """Return every id that was cancelled and has not ended (``ZRANGE``)."""
    [ids] = yield Call((("ZRANGE", source.cancelled, 0, -1),), repeatable=True)
    return [name.decode("utf-8", "replace") for name in ids]


def progress(source: Source, consumer: str, held: Held, id: str, said: bytes, keep_ms: int) -> Flow[bool]:
    """Say how far a running task is, for ``keep_ms``; returns whether it is this consumer's still."""
    call = ScriptCall(
        TASK_PROGRESS,
        (source.streams[held.stream], source.records + id),
        (source.group, consumer, held.entry, held.deliveries, said, keep_ms),
    )
    replies = yield Call((call,), repeatable=True)
    return bool(replies[0])


# -- the whole queue ----------------------------------------------------------------------------------


def unlock(queue: str, locks: Sequence[tuple[str, str]]) -> Flow[int]:
    """Free unique keys whose tasks will not run (unique key and task id of each)."""
    if not locks:
        return 0
    call = ScriptCall(
        UNLOCK, tuple(keys.task_lock(queue, key) for key, _ in locks), tuple(whose for _, whose in locks)
    )
    replies = yield Call((call,), repeatable=True)
    return int(replies[0])


def purge(source: Source, marked: str) -> Flow[tuple[int, list[bytes]]]:
    """Remove every task that no worker has claimed; returns how many, and bodies with a text in them."""
    removed, found = 0, list[bytes]()
    for stream in source.streams:
        call = ScriptCall(TASK_PURGE, (source.delayed, source.bodies, stream), (source.group, PURGED, marked))
        count = PURGED
        while count == PURGED:
            [[count, bodies]] = yield Call((call,), repeatable=True)
            removed += count
            found += bodies
    return removed, found


@dataclass(slots=True)
class Stats:
    """What a queue holds at one moment.

    Attributes:
        ready: by priority, not claimed yet.
        running: claimed by a worker.
        later: due later.
        dead: dead letters.
        consumers: consumers known to the server, the most of any priority.
        counters: how many have ended, by outcome; retries and delays of unknown types under ``later``.
    """

    ready: dict[str, int]
    running: int
    later: int
    dead: int
    paused: bool
    consumers: int
    counters: dict[str, int]


def stats(source: Source, priorities: Sequence[str], deadline: Deadline | None = None) -> Flow[Stats]:
    """Count what a queue holds, by a deadline if there is one."""
    named = (source.delayed, source.dead, source.counters, source.paused, *source.streams)
    [[later, dead, paused, flat, *streams]] = yield Call(
        (ScriptCall(TASK_STATS, named, (source.group,)),), repeatable=True, deadline=deadline
    )
    counted = zip(flat[::2], flat[1::2], strict=True)
    return Stats(
        ready={name: length - held for name, (length, held, _) in zip(priorities, streams, strict=True)},
        running=sum(held for _, held, _ in streams),
        later=later,
        dead=dead,
        paused=bool(paused),
        consumers=max((count for *_, count in streams), default=0),
        counters={name.decode("utf-8", "replace"): int(number) for name, number in counted},
    )
