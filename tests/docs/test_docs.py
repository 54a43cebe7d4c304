"""The documentation does what it says: its programs run, and its transcripts are what redis-cli prints."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

import pytest

from redis_toolkit import App, keys
from redis_toolkit._core import scripts
from redis_toolkit.patterns import ChatRoom, NotificationSystem, TaskQueue, UserNotificationClient
from tests.docs.pages import PAGES, REPOSITORY, Block, blocks, programs
from tests.kit.processes import Process
from tests.kit.redis_cli import redis_cli
from tests.kit.servers import Server

PROGRAMS = list(programs())
DEADLINE = 120.0
PROTOCOL = REPOSITORY / "docs" / "protocol.md"
CHANGING = re.compile(r"\d{13}(-\d+)?")
"""A time of the server, or the id of an entry."""


def add(a: int, b: int) -> int:
    """The handler that the transcript talks to; error replies have its name."""
    return a + b


@pytest.mark.parametrize(("block", "output"), PROGRAMS, ids=[str(block) for block, _ in PROGRAMS])
def test_a_program_runs_and_prints_what_the_page_shows(
    block: Block, output: str | None, tmp_path: Path
) -> None:
    if block.mark == "no-run":
        compile(block.text, str(block), "exec")
        return
    environment = {"REDIS_TOOLKIT_URL": "embedded://", "REDIS_URL": None}
    with Process(directory=tmp_path, source=block.text, options=("-W", "error"), env=environment) as program:
        if block.mark == "serves":
            assert block.note is not None
            program.wait_for_line(block.note, DEADLINE)
            program.terminate()
        assert program.wait(DEADLINE) == 0, program.output
        assert "Exception in thread" not in program.stderr
        if output is not None:
            assert program.stdout == output


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_begins_with_a_program(page: Path) -> None:
    first = blocks(page)[0]

    assert first.language in {"python", "console", "bash", "sh"}
    assert first.mark != "no-run"
    if page.parent.name == "docs":
        assert first.language == "python"


def test_few_programs_are_left_out() -> None:
    left_out = [str(block) for block, _ in PROGRAMS if block.mark == "no-run"]

    assert len(left_out) <= 3, left_out


def transcript(word: str) -> str:
    """Return the transcript of the protocol page that has a word."""
    [found] = [block for block in blocks(PROTOCOL) if block.language == "console" and word in block.text]
    return found.text


def type_in(server: Server, shown: str) -> str:
    """Run a transcript, and return it with what is printed; values that differ each time are as shown.

    Entry ids and times are known by their 13 digits, and a worker by the line before it.
    """
    real: dict[str, str] = {}
    printed = []
    for step in re.split(r"^\$ ", shown, flags=re.MULTILINE)[1:]:
        line, _, expected = step.partition("\n")
        command, *args = (real.get(word, word) for word in shlex.split(line))
        assert command == "redis-cli"
        before = ""
        lines = redis_cli(server, *args).splitlines()
        for place, (ours, theirs) in enumerate(zip(expected.splitlines(), lines, strict=False)):
            varies = before == "worker" or (CHANGING.fullmatch(ours) and CHANGING.fullmatch(theirs))
            if varies and real.setdefault(ours, theirs) == theirs:
                lines[place] = ours
            before = ours
        printed.append("\n".join([f"$ {line}", *lines, ""]))
    return "".join(printed)


def test_the_request_made_by_hand_is_what_redis_cli_prints(server: Server) -> None:
    app = App(server.url)
    app.on("add")(add)
    shown = transcript("PUBSUB NUMSUB")
    with app:
        assert type_in(server, shown) == shown


def test_the_task_made_by_hand_is_what_redis_cli_prints(server: Server) -> None:
    app = App(server.url)
    TaskQueue("sums", app=app).task(add)
    shown = transcript("rt:q:{sums}")
    with app:
        assert type_in(server, shown) == shown


def test_the_room_by_hand_is_what_redis_cli_prints(server: Server) -> None:
    shown = transcript("chat:room:lobby")
    with ChatRoom("lobby", url=server.url).join("ann"):
        assert type_in(server, shown) == shown


def test_the_event_taken_by_hand_is_what_redis_cli_prints(server: Server) -> None:
    shown = transcript("XREADGROUP")

    assert type_in(server, shown) == shown


def test_the_notification_made_by_hand_is_what_redis_cli_prints(server: Server) -> None:
    app = App(server.url)
    got: list[object] = []
    shown = transcript("notifications:user:7")
    with UserNotificationClient(7, got.append, app=app) as client:
        assert type_in(server, shown) == shown
    assert got == [{"text": "for who is there"}]
    assert client.unread_count() == 0
    [left] = NotificationSystem(app=app).unread("8")
    assert left["text"] == "for all"
    app.stop()


def test_the_scripts_on_the_protocol_page_are_those_that_are_sent() -> None:
    shown = []
    for block in blocks(PROTOCOL):
        if block.language == "lua":
            lines = (line.strip() for line in block.text.splitlines())
            shown.append("\n".join(line for line in lines if line and not line.startswith("--")))

    assert shown == [scripts.REQUEST.text, scripts.PUBLISH.text, scripts.ROOM_SEND.text]


def test_the_protocol_page_names_every_key() -> None:
    page = PROTOCOL.read_text(encoding="utf-8")
    names = {"task_id": "id", "event_id": "id", "unique_key": "key", "request_id": "name", "wait_id": "name"}
    names |= {"name": "key", "scope": "handler"}
    missing = []
    for function in set(keys.__all__) - {"WITHOUT_TTL", "inbox", "is_reply_key", "task_place"}:
        make = getattr(keys, function)
        key = make(*(f"<{names.get(name, name)}>" for name in inspect.signature(make).parameters))
        if key not in page:
            missing.append(key)

    assert not missing
    assert keys.inbox("<name>", 0).replace(".0", "") in page


def test_the_internals_page_is_short_and_names_files_that_exist() -> None:
    page = REPOSITORY / "docs" / "internals.md"
    text = page.read_text(encoding="utf-8")
    named = {word for word in text.split("`")[1::2] if word.endswith((".py", ".lua"))}

    assert len(text.splitlines()) <= 60
    assert len(named) > 20
    package = REPOSITORY / "redis_toolkit"
    missing = {
        name
        for name in named
        if not any((folder / name).is_file() for folder in (package, package / "_core"))
    }
    assert not missing


def test_the_map_names_every_module_and_no_other() -> None:
    text = (REPOSITORY / "docs" / "map.md").read_text(encoding="utf-8")
    modules = text.partition("## Modules")[2].partition("## Layers")[0]
    named = {word for word in modules.split("`")[1::2] if word.endswith(".py")}
    package = REPOSITORY / "redis_toolkit"
    files = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}

    assert named - {"__init__.py"} == {file for file in files if not file.endswith("__init__.py")}
