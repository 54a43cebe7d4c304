"""A chat in the terminal, for as many people as there are terminals.

Run it:  .venv/bin/python examples/terminal_chat.py Ann lobby       and in another terminal: ... Bob lobby

A line that you type goes to all, /who says who is there, and Ctrl-D ends it. `make chat` has the same rooms.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from redis_toolkit import App
from redis_toolkit.patterns import ChatRoom

# All who name one server meet there: REDIS_TOOLKIT_URL=redis://localhost:6379/0, or that of this directory.
app = App(os.environ.get("REDIS_TOOLKIT_URL") or f"embedded://{Path(__file__).resolve().parent / '.data'}")


def write(line: str) -> None:
    print(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", line), flush=True)  # nobody else controls this terminal


def show(type: str, user: str, text: Any, timestamp: float, **_others: Any) -> None:
    said = {"message": f": {text}", "join": " joined", "leave": " left"}.get(type)
    if said:  # and not who is typing
        write(time.strftime("%H:%M ", time.localtime(timestamp)) + user + said)


if len(sys.argv) != 3:
    sys.exit(__doc__)
user, room = sys.argv[1], ChatRoom(sys.argv[2], app=app)
with contextlib.suppress(KeyboardInterrupt), room.join(user, show, history=20):
    typed = "/who\n"
    while typed:  # until Ctrl-D
        if typed == "/who\n":
            write("Here are: " + ", ".join(member.user for member in room.members()))
        elif typed.strip():
            room.send_message(user, typed.rstrip("\n"))
        typed = sys.stdin.readline()
        if sys.stdin.isatty():
            print("\x1b[A\x1b[2K", end="", flush=True)  # it comes back with a time and a name
