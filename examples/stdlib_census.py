"""What is Python's own standard library made of? Worker processes find out.

Each source file is one request. A worker parses it and answers with what it counted; meanwhile it
publishes live events, which this script hears and draws as a progress bar.

Run it:  make demo        or: .venv/bin/python examples/stdlib_census.py [how many files]
"""

from __future__ import annotations

import ast
import os
import sys
import sysconfig
import time
import warnings
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from redis_toolkit import App, RedisToolkit

# A private server, started for this script. Any other works as well: redis://localhost:6379/0
app = App("embedded://")
warnings.simplefilter("ignore")  # of odd spellings in old source files; each worker runs this line too


# A request sent to the channel "analyse" is answered by one worker. What it returns comes back.
@app.on("analyse")
def analyse(path: str) -> dict[str, Any]:
    app.publish("started", {"path": path, "worker": os.getpid()})  # whoever listens now hears it
    source = Path(path).read_bytes()
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError as error:  # some files are broken on purpose, to test the parser
        return {"broken": str(error)}
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = [((node.end_lineno or node.lineno) - node.lineno + 1, node.name) for node in functions]
    return {
        "lines": len(source.splitlines()),
        "functions": len(functions),
        "classes": sum(isinstance(node, ast.ClassDef) for node in nodes),
        "longest": [*max(lengths, default=(0, "")), Path(path).name],  # lines, function, file
    }


def main() -> int:
    library = Path(sysconfig.get_path("stdlib"))
    paths = sorted(str(path) for path in library.rglob("*.py") if "site-packages" not in path.parts)
    paths = paths[: int(sys.argv[1])] if len(sys.argv) > 1 else paths

    # Start the worker processes. Each one runs this script too, as far as this line, and then serves;
    # so what follows happens in the main process only. (A service would say app.run(workers=4) here.)
    app.start(workers=os.cpu_count() or 2)

    workers: set[int] = set()
    with Progress() as progress:
        bar = progress.add_task("starting", total=len(paths))

        def advance(_channel: str, data: Any) -> None:
            workers.add(data["worker"])
            progress.update(bar, advance=1, description=f"{len(workers)} workers")

        # Subscribe to the live events, here and not in a worker: advance() runs on a background thread.
        with RedisToolkit(["started"], advance, url=app.url):
            started = time.perf_counter()
            # One request for each file, 100 at a time; each has 60 s. An error stands in its place.
            answers = app.request_many("analyse", paths, timeout=60, return_exceptions=True)
            seconds = time.perf_counter() - started
    app.stop()

    missing = [answer for answer in answers if isinstance(answer, Exception)]
    found = [answer for answer in answers if isinstance(answer, dict) and "broken" not in answer]
    length, name, file = max((answer["longest"] for answer in found), default=[0, "none", "no file"])
    table = Table(title="The standard library of Python " + sys.version.split()[0])
    table.show_header = False
    table.add_row("files", f"{len(found):,}")
    table.add_row("broken on purpose", f"{len(paths) - len(found) - len(missing):,}")
    for what in ("lines", "functions", "classes"):
        table.add_row(what, f"{sum(answer[what] for answer in found):,}")
    table.add_row("longest function", f"{name} in {file}: {length:,} lines")
    table.add_row("time", f"{seconds:.1f} s: {len(paths) / seconds:,.0f} requests/s")
    Console().print(table)
    for error in missing:
        print("no answer:", error, file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main())
