"""The worker process's side: serve until the supervisor says stop, a signal comes, or it is gone.

``python -m redis_toolkit.worker.child module:attribute`` is how a supervisor starts a worker for an app
that lives in an importable module.
"""

from __future__ import annotations

import importlib
import logging
import signal
import socket
import sys
import threading
from types import FrameType
from typing import Any, NoReturn

from redis_toolkit.worker.assignment import Assignment, Channel, assignment
from redis_toolkit.worker.node import Node

__all__ = ["serve", "until_signal"]

logger = logging.getLogger("redis_toolkit")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def until_signal(stop: threading.Event) -> None:
    """Wait until ``stop`` is set, which SIGTERM and SIGINT do in the main thread."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            stop.set()

        before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        while not stop.wait(timeout=3600):
            pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def serve(node: Node, part: Assignment, grace: float) -> NoReturn:
    """Serve as a worker process, then end it: exit code 0 after a stop, 1 when it cannot start."""
    channel = Channel(socket.socket(fileno=part.fd))
    stop = threading.Event()
    try:
        node.start()
    except Exception as error:
        logger.error("worker process cannot start: %s", error)
        channel.send(failed=str(error))
        raise SystemExit(1) from error
    channel.send(ready=True)
    threading.Thread(target=_obey, args=(channel, node, stop), name="rt-supervised", daemon=True).start()
    until_signal(stop)
    node.stop(grace)
    raise SystemExit(0)


def _obey(channel: Channel, node: Node, stop: threading.Event) -> None:
    """Do what the supervisor says; when it is gone, stop."""
    while (messages := channel.receive()) is not None:
        for message in messages:
            if "listen" in message:
                node.listener.listen(message["listen"], message.get("reason", ""))
            elif "stop" in message:
                stop.set()
    stop.set()


def main(target: str) -> NoReturn:
    """Import an app by ``module:attribute`` and serve it as a worker process."""
    part = assignment()
    if part is None:
        raise SystemExit("this module is started by a supervisor only: use app.run(workers=N)")
    sys.path[:] = list(part.path)
    module, _, attribute = target.partition(":")
    app: Any = importlib.import_module(module)
    for name in attribute.split("."):
        app = getattr(app, name)
    app._serve_as_worker()
    raise SystemExit(0)


if __name__ == "__main__":
    main(sys.argv[1])
