"""What callers and other clients may send or pass, however odd: nothing dies of it, nothing is lost."""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest
from pydantic import BaseModel

from redis_toolkit import App, ConfigurationError, EncodeError, RedisToolkit, RemoteError, keys
from redis_toolkit.patterns import RequestResponse
from tests.e2e.conftest import MakeApp
from tests.kit.ports import HOST, free_port
from tests.kit.servers import Server
from tests.kit.waiting import eventually

THREADS = 2


@pytest.fixture
def app(own_server: Server, make_app: MakeApp) -> App:
    app = make_app(own_server.url, concurrency=THREADS, block=0.2, reconnect_cap=0.2)
    app.on("echo", events=False)(lambda data: data)
    return app


def request_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("rt-requests")}


@pytest.fixture
def serving(app: App) -> Iterator[App]:
    """An app that answers; afterwards all of its threads are alive, and ordinary requests work."""
    with app:
        before = request_threads()
        yield app
        assert app.request_many("echo", list(range(20)), timeout=60) == list(range(20))
        assert request_threads() >= before
        assert app.health_check()


# -- replies that cannot be written ----------------------------------------------------------------------


@dataclass(slots=True)
class Unset:
    """A dataclass whose field has no value: reading it is an AttributeError."""

    value: int

    def __init__(self) -> None:
        pass


class Lazy:
    """A model whose own code fails while it is written."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def model_dump(self, mode: str = "python") -> Any:
        raise self.error


class OddCodec:
    """A codec of somebody else's, with a mistake in it."""

    name = "odd"

    def encode(self, value: Any) -> bytes:
        raise KeyError("odd")

    def decode(self, body: bytes) -> Any:
        return None


REPLIES: dict[str, Callable[[], Any]] = {
    "unset": Unset,
    "key error": lambda: Lazy(KeyError("lazy")),
    "recursion": lambda: Lazy(RecursionError()),
    "memory": lambda: Lazy(MemoryError()),
    "base": lambda: Lazy(SystemExit(3)),
    "nested": lambda: {"items": [Unset()]},
    "object": object,
}


@pytest.mark.parametrize("codec", ["json", "msgpack"])
@pytest.mark.parametrize("kind", REPLIES)
def test_a_reply_that_cannot_be_written_is_an_error_reply(
    app: App, request: pytest.FixtureRequest, kind: str, codec: str
) -> None:
    app.on("reply", codec=codec)(REPLIES[kind])
    serving: App = request.getfixturevalue("serving")
    for _ in range(2 * THREADS):
        with pytest.raises(RemoteError, match="EncodeError"):
            serving.request("reply", timeout=60, codec=codec)
    eventually(lambda: serving.counters == {"failed": 2 * THREADS}, what="the count")


def test_a_codec_that_fails_is_an_error_reply(app: App, request: pytest.FixtureRequest) -> None:
    app.on("reply", codec=OddCodec())(lambda: None)
    serving: App = request.getfixturevalue("serving")
    for _ in range(2 * THREADS):
        with pytest.raises(RemoteError, match="EncodeError: codec 'odd' failed: KeyError: 'odd'"):
            serving.request("reply", timeout=60)


# -- requests that other clients push --------------------------------------------------------------------


def nested(depth: int) -> bytes:
    """Return the msgpack of a list in a list in a list..."""
    return b"\x91" * depth + b"\x90"


def envelope(raw: dict[str, bytes], **fields: Any) -> bytes:
    """Return a request whose fields are msgpack values, some of them written already."""
    pairs = [msgpack.packb(name) + msgpack.packb(value) for name, value in fields.items()]
    pairs += [msgpack.packb(name) + value for name, value in raw.items()]
    return b"0 " + bytes([0x80 + len(pairs)]) + b"".join(pairs)


FIELDS = ["reply_to", "codec", "id", "headers", "channel", "attempt", "spread", "data"]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.fault(30, "requests")
def test_a_deeply_nested_field_ends_no_thread(own_server: Server, serving: App, field: str) -> None:
    fields = {"id": "x", "reply_to": keys.reply("echo", "x"), "data": b"1"}
    fields.pop(field, None)
    bodies = [envelope({field: nested(depth)}, **fields) for depth in (1, 300, 490, 505, 900, 1018)]
    for _ in range(THREADS):
        for body in bodies:
            own_server.execute("RPUSH", keys.requests("echo"), body)
    eventually(lambda: own_server.execute("LLEN", keys.requests("echo")) == 0, what="the end of the list")


def test_a_codec_that_is_no_text_is_an_error_reply(own_server: Server, serving: App) -> None:
    for depth in (1, 600, 1018):
        key = keys.reply("echo", f"at {depth}")
        body = envelope({"codec": nested(depth)}, id=f"at {depth}", reply_to=key, data=b"1")
        own_server.execute("RPUSH", keys.requests("echo"), body)
        eventually(lambda key=key: own_server.execute("EXISTS", key), what="the reply")  # type: ignore[misc]
        reply = own_server.client().lpop(key)
        assert isinstance(reply, str)
        assert json.loads(reply)["error"]["type"] == "DecodeError"


def push(server: Server, channel: str, payloads: range) -> None:
    """Send requests in one command, so that they are one backlog."""
    items = [
        b"0 "
        + json.dumps({"id": str(data), "reply_to": keys.reply(channel, str(data)), "data": data}).encode()
        for data in payloads
    ]
    server.execute("RPUSH", keys.requests(channel), *items)


@pytest.mark.parametrize("warm", [200, 201])  # which of the two lists is looked at first
@pytest.mark.fault(34, "requests")
def test_a_foreign_value_in_one_list_loses_no_request_of_another(
    own_server: Server, make_app: MakeApp, caplog: pytest.LogCaptureFixture, warm: int
) -> None:
    app = make_app(own_server.url, concurrency=THREADS, block=0.2, reconnect_cap=0.2)
    ran: list[int] = []
    app.on("healthy", events=False)(ran.append)
    app.on("foreign", events=False)(lambda data: data)
    with app:
        for number in range(warm):
            app.request("healthy", -1 - number, timeout=60)
        ran.clear()
        own_server.execute("SET", keys.requests("foreign"), "foreign")
        eventually(lambda: "WRONGTYPE" in caplog.text, what="the first refusal")
        for first in (0, 5):
            payloads = range(first, first + 5)
            push(own_server, "healthy", payloads)
            replies = [keys.reply("healthy", str(data)) for data in payloads]
            eventually(lambda keys=replies: own_server.execute("EXISTS", *keys) == 5, what="the replies")  # type: ignore[misc]
        assert sorted(ran) == list(range(10))
        own_server.execute("DEL", keys.requests("foreign"))
        assert app.request("foreign", 1, timeout=60) == 1


@pytest.mark.fault(34, "requests")
def test_a_channel_whose_handler_is_slow_is_served_beside_a_foreign_value(
    own_server: Server, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(own_server.url, concurrency=THREADS, block=0.2, reconnect_cap=0.2, grace=300)
    app.on("foreign", events=False)(lambda data: data)  # the first that is looked at
    app.on("slow", events=False)(lambda data: threading.Event().wait(0.01) or data)
    own_server.execute("SET", keys.requests("foreign"), "foreign")
    with app:
        eventually(lambda: "WRONGTYPE" in caplog.text, what="the first refusal")
        assert app.request("slow", 1, timeout=60) == 1
    # And it could be stopped: that does not take the grace period, as nothing runs.


# -- log lines -------------------------------------------------------------------------------------------


class Model(BaseModel):
    numbers: dict[str, int]


@dataclass
class Plain:
    number: int


FORGED = "key\nCRITICAL forged \x1b[2J\r"
ODD_NAME = "channel\nCRITICAL forged \x1b\r"  # without brackets, which would make it a glob


@pytest.mark.fault(41, "requests")
def test_names_in_a_payload_do_not_break_log_lines(
    own_server: Server, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(own_server.url)

    @app.on("dates", requests=False)
    def dates(data: dict[str, datetime.datetime]) -> None:
        """Take a map."""

    @app.on("model", requests=False)
    def model(data: Model) -> None:
        """Take a model."""

    @app.on("plain", ODD_NAME, requests=False)
    def plain(data: Plain) -> None:
        """Take a dataclass."""

    with app:
        app.publish("dates", {FORGED: "no date"})
        app.publish("dates", {"key": FORGED})
        app.publish("model", {"numbers": {FORGED: "no number"}})
        app.publish("plain", {"number": 1, FORGED: 2})
        app.publish(ODD_NAME, {"number": 1, FORGED: 2})
        app.publish("plain", {"number": FORGED})
        app.client.publish("plain", b"\xff" + FORGED.encode())
        eventually(lambda: sum(app.counters.values()) == 7, what="seven that do not fit")
    lines = [record.getMessage() for record in caplog.records if record.name == "redis_toolkit"]
    assert len([line for line in lines if line.startswith("dropped a message on")]) == 7
    assert [line for line in lines if not line.isprintable()] == []


# -- what is refused before anything is sent -------------------------------------------------------------


@pytest.fixture
def nowhere(make_app: MakeApp) -> App:
    """An app without a server: what tries to send says `ServerUnreachable`."""
    return make_app(f"redis://{HOST}:{free_port()}/0")


TIMEOUTS: list[Any] = [0, -1, 10_000_001, 1e16, 1e300, 10**400, float("inf"), float("nan"), "5", True, None]


@pytest.mark.parametrize("timeout", TIMEOUTS, ids=lambda timeout: repr(timeout)[:10])
def test_a_timeout_out_of_range_is_refused(nowhere: App, timeout: Any) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: nowhere.request("x", 1, timeout=timeout),
        lambda: nowhere.request_many("x", [1], timeout=timeout),
        lambda: nowhere.request_many("x", [1], timeout=timeout, return_exceptions=True),
        lambda: RequestResponse("x", app=nowhere).send_request(1, timeout=timeout),
    ]
    for call in calls:
        with pytest.raises(ConfigurationError, match=r"timeout=.* must be a number of seconds"):
            call()


HEADERS: list[Any] = [["a"], "abc", {"a": 1}, {1: "a"}, {"a": None}, {"a": b"a"}, {"a": "\ud800"}, 7]


@pytest.mark.parametrize("headers", HEADERS, ids=ascii)
def test_headers_of_other_types_are_refused(serving: App, headers: Any) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: serving.publish("x", 1, headers=headers),
        lambda: serving.publish_many("x", [1], headers=headers),
        lambda: serving.request("echo", 1, headers=headers),
        lambda: serving.request_many("echo", [1], headers=headers),
    ]
    for call in calls:
        with pytest.raises(EncodeError):
            call()


OPTIONS: list[dict[str, Any]] = [
    {"concurrency": 2.5},
    {"concurrency": 0},
    {"concurrency": True},
    {"max_payload": 1.5},
    {"lane_messages": "9"},
    {"lane_bytes": -1},
    {"lease": float("inf")},
    {"lease": float("nan")},
    {"lease": 1e-5},
    {"lease": "10"},
    {"connect_timeout": 1e10},
    {"block": 1e-9},
    {"block": float("inf")},
    {"block": 0},
    {"grace": True},
    {"send_tracebacks": 1},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options_out_of_range_are_refused_when_the_app_is_built(options: dict[str, Any]) -> None:
    [name] = options
    with pytest.raises(ConfigurationError, match=f"{name}=.* must be"):
        App(f"redis://{HOST}:{free_port()}/0", **options)


@pytest.mark.parametrize("handler", ["name", 3], ids=str)
def test_the_small_front_door_refuses_a_handler_that_it_cannot_run(handler: Any) -> None:
    with pytest.raises(ConfigurationError, match="message_handler="):
        RedisToolkit(["news"], handler, url=f"redis://{HOST}:{free_port()}/0")
