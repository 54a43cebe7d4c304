"""A `RedisToolkit` whose server goes away, and scripts that use one."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from redis_toolkit import RedisOptions, RedisToolkit, ServerUnreachable
from tests.kit.processes import Process
from tests.kit.servers import Server
from tests.kit.waiting import eventually


@pytest.fixture
def url(own_server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server's URL, which a toolkit without one uses as well, also in a script."""
    monkeypatch.setenv("REDIS_TOOLKIT_URL", own_server.url)
    return own_server.url


def test_client_and_health_check(own_server: Server) -> None:
    options = RedisOptions(subscriber_retry_delay=0.2)
    toolkit = RedisToolkit(["news"], lambda channel, data: None, options, url=own_server.url)
    assert isinstance(toolkit.client, redis.Redis)
    toolkit.client.set("mine", "x")
    assert toolkit.client.get("mine") == b"x"
    assert toolkit.health_check() is True
    assert RedisToolkit(url=own_server.url).health_check() is True
    own_server.kill()
    assert toolkit.health_check() is False
    own_server.start()
    eventually(toolkit.health_check)
    assert toolkit.publisher("news", 1) == 1
    toolkit.cleanup()


def test_a_server_that_is_not_there_is_said_at_once(own_server: Server) -> None:
    own_server.kill()
    with pytest.raises(ServerUnreachable, match="embedded"):
        RedisToolkit(["news"], lambda channel, data: None, url=own_server.url)
    with pytest.raises(ServerUnreachable):
        RedisToolkit(url=own_server.url).publisher("news", 1)


# -- scripts -----------------------------------------------------------------------------------------

SUBSCRIBED = """
    from redis_toolkit import RedisToolkit

    toolkit = RedisToolkit(["news"], lambda channel, data: print("heard", data, flush=True))
    print("ready", flush=True)
"""


def test_a_script_whose_main_thread_ends_exits(tmp_path: Path, url: str) -> None:
    with Process(directory=tmp_path, source=SUBSCRIBED) as script:
        assert script.wait() == 0
    assert script.output == "ready\n"


def test_a_script_waits_until_ctrl_c(tmp_path: Path, url: str) -> None:
    with Process(directory=tmp_path, source=SUBSCRIBED + "    toolkit.wait()\n") as script:
        script.wait_for_line("ready")
        RedisToolkit(url=url).publisher("news", 7)
        script.wait_for_line("heard 7")
        script.interrupt()
        assert script.wait() != 0
    assert "KeyboardInterrupt" in script.stderr


def test_a_script_ends_quietly_when_its_handler_cleans_up(tmp_path: Path, url: str) -> None:
    source = """
        from redis_toolkit import RedisToolkit

        def hear(channel, data):
            toolkit.cleanup()

        toolkit = RedisToolkit(["news"], hear)
        toolkit.publisher("news", 1)
        toolkit.wait()
    """
    with Process(directory=tmp_path, source=source, options=["-W", "error"]) as script:
        assert script.wait() == 0
    assert script.output == ""
