from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from redis_toolkit import ConfigurationError, RedisOptions, RedisToolkit
from redis_toolkit import toolkit as module
from tests.kit.servers import Server
from tests.kit.waiting import eventually


@pytest.fixture(autouse=True)
def url(server: Server, monkeypatch: pytest.MonkeyPatch, no_thread_is_left: None) -> Iterator[str]:
    """The server's URL, which is also what a toolkit without one uses; toolkits left over are cleaned up."""
    monkeypatch.setenv("REDIS_URL", server.url)
    monkeypatch.delenv("REDIS_TOOLKIT_URL", raising=False)
    yield server.url
    for toolkit in list(module._living):
        toolkit.cleanup()


class Heard(list[tuple[str, Any]]):
    """A message handler that keeps what it was given."""

    def __call__(self, channel: str, data: Any) -> None:
        self.append((channel, data))

    def wait_for(self, *messages: tuple[str, Any]) -> None:
        eventually(lambda: self == list(messages))


# -- hearing and saying ------------------------------------------------------------------------------


def test_a_publish_right_after_is_received() -> None:
    for number in range(20):
        heard = Heard()
        toolkit = RedisToolkit(channels=["news", "user:*"], message_handler=heard)
        assert RedisToolkit().publisher("news", {"number": number}) == 1
        assert toolkit.publisher("user:1", None) == 1
        assert toolkit.publisher("users", 1) == 0
        heard.wait_for(("news", {"number": number}), ("user:1", None))
        toolkit.cleanup()


@pytest.mark.parametrize("kind", ["function", "object"])
def test_the_handler_may_be_async(kind: str) -> None:
    heard = Heard()

    async def later(channel: str, data: Any) -> None:
        await asyncio.sleep(0)
        heard(channel, data)

    class Later:
        async def __call__(self, channel: str, data: Any) -> None:
            await later(channel, data)

    with RedisToolkit(["news"], later if kind == "function" else Later()) as toolkit:
        for number in range(3):
            toolkit.publisher("news", number)
        heard.wait_for(("news", 0), ("news", 1), ("news", 2))


def test_names_and_positions_of_the_parameters(url: str) -> None:
    heard = Heard()
    options = RedisOptions(subscriber_retry_delay=5, is_logger_info=True)
    with RedisToolkit(["a"], heard, options), RedisToolkit("b", heard, url=url):
        toolkit = RedisToolkit(channels=("c",), message_handler=heard, options=options)
        for channel in "abc":
            assert toolkit.publisher(channel=channel, data=channel) == 1
        eventually(lambda: sorted(heard) == [("a", "a"), ("b", "b"), ("c", "c")])
        toolkit.cleanup()
    assert (RedisOptions().subscriber_retry_delay, RedisOptions().is_logger_info) == (5, True)
    assert RedisToolkit(url=url).url == url


def test_messages_come_one_at_a_time_and_in_order() -> None:
    heard = Heard()
    with RedisToolkit(["numbers"], heard) as toolkit:
        for number in range(500):
            toolkit.publisher("numbers", number)
        eventually(lambda: len(heard) == 500)
    assert heard == [("numbers", number) for number in range(500)]


def test_a_handler_with_other_parameter_names_or_of_a_class_is_called_the_same_way() -> None:
    got: list[tuple[Any, ...]] = []

    class Holder:
        def hear(self, where: str, what: Any) -> None:
            got.append((where, what))

    with RedisToolkit(["a"], lambda *both: got.append(both)) as toolkit, RedisToolkit(["b"], Holder().hear):
        toolkit.publisher("a", {"channel": "x", "data": 1})
        eventually(lambda: got)
        toolkit.publisher("b", [1])
        eventually(lambda: len(got) == 2)
    assert got == [("a", {"channel": "x", "data": 1}), ("b", [1])]


def test_an_error_in_the_handler_is_logged_and_the_subscription_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    got: list[Any] = []

    def hear(channel: str, data: Any) -> None:
        got.append(1 / data)

    with RedisToolkit(["numbers"], hear) as toolkit:
        for number in (0, 1):
            toolkit.publisher("numbers", number)
        eventually(lambda: got == [1])
        assert toolkit.health_check()
    [record] = [record for record in caplog.records if record.exc_info]
    assert "hear" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_what_is_no_json_is_dropped_with_a_line_that_helps(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()
    with RedisToolkit(["news"], heard):
        server.execute("PUBLISH", "news", "plain words, no JSON")
        server.execute("PUBLISH", "news", b"\xff\xfe")
        server.execute("PUBLISH", "news", '"good"')
        eventually(lambda: heard)
    assert heard == [("news", "good")]
    lines = [record.getMessage() for record in caplog.records if "dropped" in record.getMessage()]
    assert len(lines) == 2
    assert "plain words" in lines[0]
    assert 'codec="text"' in lines[0]


def test_plain_text(server: Server) -> None:
    heard = Heard()
    with RedisToolkit(["news"], heard, codec="text") as toolkit:
        server.execute("PUBLISH", "news", "plain wörds")
        toolkit.publisher("news", "more")
        eventually(lambda: heard == [("news", "plain wörds"), ("news", "more")])


@pytest.mark.parametrize("is_logger_info", [True, False])
def test_logging_can_be_turned_down(is_logger_info: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "redis_toolkit")
    with RedisToolkit(["news"], Heard(), RedisOptions(is_logger_info=is_logger_info)) as toolkit:
        toolkit.publisher("news", 1)
    assert ("published to" in caplog.text) is is_logger_info
    assert ("subscribed to" in caplog.text) is is_logger_info


# -- living ------------------------------------------------------------------------------------------


def test_it_lives_without_a_reference_until_cleanup() -> None:
    heard = Heard()
    RedisToolkit(["news"], heard)
    for number in range(3):
        gc.collect()
        assert RedisToolkit().publisher("news", number) == 1
    eventually(lambda: len(heard) == 3)


def test_cleanup_ends_it_and_may_be_called_again() -> None:
    heard = Heard()
    toolkit = RedisToolkit(["news"], heard)
    assert toolkit.wait(timeout=0.01) is False
    toolkit.cleanup()
    toolkit.cleanup()
    toolkit.stop()
    assert toolkit.wait() is True
    assert RedisToolkit().publisher("news", 1) == 0
    RedisToolkit().cleanup()
    assert heard == []
    assert toolkit.publisher("news", 1) == 0  # it can still speak


def test_cleanup_from_its_own_handler(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()

    def hear(channel: str, data: Any) -> None:
        heard(channel, data)
        toolkit.cleanup()

    toolkit = RedisToolkit(["news"], hear)
    toolkit.publisher("news", 1)
    assert toolkit.wait(timeout=30)
    assert heard == [("news", 1)]
    assert "still running" not in caplog.text


def test_wait_ends_with_cleanup_in_another_thread() -> None:
    toolkit = RedisToolkit(["news"], Heard())
    waiting = threading.Thread(target=toolkit.wait)
    waiting.start()
    toolkit.cleanup()
    waiting.join(30)
    assert not waiting.is_alive()


def test_building_one_without_channels_opens_nothing(server: Server) -> None:
    client = server.client()
    before = client.info("clients")["connected_clients"]
    toolkits = [RedisToolkit() for _ in range(20)]
    assert client.info("clients")["connected_clients"] == before
    for toolkit in toolkits:
        toolkit.publisher("news", 1)
    assert client.info("clients")["connected_clients"] == before + 1  # one pool for all of them
    toolkits[0].cleanup()


def test_cleanup_of_one_does_not_disturb_the_others_of_its_pool(url: str) -> None:
    first, second = RedisToolkit(url=url), RedisToolkit(url=url)
    client = first.client
    answers: list[Any] = []
    waiting = threading.Thread(target=lambda: answers.append(client.blpop(["waiting"], timeout=30)))
    waiting.start()
    eventually(lambda: second.client.info("clients")["blocked_clients"] == 1)
    second.cleanup()
    RedisToolkit(url=url).client.rpush("waiting", "x")
    waiting.join(30)
    assert answers == [(b"waiting", b"x")]
    assert client.ping()
    first.cleanup()


def test_a_client_of_redis_py_may_be_given(server: Server) -> None:
    heard = Heard()
    with redis.Redis(host="127.0.0.1", port=server.port) as client:
        with RedisToolkit(["news"], heard, redis=client) as toolkit:
            assert toolkit.client is client
            assert toolkit.publisher("news", 1) == 1
            eventually(lambda: heard)
        assert client.ping()


def test_what_cannot_work_is_said_at_once() -> None:
    with pytest.raises(ConfigurationError, match="message_handler"):
        RedisToolkit(["news"])
    with pytest.raises(ConfigurationError, match="channels"):
        RedisToolkit(message_handler=Heard())
    with pytest.raises(ConfigurationError):
        RedisToolkit(["news"], "no function")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        RedisToolkit(options=RedisOptions(subscriber_retry_delay=0))
