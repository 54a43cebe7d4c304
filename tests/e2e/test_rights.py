"""ACL users: the rules of the documentation are enough, and each right that is missing is named."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from redis_toolkit import App, PermissionDenied, RedisToolkit, RemoteError, keys
from redis_toolkit.patterns import TaskQueue
from tests.e2e.conftest import MakeApp
from tests.e2e.queues import Queue
from tests.e2e.styles import Background, Style
from tests.kit.servers import Server
from tests.kit.waiting import eventually

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text("utf-8")
RULES = dict(re.findall(r'title="acl: (\w+)"\n(.*)\n', PAGE))
CALLER = "on ~* &* +@all"
pytestmark = [pytest.mark.usefixtures("every_style"), pytest.mark.fault(35, "events", "requests")]


@pytest.fixture
def user(server: Server) -> Callable[..., str]:
    """Return a function that makes a user with rules, and returns its URL."""

    def make(name: str, *rules: str) -> str:
        server.execute("ACL", "SETUSER", name, "reset", "on", ">pw", *" ".join(rules).split())
        return server.url.replace("redis://", f"redis://{name}:pw@")

    return make


@pytest.fixture
def bobs(user: Callable[..., str], make_app: MakeApp, quickly: dict[str, Any]) -> MakeApp:
    """Return a function that makes an app of the user bob, who may do everything at first."""

    def make(**options: Any) -> App:
        return make_app(user("bob", CALLER), **{**quickly, **options})

    return make


def serving(app: App) -> list[Any]:
    got: list[Any] = []
    app.on("news", "glob:*", requests=False)(got.append)
    app.on("echo", events=False)(lambda data: data)
    app.on("any:*", events=False, requests=True)(lambda data, channel: channel)
    return got


def test_the_rules_of_the_documentation_are_enough(user: Callable[..., str], make_app: MakeApp) -> None:
    worker = make_app(user("worker", RULES["workers"]))
    caller = make_app(user("caller", RULES["callers"]))
    hearer = make_app(user("hearer", RULES["subscribers"]))
    got, heard = serving(worker), list[Any]()
    hearer.on("news", "glob:*", requests=False)(heard.append)
    worker.start()
    hearer.start()
    assert caller.request("echo", 1) == 1
    assert caller.request("any:thing", 1) == "any:thing"
    assert caller.request_many("echo", range(20)) == list(range(20))
    assert caller.publish("news", 1) == 2
    assert caller.publish_many("glob:1", [2, 3]) == [2, 2]
    eventually(lambda: got == heard == [1, 2, 3])
    assert worker.health_check()
    assert caller.health_check()
    assert hearer.health_check()


def test_who_only_publishes_needs_few_rights_and_those(
    user: Callable[..., str], make_app: MakeApp, app: App
) -> None:
    heard: list[Any] = []
    app.on("news", requests=False)(heard.append)
    app.start()
    url = user("pat", RULES["live_publishers"])
    assert make_app(url).publish("news", 1) == 1
    assert make_app(url).publish_many("news", [2, 3]) == [1, 1]
    with RedisToolkit(url=url) as toolkit:
        assert toolkit.publisher("news", 4) == 1
        eventually(lambda: heard == [1, 2, 3, 4])
        for lacking in ("-eval -evalsha", "-exists", "resetkeys"):
            user("pat", RULES["live_publishers"], lacking)
            with pytest.raises(PermissionDenied, match="user 'pat'"):
                toolkit.publisher("news", 5)
    assert heard == [1, 2, 3, 4]


REQUEST = ["eval", "time", "zcount", "rpush", "pexpire", "pttl"]


@pytest.mark.parametrize("command", REQUEST)
def test_a_request_without_a_command_is_refused_and_not_half_sent(
    user: Callable[..., str], make_app: MakeApp, server: Server, app: App, command: str
) -> None:
    ran: list[Any] = []
    app.on("echo", events=False)(ran.append)
    app.start()
    caller = make_app(user("ann", CALLER, f"-{command}", "-evalsha" if command == "eval" else ""))
    with pytest.raises(PermissionDenied, match=rf"(?i){command}") as caught:
        caller.request("echo", 1, timeout=60)
    assert "user 'ann'" in str(caught.value)
    assert "ACL SETUSER" in str(caught.value)
    assert keys.requests("echo") in str(caught.value)
    assert server.execute("LLEN", keys.requests("echo")) == 0
    app.stop()
    assert ran == []


def test_who_may_not_wait_for_the_reply_has_sent_nothing(
    user: Callable[..., str], make_app: MakeApp, server: Server, app: App
) -> None:
    ran: list[Any] = []
    app.on("echo", events=False)(ran.append)
    app.start()
    caller = make_app(user("ann", CALLER, "-blpop"))
    with pytest.raises(PermissionDenied, match=r"(?i)blpop"):
        caller.request("echo", 1, timeout=60)
    app.stop()
    if hasattr(caller, "background") or server.kind == "redis62":
        return  # nobody can tell them in advance
    assert ran == []


def test_keys_and_channels(user: Callable[..., str], make_app: MakeApp, app: App) -> None:
    serving(app)
    app.start()
    own = "~rt:c:{echo}:* ~rt:c:{news}:* ~rt:i:* ~rt:patterns resetchannels &news* &rt:c:{echo}:* +@all"
    caller = make_app(user("ann", own))
    assert caller.request("echo", 1) == 1
    assert caller.publish("news", 1) == 1
    with pytest.raises(PermissionDenied, match=r"rt:c:\{other\}:requests.*'ann'.*key"):
        caller.request("other", 1, timeout=60)
    with pytest.raises(PermissionDenied, match=r"rt:c:\{other\}:stream.*'ann'.*key"):
        caller.publish("other", 1)
    caller = make_app(user("ben", own, "~rt:c:*"))
    with pytest.raises(PermissionDenied, match=r"rt:c:\{other\}.*'ben'.*channel"):
        caller.publish("other", 1)


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ("-subscribe", "(?i)subscribe"),
        ("-psubscribe", "PSUBSCRIBE 'glob:"),
        ("resetchannels &rt:* &glob:*", "'news'"),
        ("-zadd", r"rt:c:\{echo\}:servers"),
        ("-pexpire", r"(?i)pexpire.*rt:c:\{echo\}:servers"),
        ("resetkeys ~rt:patterns", r"rt:c:\{echo\}:servers"),
    ],
)
def test_a_start_without_a_right_says_which(
    user: Callable[..., str], make_app: MakeApp, server: Server, rules: str, named: str
) -> None:
    app = make_app(user("bob", CALLER, rules))
    serving(app)
    with pytest.raises(PermissionDenied, match=named) as caught:
        app.start()
    assert "user 'bob'" in str(caught.value)
    if rules in ("-zadd", "-pexpire"):
        assert server.execute("KEYS", "rt:c:{echo}:servers") == []


def test_a_channel_that_is_taken_away_leaves_the_others(
    bobs: MakeApp, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    app = bobs()
    got, other, gaps = serving(app), list[Any](), list[Any]()
    app.on("other", requests=False)(other.append)
    app.on_gap(gaps.append)
    app.start()
    server.execute("ACL", "SETUSER", "bob", "resetchannels", "&rt:*", "&news", "&glob:*")
    eventually(lambda: not app.health_check(), what="loss of the channel")
    client = server.client()
    eventually(lambda: client.publish("news", "1") == 1, what="the other channel")
    eventually(lambda: got == [1])
    assert client.publish("other", "2") == 0
    eventually(lambda: any("'other'" in line for line in caplog.messages), what="a line that names it")
    server.execute("ACL", "SETUSER", "bob", "&*")
    eventually(lambda: client.publish("other", "3") == 1, what="the channel again")
    eventually(lambda: other == [3])
    eventually(app.health_check, what="health")
    lines = [line for line in caplog.messages if "not subscribed" in line]
    assert len(lines) <= 4, lines
    assert any("other" in gap.channels for gap in gaps)


def test_a_heartbeat_that_is_refused_says_so_once(
    bobs: MakeApp, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    app = bobs(lease=0.4)
    serving(app)
    app.start()
    server.execute("ACL", "SETUSER", "bob", "-zadd")
    eventually(lambda: any("heartbeat" in line for line in caplog.messages))
    client = server.client()
    first = int(client.info("commandstats")["cmdstat_evalsha"]["calls"])
    eventually(lambda: int(client.info("commandstats")["cmdstat_evalsha"]["calls"]) > first + 20)
    server.execute("ACL", "SETUSER", "bob", "+zadd")
    eventually(lambda: server.execute("EXISTS", keys.servers("echo")))
    lines = [line for line in caplog.messages if "heartbeat failed" in line and "refused" in line]
    assert len(lines) == 1
    assert app.request("echo", 1, timeout=60) == 1


REVOKED = [
    ("-blpop", "(?i)blpop", False),
    ("-lpop", "(?i)lpop", True),
    ("resetkeys ~rt:c:{other}:* ~rt:i:* ~rt:c:{echo}:reply:*", r"rt:c:\{echo\}:requests", True),
]
"""What is taken from a worker, what its log names then, and whether other channels are still served."""


@pytest.mark.parametrize(("rules", "named", "others"), REVOKED, ids=[rules for rules, _, _ in REVOKED])
def test_a_right_that_is_taken_from_a_serving_worker_and_given_back(
    bobs: MakeApp,
    make_app: MakeApp,
    server: Server,
    quickly: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    rules: str,
    named: str,
    others: bool,
) -> None:
    for place in ("claiming.RETRY", "threads.REFUSED_SECONDS", "loop.REFUSED_SECONDS"):
        monkeypatch.setattr(f"redis_toolkit.worker.{place}", 0.1)
    app, caller = bobs(), make_app(server.url, **quickly)
    app.on("echo", events=False)(lambda data: data)
    app.on("other", events=False)(lambda data: data)
    heard: list[Any] = []
    app.on("news", requests=False)(heard.append)
    app.start()
    assert caller.request_many("echo", range(20), timeout=60) == list(range(20))
    server.execute("ACL", "SETUSER", "bob", *rules.split())

    def complaints() -> list[str]:
        return [line for line in caplog.messages if re.search(named, line) and "NOPERM" in line.upper()]

    asked: list[Any] = []
    asking = threading.Thread(target=lambda: asked.append(caller.request("echo", "waits", timeout=60)))
    asking.start()
    try:
        eventually(complaints, what="a line that names it")
        assert caller.publish("news", 1) == 1
        eventually(lambda: heard == [1], what="the event")
        if others:
            assert caller.request_many("other", range(3), timeout=60) == list(range(3))
        if rules == "-blpop":
            client = server.client()
            before = refusals(client)
            eventually(lambda: refusals(client) > before + 1, what="more tries")
    finally:
        server.execute("ACL", "SETUSER", "bob", "~*", "+@all")
        asking.join(60)
    assert asked == ["waits"]  # what waited meanwhile is answered
    assert caller.request_many("echo", range(20), timeout=60) == list(range(20))
    assert caller.request_many("other", range(20), timeout=60) == list(range(20))
    lines = complaints()
    assert len(lines) == len(set(lines)) <= 2  # each channel once


def refusals(client: Any) -> int:
    return int(client.info("commandstats")["cmdstat_blpop"]["rejected_calls"])


@pytest.fixture(params=["called", "awaited"])
def submitter(
    request: pytest.FixtureRequest, user: Callable[..., str], no_thread_is_left: None
) -> Iterator[Queue]:
    background = Background()
    app = App(user("submitter", RULES["submitters"]))
    yield Queue(app, Style(calls=request.param), background, "jobs")
    background.run(app.astop())
    background.close()


@pytest.mark.usefixtures("threads_and_calls")
@pytest.mark.fault(35, "tasks")
def test_the_rules_for_submitters_are_enough(submitter: Queue, app: App) -> None:
    TaskQueue("jobs", app=app).task(name="halve", retries=1, backoff=0.01)(lambda a: 10 / a)
    queue = submitter
    options: list[dict[str, Any]] = [{"delay": 60}, {"expires": 60}, {}, {"id": "7", "unique_key": "only"}]
    cancelled, *handles = [queue.submit("halve", 2, **one) for one in options]
    assert queue.do(cancelled, "cancel")
    queue.pause()
    queue.resume()
    with app:
        assert queue.results(handles) == [5] * 3
        assert queue.result(queue.real.handle("7")) == 5
        assert (queue.do(handles[0], "status"), queue.do(handles[0], "progress")) == ("done", None)
        with pytest.raises(RemoteError):
            queue.result(queue.submit("halve", 0))
        queue.join(30)
    assert queue.retry_dead([queue.dead()[0].id]) == 1
    queue.submit("halve", 2, unique_key="another")
    queue.submit("halve", 2, delay=60)
    assert queue.purge() == 3
    assert queue.stats().pending == 0


@pytest.mark.fault(35, "tasks")
def test_a_submit_without_a_right_is_refused(user: Callable[..., str], make_app: MakeApp) -> None:
    queue = TaskQueue("jobs", app=make_app(user("ann", CALLER, "-xadd")))
    for options in ({}, {"id": "7"}):
        with pytest.raises(PermissionDenied, match=r"(?i)xadd"):
            queue.app._driver.run(queue._submitting.flow([queue.call("add", 1, **options)]))  # type: ignore[arg-type]
