"""What is Python's own standard library made of? Worker processes find out, and one of them is killed.

Each source file is one task: the modules go first, then the packages, then the tests. In the middle a
worker is killed with ``kill -9``. What it was doing is done again by another; in the end there is one
result for each file.

Run it:  make demo        or: .venv/bin/python examples/stdlib_census.py [how many files]
"""

from __future__ import annotations

import ast
import os
import signal
import sys
import sysconfig
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress
from rich.table import Table

from redis_toolkit import App, RedisToolkit
from redis_toolkit.patterns import TaskQueue

# A private server, started for this script. Any other works as well: redis://localhost:6379/0
app = App("embedded://")
# What a dead worker had is taken over after 2 s without a sign of life (10 s unless you say otherwise). Each
# process runs one task at a time: this is work for processors, and Python 3.11 cannot parse in two threads.
queue = TaskQueue("census", app=app, lease=2, concurrency=1)
warnings.simplefilter("ignore")  # of odd spellings in old source files; each worker runs this line too


@queue.task
def analyse(path: str) -> dict[str, Any]:
    app.publish("started", {"path": path, "worker": os.getpid()})  # whoever listens now hears it
    source = Path(path).read_bytes()
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError as error:  # some files are broken on purpose, to test the parser
        return {"path": path, "broken": str(error)}
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = [((node.end_lineno or node.lineno) - node.lineno + 1, node.name) for node in functions]
    return {
        "path": path,
        "lines": len(source.splitlines()),
        "functions": len(functions),
        "classes": sum(isinstance(node, ast.ClassDef) for node in nodes),
        "longest": [*max(lengths, default=(0, "")), Path(path).name],  # lines, function, file
    }


LIBRARY = Path(sysconfig.get_path("stdlib"))


def priority(path: str) -> str:
    parts = Path(path).relative_to(LIBRARY).parts
    return "low" if {"test", "tests"} & set(parts) else "normal" if len(parts) > 1 else "high"


class Watch:
    """Hears which worker begins which file, draws it, and kills who begins a long one in the middle."""

    def __init__(self, paths: list[str], progress: Progress) -> None:
        self.started: Counter[str] = Counter()
        order = sorted(paths, key=lambda path: queue.priorities.index(priority(path)))
        third = len(order) // 3
        self.kill_at = max(order[third : -third or None], key=lambda path: Path(path).stat().st_size)
        self.killed: int | None = None
        self.progress = progress
        totals = Counter(priority(path) for path in paths)
        self.bars = {name: progress.add_task(name, total=totals[name]) for name in queue.priorities}

    def hear(self, _channel: str, data: Any) -> None:
        path, worker = data["path"], data["worker"]
        self.started[path] += 1
        if self.started[path] == 1:
            self.progress.advance(self.bars[priority(path)])
        else:
            self.progress.console.print(f"again: {Path(path).name}, by worker {worker}")
        if self.killed is None and path == self.kill_at:
            os.kill(worker, signal.SIGKILL)
            self.killed = worker
            self.progress.console.print(
                f"[bold red]kill -9 {worker}[/]: the worker that began {Path(path).name}"
            )


def main() -> int:
    paths = sorted(str(path) for path in LIBRARY.rglob("*.py") if "site-packages" not in path.parts)
    paths = paths[: int(sys.argv[1])] if len(sys.argv) > 1 else paths

    # Start the worker processes. Each one runs this script too, as far as this line, and then serves;
    # so what follows happens in the main process only. (A service would say app.run(workers=4) here.)
    app.start(workers=os.cpu_count() or 2)

    began = time.perf_counter()
    with Progress("{task.description:>6}", BarColumn(), MofNCompleteColumn()) as progress:
        watch = Watch(paths, progress)
        # Subscribe to the live events, here and not in a worker: hear() runs on a background thread.
        with RedisToolkit(["started"], watch.hear, url=app.url):
            handles = queue.submit_many(analyse.options(priority=priority(path)).call(path) for path in paths)
            answers = queue.gather(handles, timeout=120)
    seconds, ends = time.perf_counter() - began, queue.stats()
    app.stop()
    return report(paths, answers, ends.done, watch, seconds)


def report(paths: list[str], answers: list[Any], done: int, watch: Watch, seconds: float) -> int:
    found = [answer for answer in answers if "broken" not in answer]
    length, name, file = max((answer["longest"] for answer in found), default=[0, "none", "no file"])
    once = sorted(answer["path"] for answer in answers) == paths and done == len(paths)
    twice = sorted(Path(path).name for path, times in watch.started.items() if times > 1)
    table = Table(title="The standard library of Python " + sys.version.split()[0], show_header=False)
    table.add_row("files", f"{len(paths):,}, {len(paths) - len(found)} of them broken on purpose")
    for what in ("lines", "functions", "classes"):
        table.add_row(what, f"{sum(answer[what] for answer in found):,}")
    table.add_row("longest function", f"{name} in {file}: {length:,} lines")
    table.add_row("results", "[green]every file exactly once[/]" if once else "[red]not each file once[/]")
    table.add_row("killed", f"worker {watch.killed}" if watch.killed else "[red]nobody[/]")
    table.add_row("ran twice", ", ".join(twice) or "none: it was between two files")
    table.add_row("time", f"{seconds:.1f} s")
    Console().print(table)
    return 0 if once and watch.killed else 1


if __name__ == "__main__":
    raise SystemExit(main())
