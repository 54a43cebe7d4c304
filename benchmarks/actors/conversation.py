"""How an actor talks with the benchmark that started it: one line of JSON in, one line of JSON out.

An order is ``{"do": name, ...parameters}``; the answer is ``{"result": ...}`` or ``{"error": text}``.
The first line of an actor says that it is ready.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["aconverse", "converse", "play"]


def play(
    *roles: Callable[..., Any], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> None:
    """Play the role whose name this program was started with, with the options that came with it.

    Args:
        *roles: what it can be; a coroutine function is run on an event loop.
        loop_factory: makes that loop; None means asyncio's own.
    """
    role = {one.__name__: one for one in roles}[sys.argv[1]]
    given = json.loads(sys.argv[2])
    if inspect.iscoroutinefunction(role):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(role(**given))
    else:
        role(**given)


def converse(**commands: Callable[..., Any]) -> None:
    """Carry out orders until there are no more."""
    _say({"result": "ready"})
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = {"result": commands[order.pop("do")](**order)}
        except Exception as error:
            answer = _failure(error)
        _say(answer)


async def aconverse(**commands: Callable[..., Awaitable[Any]]) -> None:
    """Carry out orders until there are no more; the loop goes on while there is none."""
    _say({"result": "ready"})
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        try:
            answer = {"result": await commands[order.pop("do")](**order)}
        except Exception as error:
            answer = _failure(error)
        _say(answer)


def _failure(error: Exception) -> dict[str, Any]:
    traceback.print_exc()
    return {"error": f"{type(error).__name__}: {error}"}


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)
