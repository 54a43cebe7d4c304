"""The servers in the middle: one Valkey and one NATS, each private, on a free port of the loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from benchmarks.environments import Unavailable
from tests.kit.ports import HOST, free_port
from tests.kit.servers import Server
from tests.kit.waiting import eventually

__all__ = ["NatsServer", "Valkey", "cpu_seconds"]


class Valkey:
    """A Valkey on TCP without persistence."""

    def __init__(self, stack: ExitStack) -> None:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rt-bench-")))
        self._server = stack.enter_context(Server("valkey", directory=directory))
        self._client = self._server.client()
        self.url = self._server.url
        self.port = self._server.port
        self.pid = self._server.pid
        self.version = f"Valkey {self._server.version}"

    def cpu(self) -> float:
        """Return the CPU seconds that it has used (``INFO cpu``)."""
        info: dict[str, Any] = self._client.info("cpu")
        return float(info["used_cpu_sys"]) + float(info["used_cpu_user"])

    def commands(self) -> int:
        """Return how many commands it has carried out, those in scripts too (``INFO commandstats``)."""
        stats: dict[str, Any] = self._client.info("commandstats")
        return sum(stat["calls"] for name, stat in stats.items() if name != "cmdstat_info")

    def watch(self, seconds: float) -> list[tuple[str, bool]]:
        """Return each command of the next seconds, and whether a script called it (``MONITOR``)."""
        text, until = b"", time.monotonic() + seconds
        with socket.create_connection((HOST, self.port)) as connection:
            connection.sendall(b"MONITOR\r\n")
            while (left := until - time.monotonic()) > 0:
                connection.settimeout(left)
                with suppress(TimeoutError):
                    text += connection.recv(65536)
        lines = text.decode(errors="replace").splitlines()[1:]
        return [(line.split('"')[1].lower(), " lua] " in line) for line in lines]

    def clear(self) -> None:
        """Remove all keys."""
        self._client.flushall()

    def memory(self) -> int:
        """Return the bytes that it has allocated."""
        return int(self._client.info("memory")["used_memory"])

    def connections(self) -> int:
        """Return how many clients are connected."""
        return int(self._client.info("clients")["connected_clients"])

    def keys(self) -> list[str]:
        """Return all keys."""
        return sorted(str(key) for key in self._client.keys("*"))


class NatsServer:
    """A NATS server, if the machine has one (on Debian: the package ``nats-server``).

    Raises:
        Unavailable: it has none.
    """

    def __init__(self, stack: ExitStack) -> None:
        program = shutil.which("nats-server", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))
        if program is None:
            raise Unavailable("nats-server is not installed")
        said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True)
        self.version = f"NATS {said.stdout.strip().rpartition(' ')[2].lstrip('v')}"
        self.port = free_port()
        self.url = f"nats://{HOST}:{self.port}"
        self._process = subprocess.Popen(
            [program, "-a", HOST, "-p", str(self.port), "-c", os.devnull],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.pid = self._process.pid
        stack.callback(self._stop)
        eventually(self._listens, what="the NATS server")

    def cpu(self) -> float:
        """Return the CPU seconds that it has used."""
        return cpu_seconds([self._process.pid])

    def commands(self) -> None:
        """Return None: it does not count them."""

    def _listens(self) -> bool:
        if self._process.poll() is not None:
            raise Unavailable(f"nats-server ended with {self._process.returncode}")
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0

    def _stop(self) -> None:
        self._process.terminate()
        self._process.wait()


def cpu_seconds(pids: list[int]) -> float:
    """Return the CPU seconds that the living threads of processes have used."""
    files = (file for pid in pids for file in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9
