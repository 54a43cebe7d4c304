"""The server of the web chat: what it makes of bad input, slow browsers, Ctrl-C, and a Redis that is away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from socket import SO_RCVBUF, SOL_SOCKET, create_server, socket
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from redis_toolkit.patterns import ChatRoom
from tests.kit.servers import Server
from tests.web.chat import SERVER, chat_server

DEADLINE = 30.0


@pytest.fixture(scope="module")
def address(one_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chat_server(one_server.url, tmp_path_factory.mktemp("chat")) as (_, address):
        yield address


def enter(
    address: str, user: str, room: str, line: socket | None = None, since: str = ""
) -> ClientConnection:
    """Join a room; returns the WebSocket, which reads a few frames ahead and then waits to be asked."""
    asked = urlencode({"user": user, "room": room} | ({"since": since} if since else {}))
    place = f"{address.replace('http', 'ws')}/chat?{asked}"
    return connect(place, sock=line, compression=None, max_size=None, open_timeout=DEADLINE)


def narrow(address: str) -> socket:
    """Return a connection that holds little of what nobody has read yet."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    line = socket()
    line.setsockopt(SOL_SOCKET, SO_RCVBUF, 4096)
    line.connect((host, int(port)))
    return line


def hear(browser: ClientConnection, *events: str) -> dict[str, Any]:
    """Return the next event of one of these names."""
    while True:
        heard: dict[str, Any] = json.loads(browser.recv(DEADLINE))
        if heard["event"] in events:
            return heard


def hear_text(browser: ClientConnection) -> str:
    while True:
        message = hear(browser, "message")["message"]
        if message["type"] == "message":
            return str(message["text"])


BAD: list[tuple[str | bytes, str]] = [
    ("", "That is no JSON."),
    ("{", "That is no JSON."),
    (b"\xff\xfe\x00", "That is no JSON."),
    ("[" * 50_000, "That is no JSON."),
    ("[1]", "That is no JSON object."),
    ("null", "That is no JSON object."),
    ('{"do": "dance"}', "There is nothing of that name to do."),
    ('{"do": ["send"]}', "There is nothing of that name to do."),
    ('{"do": "send", "id": "1"}', "The message is empty."),
    ('{"do": "send", "id": "1", "text": 7}', "The message is empty."),
    ('{"do": "send", "id": "1", "text": "  "}', "The message is empty."),
    ('{"do": "send", "id": "1", "text": "\\ud800"}', "The message has half a character in it."),
    ('{"do": "send", "id": {}, "text": "a"}', "The id is empty."),
    ('{"do": "send", "id": "1", "text": "a", "to": ""}', "The name is empty."),
    ('{"do": "history", "before": "yesterday"}', "That is not the id of a message."),
    ('{"do": "history", "before": 5}', "That is not the id of a message."),
    ('{"do": "history", "before": "99999999999999999999-0"}', "That is not the id of a message."),
    ('{"do": "no", "id": "\\ud800"}', "There is nothing of that name to do."),
    ('{"do": "no", "id": [[]]}', "There is nothing of that name to do."),
    ("1" * 10_000, "That is no JSON."),
    (json.dumps({"do": "send", "id": "1", "text": "x" * 4001}), "The message is too long: 4,001 characters"),
]


def test_bad_input_is_answered_and_disturbs_nobody(address: str) -> None:
    with enter(address, "Ann", "odd") as ann, enter(address, "Bob", "odd") as bob:
        for bad, answer in BAD:
            ann.send(bad)
            assert hear(ann, "error")["text"].startswith(answer), bad
        ann.send('{"do": "send", "id": "1", "text": "still here"}')
        assert hear_text(bob) == hear_text(ann) == "still here"


@pytest.mark.parametrize(
    ("user", "room", "since", "answer"),
    [
        ("", "odd", "", "Your name is empty."),
        ("x" * 500, "odd", "", "Your name is too long: 500 characters, and 40 are allowed."),
        ("a\u202eb", "odd", "", "Your name has characters in it that cannot be seen."),
        ("Ann", " ", "", "The room's name is empty."),
        ("Ann", "odd", "now", "That is not the id of a message."),
    ],
    ids=["empty", "long", "unseen", "room", "since"],
)
def test_a_name_that_will_not_do_is_refused(
    address: str, user: str, room: str, since: str, answer: str
) -> None:
    with enter(address, user, room, since=since) as browser:
        assert hear(browser, "refused")["text"] == answer


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://[", ""])
def test_a_page_from_elsewhere_is_refused(address: str, origin: str) -> None:
    place = f"{address.replace('http', 'ws')}/chat?user=Ann&room=odd"
    with connect(place, origin=Origin(origin), open_timeout=DEADLINE) as browser:
        assert hear(browser, "refused")["text"] == "This chat is not for pages from elsewhere."


def test_a_browser_that_does_not_read_delays_nobody(address: str, one_server: Server) -> None:
    room = ChatRoom("busy", url=one_server.url)
    with (
        narrow(address) as line,
        enter(address, "Slow", "busy", line) as slow,
        enter(address, "Ann", "busy") as ann,
    ):
        hear(slow, "joined")
        texts = [f"{number} {'🙂' * 3900}" for number in range(400)]  # more than the kernel holds for it
        for text in texts:
            room.send_message("Eve", text)
        assert [hear_text(ann) for _ in texts] == texts
        assert [hear_text(slow) for _ in texts] == texts  # and it misses nothing


def test_it_serves_the_page_from_several_processes_and_ends_by_ctrl_c(tmp_path: Path) -> None:
    with chat_server(f"embedded://{tmp_path}/data", tmp_path / "chat", workers=2) as (program, address):
        with urlopen(address, timeout=DEADLINE) as page:  # noqa: S310 - it begins with http
            assert b"<title>Chat</title>" in page.read()
        with enter(address, "Ann", "hall") as ann:
            assert hear(ann, "joined")["members"][0]["user"] == "Ann"
            os.killpg(program.pid, signal.SIGINT)
            assert program.wait() == 0
        assert "Traceback" not in program.output, program.output


def test_a_message_outlives_a_restart_of_redis(tmp_path: Path) -> None:
    with (
        Server(directory=tmp_path / "redis", persistence="always") as redis,
        chat_server(redis.url, tmp_path / "chat") as (_, address),
        enter(address, "Ann", "hall") as ann,
        enter(address, "Bob", "hall") as bob,
    ):
        ann.send('{"do": "send", "id": "1", "text": "before"}')
        assert hear_text(bob) == "before"
        redis.kill()
        ann.send('{"do": "send", "id": "2", "text": "after"}')
        redis.start()
        while (answer := hear(ann, "error", "sent"))["event"] == "error":  # as the page does it
            assert (answer["client_id"], answer["again"]) == ("2", True)
            ann.send('{"do": "send", "id": "2", "text": "after"}')
        assert hear_text(bob) == "after"


def test_a_port_that_is_taken_is_named_with_the_way_out() -> None:
    with create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        command = [sys.executable, str(SERVER), "--port", str(port)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert f"cannot have port {port}; " in ended.stderr
    assert f'make chat CHAT="--port {port + 1}"' in ended.stderr
