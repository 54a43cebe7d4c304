"""An app in the processes of a web server: forked after it was built, after it was used, and spawned.

Such servers load the program and fork (with "preload" after the program was used), or spawn fresh
interpreters. The forks here are bare ones at the same places, without such a server around them.
"""

from __future__ import annotations

import pytest

from redis_toolkit import App, keys
from tests.hazards.conftest import Start
from tests.kit.servers import Server

PRELOADED = """
import asyncio, faulthandler, os, signal, sys, threading
from redis_toolkit import App, RedisToolkit

app = App(sys.argv[1] + "?client_name=" + str(os.getpid()), block=0.2)

def work():
    "What a worker does with the app: calls, awaited calls, a toolkit, and each worker's own client."
    for number in range(20):
        assert app.request("double", number, timeout=60) == 2 * number
    async def main():
        calls = [app.arequest("double", number, timeout=60) for number in range(20)]
        assert await asyncio.gather(*calls) == [2 * number for number in range(20)]
    asyncio.run(main())
    assert RedisToolkit(url=sys.argv[1]).publisher("nobody", 1) == 0
    assert app.client.ping()

def fork(count, call):
    children = []
    for _ in range(count):
        child = os.fork()
        if child == 0:
            faulthandler.dump_traceback_later(50, exit=True)  # a child that waits for a lock for ever
            code = 1
            try:
                call()
                code = 0
            except BaseException:
                import traceback
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    return children

def join(children):
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert not any(codes), codes
"""

BEFORE = {
    "only built": "",
    "used": "work()",
    "used on a loop that still runs": """
loop = asyncio.new_event_loop()
looping = threading.Thread(target=loop.run_forever)
looping.start()
asyncio.run_coroutine_threadsafe(app.arequest("double", 1, timeout=60), loop).result()
""",
    "used in other threads meanwhile": """
over = threading.Event()
def keep_working():
    while not over.is_set():
        work()
threads = [threading.Thread(target=keep_working) for _ in range(3)]
for thread in threads: thread.start()
""",
    "serving": """
app.on("parent")(os.getpid)
app.start()
""",
}
AFTER = {
    "used in other threads meanwhile": """
over.set()
for thread in threads: thread.join()
""",
    "serving": """
assert app.request_many("parent", [None] * 10, timeout=60) == [os.getpid()] * 10
app.stop()
""",
    "used on a loop that still runs": """
asyncio.run_coroutine_threadsafe(app.astop(), loop).result()
loop.call_soon_threadsafe(loop.stop)
looping.join()
loop.run_until_complete(loop.shutdown_asyncgens())
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
""",
}


@pytest.fixture(autouse=True)
def doubling(client: App) -> None:
    """Somebody who answers, on the server of the program."""
    client.on("double")(lambda number: 2 * number)
    client.start()


@pytest.mark.parametrize("before", BEFORE)
def test_workers_are_forked_when_the_app_was(start: Start, before: str) -> None:
    program = start(
        PRELOADED
        + BEFORE[before]
        + """
join(fork(3, work))
work()
"""
        + AFTER.get(before, "")
        + """
print("ended", flush=True)
""",
        forks=True,
    )
    assert program.wait(120) == 0, program.output
    assert program.stdout == "ended\n"
    assert program.stderr == ""


def test_each_forked_worker_serves(start: Start, bus: Server, client: App) -> None:
    """As with handlers that a web server's worker starts: in the child, after the parent has served too."""
    program = start(
        PRELOADED
        + """
@app.on("pid", events=False)
def pid(): return os.getpid()

@app.on("apid", events=False)
async def apid(): return os.getpid()

def serve():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with app:
        print("serving", os.getpid(), flush=True)
        while True:
            signal.pause()

def serve_in_a_worker():
    try:
        serve()
    except SystemExit as end:
        assert end.code == 0

with app:
    assert app.request("pid", timeout=60) == os.getpid()
workers = fork(2, serve_in_a_worker)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("forked", *workers, flush=True)
signal.sigwait({signal.SIGTERM})
for worker in workers:
    os.kill(worker, signal.SIGTERM)
join(workers)
print("ended", flush=True)
""",
        forks=True,
    )
    workers = {int(pid) for pid in program.wait_for_line("forked").split()[1:]}
    for worker in workers:
        program.wait_for_line(f"serving {worker}")
    assert len(bus.execute("ZRANGE", keys.servers("pid"), 0, -1)) == 2
    for channel in ("pid", "apid"):
        answered = set(client.request_many(channel, [None] * 200, timeout=60))
        assert answered <= workers
    program.terminate()
    assert program.wait(60) == 0, program.output
    assert program.stderr == ""
    assert bus.execute("ZCARD", keys.servers("pid")) == 0


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_an_app_in_the_processes_of_multiprocessing(start: Start, method: str) -> None:
    """As a server with a reloader or with several workers starts them: each imports the program."""
    program = start(
        PRELOADED
        + f"""
import multiprocessing

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    work()
    workers = [context.Process(target=work) for _ in range(2)]
    for worker in workers: worker.start()
    for worker in workers: worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0], workers
    work()
    print("ended", flush=True)
""",
        forks=True,
    )
    assert program.wait(120) == 0, program.output
    assert program.stdout == "ended\n"
    assert program.stderr == ""
