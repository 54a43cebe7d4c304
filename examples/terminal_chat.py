"""A chat in the terminal, for as many people as there are terminals.

Run it:  .venv/bin/python examples/terminal_chat.py Ann lobby       and in another terminal: ... Bob lobby

A line that you type goes to all, /who says who is there, and Ctrl-D ends it. `make chat` has the same rooms.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from redis_toolkit import App
from redis_toolkit.patterns import ChatRoom

# All who name one server meet there: REDIS_TOOLKIT_URL=redis://localhost:6379/0, or that of this directory.
app = App(os.environ.get("REDIS_TOOLKIT_URL") or f"embedded://{Path(__file__).resolve().parent / '.data'}")


def show(message: dict[str, Any]) -> None:
    time = datetime.fromtimestamp(message["timestamp"]).astimezone().strftime("%H:%M")
    match message["type"]:
        case "message":
            print(f"{time} {message['user']}: {message['text']}", flush=True)
        case "join" | "leave" as what:
            print(f"{time} * {message['user']} {'joined' if what == 'join' else 'left'}", flush=True)


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    _, user, name = sys.argv
    room = ChatRoom(name, app=app)
    with app, room.join(user, show, history=20):  # what was said before, then what is said now
        print("Here are:", ", ".join(member.user for member in room.members()), flush=True)
        for line in sys.stdin:
            if line.strip() == "/who":
                print("Here are:", ", ".join(member.user for member in room.members()), flush=True)
            elif line.strip():
                room.send_message(user, line.rstrip("\n"))


if __name__ == "__main__":
    main()
