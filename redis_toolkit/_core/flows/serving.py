"""Requests, the server's side: saying that one is there, claiming, replying.

Rules:

- A process says that it serves a channel by a ZSET entry with a lease and by a subscription; it takes
  the entry back when it stops, and a supervisor does so for a dead worker.
- A claim is one blocking pop on all lists of a source, then non-blocking ones on those where work was
  found of late, or these alone: a backlog is taken in one round trip, and one waiting request wakes one
  process. Which lists, and how many requests, `worker/claiming.py` says.
- Replies are pushed outside any script, as they are in the caller's slot, with a TTL of 60 s. Pushing
  one twice does no harm: the caller takes the first with its id.
- A caller whose reply is refused for want of memory is told so, in a few bytes that a script may push.
"""

from __future__ import annotations

from collections.abc import Sequence

from redis_toolkit import keys
from redis_toolkit._core.flow import Call, Command, Flow, ScriptCall, by_text
from redis_toolkit._core.scripts import REFUSE, SERVE, WITHDRAW

__all__ = ["beat", "check", "claim_backlog", "push_refusals", "push_replies", "withdraw"]

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


def claim_backlog(list_key: bytes, count: int) -> Command:
    """Return the command that takes up to ``count`` without waiting (``LPOP key count``)."""
    return ("LPOP", list_key, count)


def check(list_key: bytes) -> Command:
    """Return the command that shows whether the server lets a list be used (``LLEN``)."""
    return ("LLEN", list_key)


def push_replies(replies: Sequence[tuple[str, bytes]]) -> list[tuple[Command, Command]]:
    """Return the commands that deliver replies, a pair (``RPUSH``, ``PEXPIRE``) for each address.

    Args:
        replies: address and body of each. What goes to one address is pushed at once, in this order.
    """
    bodies: dict[str, list[bytes]] = {}
    for reply_to, body in replies:
        bodies.setdefault(reply_to, []).append(body)
    return [
        (("RPUSH", reply_to, *some), ("PEXPIRE", reply_to, REPLY_TTL_MS)) for reply_to, some in bodies.items()
    ]


def push_refusals(reply_to: str, bodies: Sequence[bytes]) -> Command:
    """Return the command that delivers short error replies to one address when memory is full."""
    return by_text(ScriptCall(REFUSE, (reply_to,), (REPLY_TTL_MS, *bodies)))
