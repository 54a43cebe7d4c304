"""Programs that end while something runs: at once, with their own exit code, and without a word."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from redis_toolkit import App
from redis_toolkit.errors import RedisToolkitError
from tests.hazards.conftest import Start

PROLOGUE = """
import asyncio, os, sys, threading, time
from redis_toolkit import App, RedisToolkit
from redis_toolkit.errors import RedisToolkitError

url, way = sys.argv[1:3]
# An hour of grace: who waits for what will not end runs into the test's deadline.
app = App(url, grace=3600, block=0.2)
heard = threading.Event()

def hear(data, channel):
    heard.set()

async def ahear(data, channel):
    heard.set()

def until_the_end(call):
    try:
        call()
    except RedisToolkitError:
        pass  # the other side has stopped, and this is what its callers get

def end():
    assert heard.wait(60)
    print("ends", flush=True)
    if way == "raise":
        raise ValueError("its own")
    if way == "sys.exit":
        sys.exit(3)
"""

RUNNING = {
    "a toolkit": "toolkit = RedisToolkit(['news'], lambda channel, data: heard.set(), url=url)",
    "a toolkit with a coroutine": """
async def take(channel, data):
    heard.set()
toolkit = RedisToolkit(['news'], take, url=url)
""",
    "an app": """
app.on("news")(hear)
app.on("ask")(lambda data: data)
app.start()
""",
    "an app with coroutines": """
@app.on("ask")
async def ask(data):
    return await asyncio.to_thread(str, data)
app.on("news")(ahear)
app.start()
assert app.request("ask", 1, timeout=60) == "1"
""",
    "an app on the loop of a daemon thread": """
app.on("news")(ahear)
@app.on("ask")
async def ask(data):
    return data
app.on("threads")(lambda data: data)
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
asyncio.run_coroutine_threadsafe(app.astart(), loop).result()
""",
    "requests of other threads": """
app.on("news")(hear)
@app.on("slow")
def slow(data):
    time.sleep(0.05)
app.start()
def ask():
    while True:
        app.request("slow", timeout=60)
for _ in range(12):
    threading.Thread(target=until_the_end, args=(ask,), daemon=True).start()
""",
    "awaited requests of another thread": """
app.on("news")(hear)
@app.on("slow")
def slow(data):
    time.sleep(0.01)
app.start()
async def ask():
    calls = [app.arequest("slow", timeout=60) for _ in range(100)]
    await asyncio.gather(*calls, return_exceptions=True)
def keep_asking():
    asyncio.run(ask())
threading.Thread(target=until_the_end, args=(keep_asking,), daemon=True).start()
""",
    "publishing in other threads": """
app.on("news")(hear)
app.start()
def say():
    while True:
        app.publish("news", 1)
for _ in range(4):
    threading.Thread(target=until_the_end, args=(say,), daemon=True).start()
""",
}
EXIT_CODES = {"the end": 0, "raise": 1, "sys.exit": 3}


@pytest.fixture
def news(client: App) -> Iterator[None]:
    """Messages as fast as one thread can publish them, to whoever hears "news"."""
    over = threading.Event()

    def publish() -> None:
        while not over.is_set():
            try:
                client.publish_many("news", range(100))
            except RedisToolkitError:
                return

    thread = threading.Thread(target=publish, name="news")
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.mark.parametrize("way", EXIT_CODES)
@pytest.mark.parametrize("running", RUNNING)
def test_a_program_ends_while_something_runs(news: None, start: Start, running: str, way: str) -> None:
    program = start(PROLOGUE + RUNNING[running] + "\nend()\n", way)

    assert program.wait(60) == EXIT_CODES[way], program.output
    assert program.stdout == "ends\n"
    said = program.stderr.splitlines()
    if way == "raise":
        assert said[0].startswith("Traceback"), program.stderr
        assert said[-1] == "ValueError: its own", program.stderr
        assert program.stderr.count("Traceback") == 1, program.stderr
    else:
        assert said == []


def test_a_program_does_not_wait_for_a_thread_that_a_coroutine_has_started(start: Start) -> None:
    program = start(
        """
import asyncio, sys, threading
from redis_toolkit import App

app = App(sys.argv[1], grace=0.2)
begun, over = threading.Event(), threading.Event()

def block():
    begun.set()
    over.wait()

@app.on("block")
async def handle(data):
    await asyncio.to_thread(block)

app.start()
app.publish("block", 1)
begun.wait()
app.stop()
print("stopped", flush=True)
over.set()
"""
    )
    program.wait_for_line("stopped")
    assert program.wait(60) == 0, program.output


ENDS_WITH_ITS_LOOP = """
import asyncio, sys, threading
from redis_toolkit import App

app = App(sys.argv[1], block=0.2)

@app.on("ask")
async def ask(data):
    return data

@app.on("threads", events=False)
def threads(data):
    return data

async def main():
    await app.astart()
    assert await app.arequest("ask", 1, timeout=60) == 1
    {end}

for _ in range(2):
    try:
        asyncio.run(main())
    except ValueError:
        pass
    assert [one.name for one in threading.enumerate() if one.name.startswith("rt-")] == []
    assert app.client.zcard("rt:c:{{ask}}:servers") == 0
print("ended", flush=True)
"""


@pytest.mark.parametrize("end", ["return", "raise ValueError"])
def test_an_app_that_nobody_stops_ends_with_its_loop(start: Start, end: str) -> None:
    program = start(ENDS_WITH_ITS_LOOP.format(end=end))

    assert program.wait(60) == 0, program.output
    assert program.stdout == "ended\n"
    said = program.stderr.splitlines()
    assert len(said) == 2, program.stderr
    assert all("nobody awaited astop()" in line for line in said), program.stderr


def test_an_app_whose_loop_was_closed_under_it_stops_and_starts_again(start: Start) -> None:
    program = start(
        """
import asyncio, sys, warnings
from redis_toolkit import App

app = App(sys.argv[1], grace=3600, block=0.2)

@app.on("hear", requests=False)
async def hear(data):
    print("heard", data, flush=True)

loop = asyncio.new_event_loop()
loop.run_until_complete(app.astart())
guard = asyncio.all_tasks(loop)
loop.close()
app.publish("hear", "nobody")
app.start()
app.publish("hear", "somebody")
app.stop()
print("stopped", flush=True)
for task in guard:
    task._log_destroy_pending = False  # that is what closing a loop like this does
"""
    )
    assert program.wait(60) == 0, program.output
    assert program.stdout == "heard somebody\nstopped\n", program.output


def test_a_loop_that_stands_still_is_no_obstacle_to_a_stop(start: Start) -> None:
    program = start(
        """
import asyncio, sys
from redis_toolkit import App

app = App(sys.argv[1], grace=3600, block=0.2)

@app.on("ask")
async def ask(data):
    return data

loop = asyncio.new_event_loop()
loop.run_until_complete(app.astart())
app.stop()
print("stopped", flush=True)

async def until_nothing_runs():
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0.01)

loop.run_until_complete(until_nothing_runs())  # what was left ends as soon as the loop goes on
loop.run_until_complete(loop.shutdown_asyncgens())
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
"""
    )
    assert program.wait(60) == 0, program.output
    assert program.stdout == "stopped\n"
