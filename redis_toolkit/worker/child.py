"""The worker process's side: serve until the supervisor says stop, a signal comes, or it is gone.

``python -m redis_toolkit.worker.child module:attribute [module...]`` is how a supervisor starts a worker
for an app that lives in an importable module; the others are those that its handlers are from.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from redis_toolkit.worker.assignment import Assignment, Channel, assignment
from redis_toolkit.worker.node import Node

__all__ = ["serve", "until_signal"]

logger = logging.getLogger("redis_toolkit")

LOOK_UP = 1.0
"""Seconds between two looks at whether the supervisor is still there."""
LAST_SECONDS = 1.0
"""Seconds that a second signal leaves, so that the registrations are taken back at least."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def _signals_set(stop: threading.Event, again: threading.Event | None = None) -> Iterator[None]:
    """SIGTERM and SIGINT set ``stop``, and after that ``again``, when this is the main thread."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            if again is not None and stop.is_set():
                again.set()
            stop.set()

        before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(stop: threading.Event, supervisor: int | None, node: Node) -> None:
    """Wait for the stop; for the end of the supervisor, whose socket a fork of it may keep open; or until
    this process had better be replaced."""
    while not stop.wait(timeout=LOOK_UP):
        if supervisor is not None and os.getppid() != supervisor:
            logger.warning("the supervisor %d is gone: stopping", supervisor)
            return
        if node.wants_recycling:
            logger.warning("as many handlers run beyond their timeout as may run at once: this process ends")
            return


def until_signal(start: Callable[[], None], stop: threading.Event, end: Callable[[], None]) -> None:
    """Call ``start``, wait for SIGTERM or SIGINT or for ``stop`` to be set by somebody else; call ``end``.

    A signal that comes before ``start`` has returned counts. One that comes after the stop does not wait for
    ``end``, which goes on in its thread. Outside the main thread there are none.
    """
    again = threading.Event()
    with _signals_set(stop, again):
        try:
            start()
            while not stop.wait(timeout=3600):
                continue
        finally:
            stop.set()
            _end(end, again)


def _end(end: Callable[[], None], again: threading.Event) -> None:
    """Call ``end`` in a thread, and wait for it, or for ``again`` to be set."""
    errors: list[BaseException] = []
    ended = threading.Event()

    def run() -> None:
        try:
            end()
        except BaseException as error:  # raised where it is waited for
            errors.append(error)
        finally:
            ended.set()
            again.set()

    try:
        threading.Thread(target=run, name="rt-stop", daemon=True).start()
    except RuntimeError:  # the interpreter is about to end, and starts no more threads
        run()
    again.wait()
    if not ended.wait(LAST_SECONDS):
        logger.warning("a second signal: handlers that still run are not waited for")
    if errors:
        raise errors[0]


def serve(
    node: Node, part: Assignment, grace: float, serving: Callable[[Callable[[], object] | None], None]
) -> NoReturn:
    """Serve as a worker process, then end it: exit code 0 after a stop, 1 when it cannot start.

    From the first claim to the last answer a signal means: stop within the grace period. Service
    managers signal every process, so that workers get SIGTERM twice; who cannot wait kills.

    Args:
        node: what serves.
        part: this worker's part.
        grace: seconds that running handlers get.
        serving: told what asks the supervisor to stop all workers, and None when this one stops itself.
    """
    channel = Channel(socket.socket(fileno=part.fd))
    stop = threading.Event()
    with _signals_set(stop):
        try:
            node.start()
        except Exception as error:
            logger.error("worker process cannot start: %s", error)
            channel.send(failed=str(error))
            raise SystemExit(1) from error
        serving(lambda: channel.send(stop=True))
        channel.send(ready=True)
        threading.Thread(target=_obey, args=(channel, node, stop), name="rt-supervised", daemon=True).start()
        _wait(stop, part.supervisor, node)
        serving(None)
        channel.send(stopping=True)  # another worker listens while this one finishes its work
        node.stop(grace)
        raise SystemExit(0)


def _obey(channel: Channel, node: Node, stop: threading.Event) -> None:
    """Do what the supervisor says; when it is gone, stop."""
    while (messages := channel.receive()) is not None:
        for message in messages:
            if "listen" in message:
                node.listener.listen(message["listen"], message.get("reason", ""))
                told = threading.Thread(target=_confirm, args=(channel, node, stop), daemon=True)
                told.start()
            elif "stop" in message:
                stop.set()
    stop.set()


def _confirm(channel: Channel, node: Node, stop: threading.Event) -> None:
    """Tell the supervisor once the listener hears everything."""
    while not stop.is_set():
        if node.listener.wait_confirmed(timeout=0.5):
            channel.send(listening=True)
            return


def main(target: str, *others: str) -> NoReturn:
    """Import an app by ``module:attribute``, and the modules with its handlers, and serve it."""
    part = assignment()
    if part is None:
        raise SystemExit("this module is started by a supervisor only: use app.run(workers=N)")
    sys.path[:] = list(part.path)
    module, _, attribute = target.partition(":")
    app: Any = importlib.import_module(module)
    for name in attribute.split("."):
        app = getattr(app, name)
    for other in others:
        importlib.import_module(other)
    app._serve_as_worker()
    raise SystemExit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
