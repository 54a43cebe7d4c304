"""What a handler leaves behind when it forks: a copy of this process, which must not go on serving.

A forked child has the parent's sockets and none of its other threads. Whatever it does on the parent's
connections is done to the parent. So when a handler comes back in a child, the child ends.
"""

from __future__ import annotations

import os

__all__ = ["end_fork", "generation"]

generation = 0
"""How many forks there are between the first process and this one: asked for each message, and cheaper than
the process id, which is a system call."""


def end_fork(before: int, error: BaseException | None = None) -> None:
    """End this process if it was forked since the generation was ``before``.

    Its exit code is that of a `SystemExit`, 1 for another error, else 0.
    """
    if generation == before:
        return
    code = error.code if isinstance(error, SystemExit) else (1 if error is not None else 0)
    os._exit(code if isinstance(code, int) else (0 if code is None else 1))


def _forked() -> None:
    global generation
    generation += 1


os.register_at_fork(after_in_child=_forked)
