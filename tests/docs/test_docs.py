"""The documentation does what it says: its programs run, and its transcripts are what redis-cli prints."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from redis_toolkit import App
from redis_toolkit._core import scripts
from tests.docs.pages import PAGES, REPOSITORY, Block, blocks, programs
from tests.kit.processes import Process
from tests.kit.redis_cli import redis_cli
from tests.kit.servers import Server

PROGRAMS = list(programs())
DEADLINE = 120.0


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


def test_the_transcript_of_the_protocol_page_is_what_redis_cli_prints(server: Server) -> None:
    [transcript] = [
        block
        for block in blocks(REPOSITORY / "docs" / "protocol.md")
        if block.language == "console" and "RPUSH" in block.text
    ]
    app = App(server.url)
    app.on("add")(add)
    printed = []
    with app:
        for line in transcript.text.splitlines():
            if line.startswith("$ "):
                command, *args = shlex.split(line[2:])
                assert command == "redis-cli"
                printed.append(f"{line}\n{redis_cli(server, *args)}")

    assert "".join(printed) == transcript.text


def test_the_script_on_the_protocol_page_is_the_one_that_is_sent() -> None:
    [shown] = [block for block in blocks(REPOSITORY / "docs" / "protocol.md") if block.language == "lua"]
    lines = (line.strip() for line in shown.text.splitlines())

    assert "\n".join(line for line in lines if line and not line.startswith("--")) == scripts.REQUEST.text


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
