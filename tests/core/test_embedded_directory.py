"""An embedded server that several processes share, and what happens when it or its owner is lost."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from urllib.parse import unquote

import pytest
import redis

from redis_toolkit._core.embedded import EmbeddedServer
from redis_toolkit.errors import ServerUnreachable
from tests.core.embedded_programs import TIMEOUT, Programs, ask, gone, owns, replaced, server_pid
from tests.kit import proc
from tests.kit.waiting import eventually

# -- a directory -------------------------------------------------------------------------------------


def test_processes_that_name_a_directory_share_its_server(
    programs: Programs, make: type[EmbeddedServer], data: Path
) -> None:
    _, url, owned = programs.ready(f"embedded://{data}")
    assert owned
    ask(url, "SET color blue")
    joined = make(data)
    assert ask(joined.ensure(TIMEOUT), "GET color") == "blue"
    assert not owns(joined)
    joined.stop()
    assert ask(url, "PING") == "PONG"


def test_two_objects_in_one_process_share_it_too(make: type[EmbeddedServer], data: Path) -> None:
    first, second = make(data), make(data)
    assert first.ensure(TIMEOUT) == second.ensure(TIMEOUT)
    assert (owns(first), owns(second)) == (True, False)


def test_data_survive_a_stop(make: type[EmbeddedServer], data: Path) -> None:
    server = make(data)
    ask(server.ensure(TIMEOUT), "SET color blue")
    server.stop()
    assert ask(server.ensure(TIMEOUT), "GET color") == "blue"


def test_when_the_owner_is_killed_another_process_restarts_the_server(
    programs: Programs, make: type[EmbeddedServer], data: Path
) -> None:
    owner, url, _ = programs.ready(f"embedded://{data}")
    joined = make(data)
    assert joined.ensure(TIMEOUT) == url
    ask(url, "SET color blue")
    pid = server_pid(url)
    owner.kill()
    gone(pid)
    assert ask(joined.ensure(TIMEOUT), "GET color") == "blue"
    assert owns(joined)
    joined.stop()
    assert not ask(url, "PING")


def test_a_restart_does_not_wait_for_the_old_server_to_be_noticed(
    programs: Programs, make: type[EmbeddedServer], data: Path
) -> None:
    """ensure() meets a server that is on its way out; there are never two on one directory."""
    owner, url, _ = programs.ready(f"embedded://{data}")
    assert ask(url, "SET color blue") == "OK"
    pid = server_pid(url)
    owner.kill()
    joined = make(data)

    def restarted() -> bool:
        new = server_pid(joined.ensure(TIMEOUT))
        assert new in (0, pid) or not proc.alive(pid)
        return new not in (0, pid)

    eventually(restarted, what="a new server")
    assert ask(joined.url, "GET color") == "blue"


def test_of_processes_that_start_together_one_starts_the_server(programs: Programs, data: Path) -> None:
    source = (
        "ask(url, 'INCR starters')\n"
        "if owns(server): ask(url, 'INCR owners')\n"
        'print("ready", url, owns(server), flush=True)\n'
        "while True: signal.pause()\n"
    )
    started = [programs.start(f"embedded://{data}", source) for _ in range(8)]
    lines = [program.wait_for_line("ready").split() for program in started]
    urls = {words[1] for words in lines}
    assert len(urls) == 1
    assert [words[2] for words in lines].count("True") == 1
    url = urls.pop()
    assert (ask(url, "GET starters"), ask(url, "GET owners")) == ("8", "1")
    assert (data / "valkey.log").read_text().count("Ready to accept connections") == 1


@pytest.mark.parametrize(
    "name", ["x" * 120, "a b", "50%25", "what?#", 'quo"te', "größe", os.fsdecode(b"\xff")]
)
def test_any_directory_name_works(make: type[EmbeddedServer], tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    server = make(directory)
    url = server.ensure(TIMEOUT)
    assert server.ensure(TIMEOUT) == url
    with redis.Redis.from_url(url, protocol=2) as client:
        client.set("color", "blue")
    joined = make(directory)
    assert joined.ensure(TIMEOUT) == url
    assert not owns(joined)
    server.stop()
    assert ask(joined.ensure(TIMEOUT), "GET color") == "blue"
    places = {Path(unquote(link.removeprefix("unix://"))).parent for link in (url, joined.url)}
    joined.stop()
    assert all(place == directory or not place.exists() for place in places)


def test_a_long_directory_keeps_its_url_through_a_restart(make: type[EmbeddedServer], tmp_path: Path) -> None:
    server = make(tmp_path / ("x" * 120))
    url = server.ensure(TIMEOUT)
    pid = server_pid(url)
    os.kill(pid, signal.SIGKILL)
    replaced(server, pid)
    assert server.url == url


# -- a lost server -----------------------------------------------------------------------------------


@pytest.mark.parametrize("private", [True, False])
def test_the_owner_restarts_a_lost_server_at_the_same_place(
    make: type[EmbeddedServer], data: Path, private: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server = make(None if private else data)
    url = server.ensure(TIMEOUT)
    for _ in range(3):
        ask(url, "SET color blue")
        pid = server_pid(url)
        os.kill(pid, signal.SIGKILL)
        replaced(server, pid)
        assert (ask(url, "GET color") == "blue") != private
    assert "restarting" in caplog.text


@pytest.mark.parametrize("private", [True, False])
def test_the_owner_replaces_a_server_whose_guardian_was_killed(
    make: type[EmbeddedServer], data: Path, private: bool
) -> None:
    server = make(None if private else data)
    url = server.ensure(TIMEOUT)
    ask(url, "SET color blue")
    pid = server_pid(url)
    known = proc.stat(pid)
    assert known is not None
    os.kill(known.parent, signal.SIGKILL)
    gone(pid)
    replaced(server, pid)
    assert (ask(url, "GET color") == "blue") != private


def test_ensure_restarts_a_lost_server_as_well(make: type[EmbeddedServer]) -> None:
    server = make(None)
    pid = server_pid(server.ensure(TIMEOUT))
    os.kill(pid, signal.SIGKILL)
    gone(pid)
    assert ask(server.ensure(TIMEOUT), "PING") == "PONG"
    assert owns(server)


def test_stop_does_not_restart(make: type[EmbeddedServer], data: Path) -> None:
    server = make(data)
    server.ensure(TIMEOUT)
    server.stop()
    threads = [thread for thread in threading.enumerate() if "embedded" in thread.name]
    for thread in threads:
        thread.join(TIMEOUT)
    assert (data / "valkey.log").read_text().count("Ready to accept connections") == 1


def test_a_server_that_stands_still_is_reported_in_time(make: type[EmbeddedServer], data: Path) -> None:
    owner, joined = make(data), make(data)
    pid = server_pid(owner.ensure(TIMEOUT))
    joined.ensure(TIMEOUT)
    os.kill(pid, signal.SIGSTOP)
    try:
        for server in (owner, joined, make(data)):
            with pytest.raises(ServerUnreachable, match=rf"{data}.*kill -9 {pid}.*valkey\.log"):
                server.ensure(0.2)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert ask(joined.ensure(TIMEOUT), "PING") == "PONG"
