from __future__ import annotations

import threading
from typing import Any

import pytest

from redis_toolkit import App, EncodeError, Gap
from redis_toolkit.errors import PayloadTooLarge
from tests.e2e.conftest import MakeApp
from tests.kit.servers import Server
from tests.kit.waiting import eventually

pytestmark = pytest.mark.usefixtures("every_style")


def received(got: list[Any], expected: list[Any]) -> None:
    eventually(lambda: got == expected, what=f"{expected}")


# -- what goes wrong ---------------------------------------------------------------------------------

GARBAGE = [
    b"",
    b"{",
    b"\xff\xfe",
    b"\xc1",
    b"NaN",
    b'{"rt": 2, "data": 1}',  # an envelope of a later version
    b'{"rt": 1, "data": 1, "headers": [1]}',
    b"[" * 100_000,
    b"1" * 100_000,
    b"\xdd\xff\xff\xff\xff",  # says that it has four milliards of items
    b"\xc7\x01\x05\x00",  # a msgpack extension
    b"\x81\x90\x01",  # a map whose key is a list
    b'"' + b"x" * (1024 * 1024) + b'"',  # over the limit
]


@pytest.mark.fault(29, "events")
def test_garbage_in_a_channel_is_skipped_and_counted(
    server: Server, app: App, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[Any] = []
    app.on("exact", "glob:*")(got.append)
    client = server.client()
    with app:
        for body in GARBAGE:
            client.publish("exact", body)
            client.publish("glob:1", body)
        client.publish("exact", '"good"')
        client.publish("glob:\udcff".encode("utf-8", "surrogateescape"), '"odd name"')
        eventually(lambda: got == ["good", "odd name"])
        assert app.counters == {"undecodable": 2 * len(GARBAGE)}
        assert app.health_check()
    lines = [record.getMessage() for record in caplog.records if "dropped a message" in record.getMessage()]
    assert len(lines) == 2 * len(GARBAGE)
    assert all(len(line.splitlines()) == 1 and len(line) < 500 for line in lines)


def test_a_handlers_error_is_logged_and_the_next_event_is_handled(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[int] = []

    @app.on("numbers")
    def take(number: int) -> None:
        if number == 1:
            raise ValueError("not one")
        if number == 2:
            raise SystemExit(7)  # ends no thread of ours
        got.append(number)

    with app:
        app.publish_many("numbers", range(4))
        eventually(lambda: got == [0, 3])
        assert app.counters == {"failed": 2}
    failures = [record for record in caplog.records if record.exc_info]
    assert [str(record.exc_info[1]) for record in failures if record.exc_info] == ["not one", "7"]
    assert all("take" in record.getMessage() and "'numbers'" in record.getMessage() for record in failures)


def test_a_payload_that_does_not_fit_is_dropped_and_counted(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[int] = []

    @app.on("sum")
    def take(a: int, b: int) -> None:
        got.append(a + b)

    with app:
        app.publish_many("sum", [{"a": 1}, [1, 2], {"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2}])
        eventually(lambda: got == [3])
        assert app.counters == {"mismatched": 3}
    assert "'b' is missing" in caplog.text


@pytest.mark.fault(31, "events")
def test_what_cannot_be_encoded_is_not_sent(app: App) -> None:
    got: list[Any] = []
    app.on("data")(got.append)
    with app:
        for payload in (object(), float("nan"), {"x": {1, object()}}, "\ud800"):
            with pytest.raises(EncodeError):
                app.publish("data", payload)
        with pytest.raises(EncodeError):
            app.publish_many("data", [1, 2, object()])
        with pytest.raises(PayloadTooLarge):
            app.publish("data", "x" * 1024 * 1024)
        with pytest.raises(EncodeError):
            app.publish("data", 1, headers={"a": 1})  # type: ignore[dict-item]
        app.publish("data", "last")
        eventually(lambda: got)
    assert got == ["last"]


@pytest.mark.fault(32, "events")
def test_an_overflowing_lane_drops_the_oldest_and_says_so_once(server: Server, make_app: MakeApp) -> None:
    got: list[int] = []
    gaps: list[Gap] = []
    entered, go_on, marked = threading.Event(), threading.Event(), threading.Event()
    app = make_app(server.url, lane_messages=10)
    app.on_gap(gaps.append)

    @app.on("numbers", "numbers:*")
    def take(number: int) -> None:
        entered.set()
        go_on.wait(30)
        got.append(number)

    app.on("mark")(lambda data: marked.set())
    with app:
        app.publish("numbers", 0)
        assert entered.wait(30)
        app.publish_many("numbers", range(1, 51))
        app.publish("mark", None)
        assert marked.wait(30)  # the reader has not waited for the handler
        go_on.set()
        eventually(lambda: len(got) == 11 and gaps)
        app.publish("numbers", 51)
        eventually(lambda: got[-1] == 51)
        assert app.counters == {"overflowed": 40, "gaps": 1}
    assert got == [0, *range(41, 52)]
    [gap] = gaps
    assert (gap.channels, gap.dropped) == (("numbers", "numbers:*"), 40)
    assert gap.started <= gap.ended
    assert "overflow" in gap.reason


def test_a_handler_with_threads_of_its_own_handles_a_burst_at_once(server: Server, make_app: MakeApp) -> None:
    for number in range(20):
        met: list[int] = []
        meeting = threading.Barrier(3)
        app = make_app(server.url)

        @app.on("meet", concurrency=3)
        def take(number: int, meeting: threading.Barrier = meeting, met: list[int] = met) -> None:
            if number:
                meeting.wait(30)
            met.append(number)

        with app:
            app.publish("meet", {"number": 0})  # leaves one thread behind that waits for more
            received(met, [0])
            app.publish_many("meet", [{"number": number + 1}] * 3)
            received(met, [0] + [number + 1] * 3)
