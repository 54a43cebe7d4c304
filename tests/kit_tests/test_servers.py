"""Servers that are killed, paused and restarted; and that never outlive the test."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import redis

from tests.kit import proc
from tests.kit.processes import Process
from tests.kit.redis_cli import plain_cli, redis_cli
from tests.kit.servers import Kind, Persistence, Server, available_kinds
from tests.kit.waiting import eventually

KINDS = available_kinds()


def test_the_embedded_server_is_always_there() -> None:
    assert "valkey" in KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_answers_under_its_own_pid_and_version(kind: Kind, tmp_path: Path) -> None:
    with Server(kind, directory=tmp_path) as server:
        client = redis.Redis.from_url(server.url)
        information = client.info("server")
        client.close()
        assert information["process_id"] == server.pid
        assert server.version in (information["redis_version"], information.get("valkey_version"))
        assert Path(f"/proc/{server.pid}/exe").samefile(server.binary)
        assert server.execute("CONFIG", "GET", "bind") == ["bind", "127.0.0.1"]
        pid = server.pid
    assert not proc.alive(pid)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_survives_kill_with_aof_always(kind: Kind, tmp_path: Path) -> None:
    with Server(kind, directory=tmp_path, persistence="always") as server:
        port, pid = server.port, server.pid
        server.execute("SET", "key", "value")
        server.kill()
        assert not proc.alive(pid)
        server.restart()
        assert server.port == port
        assert server.pid != pid
        assert server.execute("GET", "key") == "value"


@pytest.mark.parametrize(("persistence", "kept"), [("none", None), ("everysec", "value")])
def test_an_orderly_stop_keeps_what_persistence_keeps(
    persistence: Persistence, kept: str | None, tmp_path: Path
) -> None:
    with Server(directory=tmp_path, persistence=persistence) as server:
        server.execute("SET", "key", "value")
        server.stop()
        server.start()
        assert server.execute("GET", "key") == kept


def test_a_killed_server_refuses_connections(server: Server) -> None:
    server.kill()
    server.kill()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))
    with pytest.raises(RuntimeError, match="does not run"):
        server.pause()


def test_a_paused_server_answers_only_after_resume(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        server.pause()
        connection.settimeout(0.05)
        connection.sendall(b"PING\r\n")
        with pytest.raises(TimeoutError):
            connection.recv(100)
        server.resume()
        connection.settimeout(30)
        assert connection.recv(100) == b"+PONG\r\n"


def test_a_paused_server_can_be_killed(server: Server) -> None:
    server.pause()
    server.restart()
    assert server.execute("PING") is True


def test_the_server_waits_until_it_has_loaded_its_data(tmp_path: Path) -> None:
    slow_load = {"key-load-delay": "200", "loading-process-events-interval-bytes": "1024"}
    with Server(directory=tmp_path, persistence="always") as server:
        for number in range(50):
            server_side_loop = "for i = 1, 20 do redis.call('RPUSH', KEYS[1], ARGV[1]) end"
            server.execute("EVAL", server_side_loop, 1, f"key:{number}", "x" * 10)
        server.stop()
    with Server(directory=tmp_path, persistence="always", config=slow_load) as server:
        assert server.execute("DBSIZE") == 50
        log = (tmp_path / "server.log").read_text()
    took = re.findall(r"DB loaded from append only file: ([\d.]+) seconds", log)
    assert float(took[-1]) > 0.1  # or it had nothing to wait for


def test_the_first_start_moves_to_another_port(server: Server, tmp_path: Path) -> None:
    """Although there is one that answers on the port that it wanted."""
    second = Server(directory=tmp_path / "second")
    second.port = server.port
    with second:
        assert second.port != server.port
        assert second.execute("INFO", "server")["process_id"] == second.pid


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    server = Server(directory=tmp_path, config={"no-such-setting": "1"})
    with pytest.raises(RuntimeError, match="no-such-setting"):
        server.start()


def test_configuration_of_several_words_and_a_password(tmp_path: Path) -> None:
    config = {"requirepass": "secret", "client-output-buffer-limit": "pubsub 1mb 512kb 30"}
    with Server(directory=tmp_path, config=config) as server:
        _name, limits = server.execute("CONFIG", "GET", "client-output-buffer-limit")
        assert "pubsub 1048576 524288 30" in limits
        assert redis_cli(server, "PING") == plain_cli(server, "PING") == "PONG\n"


def test_clients_are_closed_with_the_server(tmp_path: Path) -> None:
    with Server(directory=tmp_path) as server:
        before = len(os.listdir("/proc/self/fd"))
        client = server.client()
        assert client.set("key", "ü")
        assert client.get("key") == "ü"
        assert len(os.listdir("/proc/self/fd")) > before
        server.close()
        assert len(os.listdir("/proc/self/fd")) < before  # the pipe to the guard is gone too
    assert client is not None  # not closed because nobody held it any more


def test_the_server_dies_with_a_process_that_is_killed(tmp_path: Path) -> None:
    source = """
        import pathlib, sys, threading
        from tests.kit.servers import Server
        server = Server(directory=pathlib.Path(sys.argv[1]))
        # From a thread that ends: the server must not mind.
        starter = threading.Thread(target=server.start)
        starter.start()
        starter.join()
        if sys.argv[2] == "paused":
            server.pause()
        print("server", server.pid, flush=True)
        threading.Event().wait()
    """
    for state in ("running", "paused"):
        with Process(source=source, directory=tmp_path, args=[str(tmp_path), state]) as owner:
            pid = int(owner.wait_for_line("server").split()[1])
            assert proc.alive(pid)
            # Not owner.kill(), after which the kit would clean up by itself.
            os.kill(owner.pid, signal.SIGKILL)
            eventually(partial(proc.is_gone, pid), what="end of the orphaned server")


PRINTED = {
    "PING": "PONG\n",
    "GET missing": "\n",
    "SET empty ''": "OK\n",
    "GET empty": "\n",
    "RPUSH list a 'b c'": "2\n",
    "LRANGE list 0 -1": "a\nb c\n",
    "LRANGE missing 0 -1": "\n",
    "EVAL 'return {1, {2, {}}, false, \"x\"}' 0": "1\n2\n\n\nx\n",
    "NOSUCH command": "ERR unknown command 'NOSUCH', with args beginning with: 'command' \n\n",
    "GET": "ERR wrong number of arguments for 'get' command\n\n",
}


@pytest.mark.parametrize("run", [redis_cli, plain_cli])
def test_cli_prints_as_a_reader_sees_it(run: Callable[..., str], server: Server) -> None:
    assert {command: run(server, stdin=command + "\n") for command in PRINTED} == PRINTED


def test_cli_takes_arguments_and_standard_input(server: Server) -> None:
    for run in (redis_cli, plain_cli):
        assert run(server, "SET", "key", '{"a": 1}') == "OK\n"
        assert run(server, "GET", "key") == '{"a": 1}\n'
        assert run(server, "-x", "SET", "key", stdin="two\nlines") == "OK\n"
        assert run(server, stdin="GET key\nSTRLEN key\n") == "two\nlines\n9\n"


def test_cli_says_that_nobody_is_there(server: Server) -> None:
    server.kill()
    for run in (redis_cli, plain_cli):
        with pytest.raises(ConnectionError):
            run(server, "PING")
