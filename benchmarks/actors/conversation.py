"""How an actor talks with the benchmark that started it: one line of JSON in, one line of JSON out.

An order is ``{"do": name, ...parameters}``; the answer is ``{"result": ...}`` or ``{"error": text}``.
The first line of an actor says that it is ready.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["aconverse", "converse", "options"]


def options() -> tuple[str, dict[str, Any]]:
    """Return the role and the options that this program was started with."""
    return sys.argv[1], json.loads(sys.argv[2])


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
