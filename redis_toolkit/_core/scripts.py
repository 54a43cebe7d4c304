"""The Lua scripts, one file per operation in ``lua/``, loaded once.

Rules: a file opens with ``KEYS / ARGV / Returns``; comment lines are not sent; a script touches only
keys of one hash tag, uses the server's clock (TIME), and does first what is allowed under maxmemory.
A script that touches many keys of one kind is given their prefix, in the same hash tag, as one of its KEYS.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

__all__ = [
    "CLAIM",
    "CLEAN",
    "FORGET",
    "GROUP",
    "GROUPS",
    "HEARTBEAT",
    "LEAVE",
    "PATTERNS",
    "PROMOTE",
    "PUBLISH",
    "RECOVER",
    "REFUSE",
    "RELEASE",
    "REQUEST",
    "REVIVE",
    "SERVE",
    "SETTLE",
    "TASK_CANCEL",
    "TASK_FIND",
    "TASK_PROGRESS",
    "TASK_PURGE",
    "TASK_STATS",
    "TASK_SUBMIT",
    "TASK_WAIT",
    "TRIM",
    "UNLOCK",
    "WITHDRAW",
    "Script",
]


@dataclass(frozen=True, slots=True)
class Script:
    """A script: its name in ``lua/``, the text that is sent, and the SHA1 of that text."""

    name: str
    text: str
    sha: str


def _load(name: str) -> Script:
    source = files("redis_toolkit._core").joinpath("lua", f"{name}.lua").read_text("utf-8")
    lines = (line.strip() for line in source.splitlines())
    text = "\n".join(line for line in lines if line and not line.startswith("--"))
    return Script(name, text, hashlib.sha1(text.encode("utf-8"), usedforsecurity=False).hexdigest())


REQUEST = _load("request")
REFUSE = _load("refuse")
SERVE = _load("serve")
WITHDRAW = _load("withdraw")
PATTERNS = _load("patterns")

CLAIM = _load("claim")
CLEAN = _load("clean")
FORGET = _load("forget")
GROUP = _load("group")
GROUPS = _load("groups")
HEARTBEAT = _load("heartbeat")
LEAVE = _load("leave")
PROMOTE = _load("promote")
PUBLISH = _load("publish")
RECOVER = _load("recover")
RELEASE = _load("release")
REVIVE = _load("revive")
SETTLE = _load("settle")
TASK_CANCEL = _load("task_cancel")
TASK_FIND = _load("task_find")
TASK_PROGRESS = _load("task_progress")
TASK_PURGE = _load("task_purge")
TASK_STATS = _load("task_stats")
TASK_SUBMIT = _load("task_submit")
TASK_WAIT = _load("task_wait")
TRIM = _load("trim")
UNLOCK = _load("unlock")
