"""Connections for event loops, opened in threads of our own.

Rules:

- redis-py connects and logs in, as for every other connection: TLS and logins are handled in one place.
  That blocks, so it happens in a daemon thread: the loop's default executor belongs to the application,
  which may have filled it or shut it down, and a name lookup that hangs must not hold up the end of a
  program.
- At most `THREADS` at a time in a process; whoever comes then waits until its deadline.
- A connection whose caller has gone is closed.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time

from redis_toolkit._core.connection import Connections, Link
from redis_toolkit._core.recovery import sort

__all__ = ["open_link"]

THREADS = 32
WAIT = 0.02
"""Seconds between two looks whether there is room for another thread."""
_opening: set[threading.Thread] = set()


async def open_link(connections: Connections, deadline: float) -> Link:
    """Return a new connection, made in a thread by a deadline (monotonic seconds).

    Raises:
        Failed: not reached, or not let in.
    """
    while len(_opening) >= THREADS:
        if time.monotonic() >= deadline:
            error = TimeoutError(f"{THREADS} earlier attempts still hang")
            raise sort(error, sent=False, where=connections.where, advise=not connections.reached)
        await asyncio.sleep(WAIT)
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Link] = loop.create_future()
    thread = threading.Thread(
        target=_open, args=(connections, deadline, loop, done), name="rt-connect", daemon=True
    )
    _opening.add(thread)
    try:
        thread.start()
    except RuntimeError as error:  # no more threads, or the interpreter is going down
        _opening.discard(thread)
        raise sort(error, sent=False, where=connections.where, advise=not connections.reached) from error
    return await done


def _open(
    connections: Connections,
    deadline: float,
    loop: asyncio.AbstractEventLoop,
    done: asyncio.Future[Link],
) -> None:
    link: Link | None = None
    failure: BaseException | None = None
    try:
        link = connections.dedicated(deadline)
    except BaseException as error:  # raised where the result is awaited
        failure = error
    finally:
        _opening.discard(threading.current_thread())
    try:
        loop.call_soon_threadsafe(_hand_over, done, link, failure)
    except RuntimeError:  # the loop has been closed meanwhile
        if link is not None:
            link.close()


def _hand_over(done: asyncio.Future[Link], link: Link | None, failure: BaseException | None) -> None:
    if done.done():  # cancelled
        if link is not None:
            link.close()
    elif link is not None:
        done.set_result(link)
    else:
        assert failure is not None
        done.set_exception(failure)


os.register_at_fork(after_in_child=_opening.clear)
