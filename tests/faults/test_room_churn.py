"""Members who come and go: what a process has open, its memory and who is there stay the same."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from redis_toolkit import App, OutcomeUnknown, ServerUnreachable
from redis_toolkit.patterns import ChatRoom
from tests.faults.test_leaks import the_same_is_open
from tests.faults.troubles import kill_clients, seeded
from tests.kit.faults import Tier
from tests.kit.servers import Server
from tests.kit.waiting import eventually

GUESTS = 4
"""Who come and go, of each of two kinds, one visit after the other."""
MORE_MB = 24
"""How much more memory may be in use afterwards, whatever the allocator keeps; a visit costs over 10 KB."""
LOST = (OutcomeUnknown, ServerUnreachable)


def memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Guests:
    """They come, say and hear something, and go, until it is enough; nobody comes twice."""

    def __init__(self, app: App, chance: random.Random) -> None:
        kept: dict[str, Any] = {"history_count": 500, "history_age": timedelta(hours=1)}
        self.rooms = [ChatRoom(f"room {number}", app=app, **kept) for number in (1, 2)]
        self.visits, self.heard = count(), count()
        self._app, self._chance = app, chance
        self._enough = threading.Event()

    def come(self, seconds: float, meanwhile: Callable[[], object]) -> int:
        """Have visits for a while; returns how many."""
        self._enough.clear()
        before = next(self.visits)
        with ThreadPoolExecutor(GUESTS + 1) as pool:
            running = [pool.submit(self._called, pool_number) for pool_number in range(GUESTS)]
            running.append(pool.submit(asyncio.run, self._all_awaited()))
            until = time.monotonic() + seconds
            try:
                while time.monotonic() < until and not any(one.done() for one in running):
                    meanwhile()
                    time.sleep(0.05)
            finally:
                self._enough.set()
            for one in running:
                one.result(60)
        self._app.stop()  # how many connections are kept depends on how many called at once
        return next(self.visits) - before - 1

    def _called(self, _number: int) -> None:
        while not self._enough.is_set():
            room, user = self._chance.choice(self.rooms), f"guest {next(self.visits)}"
            try:
                if self._chance.random() < 0.5:
                    room.join(user, lambda message: next(self.heard), history=self._chance.randrange(20))
                    room.send_message(user, "x" * 100, id="1")
                    room.send_direct(user, user, "note")
                else:
                    with room.join(user, since="0-0") as membership:
                        room.typing(user)
                        room.send_message(user, "hello", id="1")
                        for message in membership:
                            if message["user"] == user:
                                break
            except LOST:
                self._enough.wait(0.01)
            finally:
                room.leave(user)

    async def _all_awaited(self) -> None:
        try:
            await asyncio.gather(*(self._awaited() for _ in range(GUESTS)))
        finally:
            for room in self.rooms:
                await room._app._async_driver.close()

    async def _awaited(self) -> None:
        async def hear(message: dict[str, Any]) -> None:
            next(self.heard)

        while not self._enough.is_set():
            room, user = self._chance.choice(self.rooms), f"guest {next(self.visits)}"
            try:
                async with room.ajoin(user, hear, history=self._chance.randrange(20)):
                    await room.asend_message(user, "x" * 100, id="1")
                async with room.ajoin(user, history=5) as membership:
                    await room.asend_message(user, "again")
                    async for message in membership:
                        if message["user"] == user:
                            break
            except LOST:
                await asyncio.sleep(0.01)


@pytest.mark.fault(40, "chat")
def test_after_many_visits_all_is_as_before(
    own_server: Server, quickly: dict[str, Any], tier: Tier, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "redis_toolkit")
    app = App(own_server.url, **{**quickly, "lease": 1.0})
    watching = App(own_server.url)
    rooms = [ChatRoom(f"room {number}", app=watching) for number in (1, 2)]
    guests = Guests(app, seeded())

    def live() -> int:
        return max(len(room.members()) for room in rooms)

    def not_more_than_live() -> None:
        # An `async for` that is left by `break` leaves the room a little later, as the loop gets to it.
        assert live() <= 3 * GUESTS

    guests.come(tier(0.5, 5.0), not_more_than_live)
    live()  # by a connection that is there in the end, too
    with the_same_is_open(own_server):
        before = memory_mb()
        assert guests.come(tier(1.0, 30.0), not_more_than_live) > 20
        assert guests.come(tier(0.5, 30.0), lambda: kill_clients(own_server)) > 5
        eventually(lambda: live() == 0, what="nobody there")
        assert memory_mb() < before + MORE_MB
    # What is kept of those whose connections were killed when they left expires by itself.
    eventually(lambda: not own_server.execute("KEYS", "rt:r:*:u:*"), what="nothing known of guests")
    watching.stop()
    app.stop()
