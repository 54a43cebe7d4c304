"""``redis-cli`` for the tests of the documentation: what a reader types, and what the reader gets.

The real program when there is one; else a client of a few lines that prints what ``redis-cli --raw``
prints. A test holds both against one table.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
from pathlib import Path
from typing import BinaryIO

from .ports import HOST
from .servers import Server, redis62_binary

DEADLINE = 30.0


def find_cli() -> Path | None:
    """Return the machine's redis-cli or valkey-cli, or the one beside the Redis 6.2 server."""
    for name in ("redis-cli", "valkey-cli"):
        found = shutil.which(name)
        if found:
            return Path(found)
    beside = redis62_binary().with_name("redis-cli")
    return beside if os.access(beside, os.X_OK) else None


def redis_cli(server: Server, *args: str, stdin: str | None = None) -> str:
    """Run ``redis-cli ARGS``, or the lines of `stdin` as commands (with ``-x``: as last argument).

    Returns what it prints when its output is no terminal; an error of the server is printed as well.
    """
    cli = find_cli()
    if cli is None:
        return plain_cli(server, *args, stdin=stdin)
    address = ["-h", HOST, "-p", str(server.port)]
    env = {**os.environ, **({"REDISCLI_AUTH": server.password} if server.password else {})}
    done = subprocess.run(
        [cli, *address, *args],
        input=stdin or "",
        env=env,  # a password on the command line would print a warning
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,  # redis-cli's exit codes differ between versions
    )
    if "Could not connect" in done.stderr:
        raise ConnectionError(done.stderr.strip())
    return done.stdout


def plain_cli(server: Server, *args: str, stdin: str | None = None) -> str:
    """What `redis_cli` does when there is no redis-cli; of its options it knows ``-x`` and ``--raw``."""
    words = [word for word in args if word != "--raw"]
    if words[:1] == ["-x"]:
        commands = [[*words[1:], stdin or ""]]
    else:
        commands = [words] if words else [shlex.split(line) for line in (stdin or "").splitlines()]
    with (
        socket.create_connection((HOST, server.port), DEADLINE) as connection,
        connection.makefile("rb") as replies,
    ):
        if server.password:
            connection.sendall(_request(["AUTH", server.password]))
            _reply(replies)
        printed = []
        for command in filter(None, commands):
            connection.sendall(_request(command))
            printed.append(_reply(replies) + "\n")
    return "".join(printed)


def _request(words: list[str]) -> bytes:
    encoded = [word.encode() for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)


def _reply(replies: BinaryIO) -> str:
    line = replies.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("the server closed the connection")
    kind, rest = line[:1], line[1:-2].decode()
    if kind in b"+:":
        return rest
    if kind == b"-":
        return rest + "\n"
    if kind == b"$":
        return "" if rest == "-1" else replies.read(int(rest) + 2)[:-2].decode()
    if kind == b"*":
        return "\n".join(_reply(replies) for _ in range(int(rest)))
    raise ValueError(f"no reply of RESP2: {line!r}")
