"""celery on Redis, results in Redis: a prefork worker with one process, which takes many tasks ahead."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from celery import Celery  # type: ignore[import-not-found]

from benchmarks.actors.conversation import converse, play
from benchmarks.actors.tally import Tally
from benchmarks.payload import ORDER

AHEAD = 64
TALLY, URL, QUEUE = "BENCHMARK_TALLY", "BENCHMARK_URL", "BENCHMARK_QUEUE"


def new_app(url: str, queue: str) -> Any:
    app = Celery("noop", broker=url, backend=url)
    app.conf.update(
        task_default_queue=queue,
        worker_prefetch_multiplier=AHEAD,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        task_serializer="json",
        result_serializer="json",
    )
    return app


def noop_of(app: Any, tally: str) -> Any:
    arrived = Tally(tally).arrived

    @app.task(name="noop")  # type: ignore[untyped-decorator, unused-ignore]
    def noop(**order: Any) -> int:
        arrived()
        return 1

    return noop


def worker(url: str, queue: str, tally: str) -> None:
    """Carry out tasks in the processes that the command line starts."""
    given = {**os.environ, URL: url, QUEUE: queue, TALLY: tally}
    command = [sys.executable, "-m", "celery", "-A", __spec__.name, "worker", "--pool=prefork", "-c", "1"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "ERROR"]
    with subprocess.Popen([*command, *quiet], env=given, stdout=subprocess.DEVNULL) as serving:
        converse(pids=lambda: [serving.pid])
        serving.terminate()


def submitter(url: str, queue: str) -> None:
    """Submit, one after the other: it has no call that takes many."""
    noop = noop_of(new_app(url, queue), "")

    def submit(count: int) -> None:
        for _ in range(count):
            noop.delay(**ORDER)

    converse(submit=submit)


if URL in os.environ:
    app = new_app(os.environ[URL], os.environ[QUEUE])
    noop_of(app, os.environ[TALLY])

if __name__ == "__main__":
    play(worker, submitter)
