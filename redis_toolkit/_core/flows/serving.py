"""Requests, the server's side: saying that one is there, claiming, replying.

Rules:

- A process says that it serves a channel by a ZSET entry with a lease and by a subscription; it takes
  the entry back when it stops, and a supervisor does so for a dead worker.
- A claim is one blocking pop on all lists of a source, followed by a non-blocking one on the list
  where work was found last: a backlog is taken in one round trip, and one waiting request wakes one
  process.
- Replies are pushed outside any script, as they are in the caller's slot, with a TTL of 60 s. Pushing
  one twice does no harm: the caller takes the first with its id.
"""

from __future__ import annotations

from collections.abc import Sequence

from redis_toolkit import keys
from redis_toolkit._core.flow import Call, Command, Flow, ScriptCall
from redis_toolkit._core.scripts import SERVE, WITHDRAW

__all__ = ["beat", "claim", "claim_backlog", "push_reply", "withdraw"]

REPLY_TTL_MS = 60_000


def beat(process: str, channels: Sequence[str], globs: Sequence[str], lease_ms: int) -> Flow[int]:
    """Say for one more lease that a process serves channels and globs; returns the server's ms."""
    members = [ScriptCall(SERVE, (keys.servers(name),), (process, lease_ms)) for name in (*channels, *globs)]
    members += [ScriptCall(SERVE, (keys.patterns(),), (glob, lease_ms)) for glob in globs]
    replies = yield Call(tuple(members), repeatable=True)
    return int(replies[-1])


def withdraw(process: str, names: Sequence[str]) -> Flow[int]:
    """Say that a process serves these channels and globs no more; returns how many requests wait."""
    if not names:
        return 0
    commands = tuple(
        ScriptCall(WITHDRAW, (keys.servers(name), keys.requests(name)), (process,)) for name in names
    )
    replies = yield Call(commands, repeatable=True)
    return sum(int(reply) for reply in replies)


def claim(lists: Sequence[str], block_s: float) -> Command:
    """Return the command that waits for one request on any of these lists (``BLPOP``)."""
    return ("BLPOP", *lists, block_s)


def claim_backlog(list_key: str, count: int) -> Command:
    """Return the command that takes up to ``count`` more without waiting (``LPOP key count``)."""
    return ("LPOP", list_key, count)


def push_reply(reply_to: str, body: bytes) -> tuple[Command, Command]:
    """Return the commands that deliver a reply (``RPUSH``, ``PEXPIRE``)."""
    return ("RPUSH", reply_to, body), ("PEXPIRE", reply_to, REPLY_TTL_MS)
