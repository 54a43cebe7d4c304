"""The Lua scripts, one file per operation in ``lua/``, each read once, when it is first needed.

Rules: a file opens with ``KEYS / ARGV / Returns``; comment lines are not sent; a script touches only
keys of one hash tag, uses the server's clock (TIME), and does first what is allowed under maxmemory.
A script that touches many keys of one kind is given their prefix, in the same hash tag, as one of its KEYS.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

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
    "ROOM_DIRECT",
    "ROOM_HERE",
    "ROOM_LEAVE",
    "ROOM_READ",
    "ROOM_SEEN",
    "ROOM_SEND",
    "ROOM_SWEEP",
    "ROOM_TYPING",
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
    "BROADCASTS",
    "MARK_READ",
    "NOTIFICATIONS",
    "NOTIFY",
    "Script",
]


__loader__: Any  # which finds data beside modules, in a directory or in a zip file
_FOLDER = str(Path(__file__).with_name("lua"))


class Script:
    """A script, read when it is first needed.

    Args:
        name: its name in ``lua/``.

    Attributes:
        text: what is sent: the file without its comments.
        sha: the SHA1 of that text.
    """

    text: str
    sha: str

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, name: str) -> str:
        """Read the file when one of the two is asked for first; without a lock, which a fork might keep."""
        if name not in ("text", "sha"):
            raise AttributeError(name)
        source: str = __loader__.get_data(f"{_FOLDER}/{self.name}.lua").decode("utf-8")
        lines = (line.strip() for line in source.splitlines())
        self.text = "\n".join(line for line in lines if line and not line.startswith("--"))
        self.sha = hashlib.sha1(self.text.encode("utf-8"), usedforsecurity=False).hexdigest()
        return self.text if name == "text" else self.sha

    def __repr__(self) -> str:
        return f"Script({self.name!r})"


REQUEST = Script("request")
REFUSE = Script("refuse")
SERVE = Script("serve")
WITHDRAW = Script("withdraw")
PATTERNS = Script("patterns")

CLAIM = Script("claim")
CLEAN = Script("clean")
FORGET = Script("forget")
GROUP = Script("group")
GROUPS = Script("groups")
HEARTBEAT = Script("heartbeat")
LEAVE = Script("leave")
PROMOTE = Script("promote")
PUBLISH = Script("publish")
RECOVER = Script("recover")
RELEASE = Script("release")
REVIVE = Script("revive")
SETTLE = Script("settle")
TASK_CANCEL = Script("task_cancel")
TASK_FIND = Script("task_find")
TASK_PROGRESS = Script("task_progress")
TASK_PURGE = Script("task_purge")
TASK_STATS = Script("task_stats")
TASK_SUBMIT = Script("task_submit")
TASK_WAIT = Script("task_wait")
TRIM = Script("trim")
UNLOCK = Script("unlock")

BROADCASTS = Script("broadcasts")
MARK_READ = Script("mark_read")
NOTIFICATIONS = Script("notifications")
NOTIFY = Script("notify")
ROOM_DIRECT = Script("room_direct")
ROOM_HERE = Script("room_here")
ROOM_LEAVE = Script("room_leave")
ROOM_READ = Script("room_read")
ROOM_SEEN = Script("room_seen")
ROOM_SEND = Script("room_send")
ROOM_SWEEP = Script("room_sweep")
ROOM_TYPING = Script("room_typing")
