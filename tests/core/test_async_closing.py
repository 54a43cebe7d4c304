"""Closing what a loop has open, whatever a call of that loop is doing meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from redis_toolkit import App
from redis_toolkit.errors import RedisToolkitError
from tests.core.awaiting import becomes, connections, named
from tests.kit.proxy import Proxy
from tests.kit.servers import Server


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 40])
def test_a_call_that_connects_while_the_app_is_stopped_leaves_nothing_that_cannot_be_closed(
    own_server: Server, proxy: Proxy, turns: int
) -> None:
    app = App(named(proxy.url))

    async def main() -> None:
        proxy.delay(0.002)
        calls = [asyncio.create_task(app.apublish("a", number)) for number in range(3)]
        for _ in range(turns):
            await asyncio.sleep(0.001)
        await app.astop()
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, int | RedisToolkitError)
        await app.astop()
        assert not app._async_driver._hubs
        await becomes(lambda: not connections(own_server), what="end of the connections")
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
