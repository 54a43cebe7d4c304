"""A chat in the browser: the server.

One WebSocket is one browser in one room; README.md says what goes over it. Any number of these processes may
run behind one Redis: who is in a room, what was said and who is typing comes from `ChatRoom`, so it does not
matter which process has whom.

Nobody has to log in: a name is whatever a browser says. Where that matters, find out who it is in `chat`.

Run it:  make chat        or: .venv/bin/python examples/web_chat/server.py --help
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import time
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.supervisors import Multiprocess

from redis_toolkit import App, Gap, RedisToolkitError
from redis_toolkit.patterns import ChatRoom

HERE = Path(__file__).resolve().parent
LONGEST_NAME, LONGEST_TEXT = 40, 4000  # characters
PAGE = 50  # messages

# Every process names the same directory, and so the same server. A Redis of yours: REDIS_TOOLKIT_URL=redis://...
app = App(os.environ.get("REDIS_TOOLKIT_URL") or f"embedded://{HERE.parent / '.data'}")
log = logging.getLogger("web_chat")


class Refused(Exception):
    """What a browser has asked for makes no sense; the text is for the person who sits there."""


def text(value: object, what: str, longest: int) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Refused(f"{what} is empty.")
    if len(value) > longest:
        raise Refused(f"{what} is too long: {len(value):,} characters, and {longest:,} are allowed.")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise Refused(f"{what} has half a character in it.")
    return value


def name(value: object, what: str) -> str:
    found = " ".join(text(value, what, LONGEST_NAME).split())
    if not found.replace("\u200d", "").isprintable():  # that one joins emoji
        raise Refused(f"{what} has characters in it that cannot be seen.")
    return found


def message_id(value: object) -> str | None:
    if value is None or (isinstance(value, str) and re.fullmatch("[0-9]{1,19}-[0-9]{1,19}", value)):
        return value
    raise Refused("That is not the id of a message.")


def host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def older(page: list[dict[str, Any]]) -> str | None:
    """Return before which message there may be more than this page."""
    return page[0]["id"] if len(page) == PAGE else None


class RoomList:
    """All rooms and how many are in each: looked up once a second, for all browsers of this process."""

    def __init__(self) -> None:
        self.rooms: list[dict[str, Any]] = []
        self.changed = asyncio.Event()

    async def watch(self) -> None:
        while True:
            try:
                rooms = [asdict(room) for room in await ChatRoom.arooms(app=app)]
            except RedisToolkitError as error:
                log.warning("the list of rooms is as old as it is: %s", error)
            else:
                if rooms != self.rooms:
                    self.rooms = rooms
                    self.changed.set()
                    self.changed = asyncio.Event()
            await asyncio.sleep(1)


class Browser:
    """One browser in one room. One that is slow waits by itself: each has tasks and a lane of its own."""

    def __init__(self, socket: WebSocket, user: str, room: str) -> None:
        self.socket = socket
        self.user = user
        self.room = ChatRoom(room, app=app)
        self.missed = False  # something that the history has no more

    async def tell(self, event: str, **fields: Any) -> None:
        await self.socket.send_json({"event": event, **fields})

    async def stay(self, since: str | None) -> None:
        """Be in the room until the browser goes. `since`: the last message that it knows, if any."""
        history = [] if since else await self.room.ahistory(PAGE)
        last = history[-1]["id"] if history else since or "0-0"
        # What was said after that, and then what is said: nothing is missing, and nothing comes twice.
        async with self.room.ajoin(self.user, since=last, on_gap=self.note_gap) as membership:
            about = {"members": await self.members(), "history": history, "older": older(history)}
            await self.tell("joined", **about, now=time.time())
            async with asyncio.TaskGroup() as tasks:
                telling = [tasks.create_task(self.tell_messages(membership))]
                telling.append(tasks.create_task(self.tell_rooms()))
                await self.listen()
                for task in telling:
                    task.cancel()

    async def members(self) -> list[dict[str, Any]]:
        found = await self.room.amembers()
        return [{"user": member.user, "since": member.since.timestamp()} for member in found]

    def note_gap(self, _: Gap) -> None:
        self.missed = True

    async def tell_messages(self, membership: AsyncIterable[dict[str, Any]]) -> None:
        async for message in membership:
            if self.missed:
                self.missed = False
                await self.tell("gap", members=await self.members())
            await self.tell("message", message=message)
        await self.socket.close(1012)  # this process ends: there are others

    async def tell_rooms(self) -> None:
        while True:
            changed = rooms.changed
            await self.tell("rooms", rooms=rooms.rooms)
            await changed.wait()

    async def listen(self) -> None:
        while (frame := await self.socket.receive())["type"] != "websocket.disconnect":
            wish: Any = None
            try:
                wish = json.loads(frame.get("text") or frame.get("bytes") or "")
                if not isinstance(wish, dict):
                    raise Refused("That is no JSON object.")
                await self.do(wish)
            except Refused as error:
                await self.complain(str(error), wish)
            except (ValueError, RecursionError):
                await self.complain("That is no JSON.", wish)
            except RedisToolkitError as error:
                log.warning("%s wanted %.200r: %s", self.user, wish, error)
                await self.complain("That did not work just now.", wish, again=True)

    async def complain(self, complaint: str, wish: Any, again: bool = False) -> None:
        client_id = wish.get("id") if isinstance(wish, dict) else None
        known = client_id if isinstance(client_id, str) and client_id.isascii() else None
        await self.tell("error", text=complaint, client_id=known, again=again)

    async def do(self, wish: dict[str, Any]) -> None:
        match wish.get("do"):
            case "send":
                await self.send(wish)
            case "history":
                await self.tell_history(wish)
            case "typing":
                await self.room.atyping(self.user)
            case "ping":
                await self.tell("pong")
            case _:
                raise Refused("There is nothing of that name to do.")

    async def send(self, wish: dict[str, Any]) -> None:
        said = text(wish.get("text"), "The message", LONGEST_TEXT)
        client_id = name(wish.get("id"), "The id")
        if wish.get("to") is None:
            sent = await self.room.asend_message(self.user, said, id=client_id)
        else:
            to = name(wish["to"], "The name")
            sent = await self.room.asend_direct(self.user, to, said, id=client_id)
        await self.tell("sent", client_id=client_id, id=sent)

    async def tell_history(self, wish: dict[str, Any]) -> None:
        before = message_id(wish.get("before"))
        peer = None if wish.get("with") is None else name(wish["with"], "The name")
        if peer is None:
            found = await self.room.ahistory(PAGE, before=before)
        else:
            found = await self.room.adirect_history(self.user, PAGE, before=before)
        wanted = [message for message in found if peer in (None, message.get("user"), message.get("to"))]
        await self.tell("history", messages=wanted, before=before, older=older(found), **{"with": peer})


async def chat(socket: WebSocket) -> None:
    """A browser has come: ``/chat?user=ann&room=lobby``, with ``&since=<last id>`` if it was here before."""
    await socket.accept()
    asked = socket.query_params
    origin = socket.headers.get("origin")
    try:
        if origin is not None and host_of(origin) != socket.headers.get("host"):
            raise Refused("This chat is not for pages from elsewhere.")
        user, room = name(asked.get("user"), "Your name"), name(asked.get("room"), "The room's name")
        since = message_id(asked.get("since"))
    except Refused as error:
        await socket.send_json({"event": "refused", "text": str(error)})
        await socket.close(1008)
        return
    browser = Browser(socket, user, room)
    try:
        await browser.stay(since)
    except* WebSocketDisconnect:
        pass  # it went while something was on its way to it
    except* RedisToolkitError as errors:
        log.warning("%s has to come again: %s", browser.user, errors.exceptions[0])
        await socket.close(1013)


rooms = RoomList()


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    watching = asyncio.create_task(rooms.watch())
    yield
    watching.cancel()
    await app.astop()


pages = Mount("/", StaticFiles(directory=HERE / "static", html=True))
web = Starlette(routes=[WebSocketRoute("/chat", chat), pages], lifespan=lifespan)


class Processes(Multiprocess):
    """The server processes. Ctrl-C goes to each of them, also to one that has hardly begun."""

    def init_processes(self) -> None:
        ours = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which they inherit until they serve
        super().init_processes()
        signal.signal(signal.SIGINT, ours)


def main() -> None:
    parser = argparse.ArgumentParser(description="A chat in the browser.")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for phones, too (%(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="0 for any that is free (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="how many server processes (%(default)s)")
    arguments = parser.parse_args()
    config = uvicorn.Config(
        "server:web",
        host=arguments.host,
        port=arguments.port,
        workers=arguments.workers,
        log_level="warning",
        ws="websockets-sansio",
        ws_max_size=64 * 1024,
        timeout_graceful_shutdown=3,
    )
    try:
        listener = config.bind_socket()  # first: then the address is right
    except SystemExit:  # it has said why
        other = arguments.port + 1
        raise SystemExit(
            f"The chat cannot have port {arguments.port}; does one run there already? Another port: "
            f'make chat CHAT="--port {other}"'
        ) from None
    listener.listen()  # a browser that comes before the server processes waits for them
    print(f"The chat is at http://{arguments.host}:{listener.getsockname()[1]} - Ctrl-C ends it.", flush=True)
    Processes(config, sockets=[listener]).run()


if __name__ == "__main__":
    main()
