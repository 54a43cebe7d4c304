"""What a handler leaves behind when it forks: a copy of this process, which must not go on serving.

A forked child has the parent's sockets and none of its other threads. Whatever it does on the parent's
connections is done to the parent. So when a handler comes back in a child, the child ends.
"""

from __future__ import annotations

import os

__all__ = ["end_fork"]


def end_fork(pid: int, error: BaseException | None = None) -> None:
    """End this process if it is a fork of process ``pid``, with the exit code of a `SystemExit`."""
    if os.getpid() == pid:
        return
    code = error.code if isinstance(error, SystemExit) else (1 if error is not None else 0)
    os._exit(code if isinstance(code, int) else (0 if code is None else 1))
