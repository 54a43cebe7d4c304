"""The lane of a notification client: it does step by step what its `Reception` says, and calls the handlers.

Rules:

- All handlers of a client share one lane, so that what is sent first is handled first, whatever kind it is.
- A full lane forgets what waits in it, and reads that later from where it is kept: nothing is lost by it.
- While it reads, in its thread or beside its loop, what is live waits behind.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from redis_toolkit._core import loops
from redis_toolkit._core.sync_driver import SyncDriver
from redis_toolkit.binding import Binding
from redis_toolkit.errors import RedisToolkitError
from redis_toolkit.message import Message
from redis_toolkit.patterns.reception import Ask, Give, Pause, Reception
from redis_toolkit.routing import Handler
from redis_toolkit.settings import Settings
from redis_toolkit.wire import Wire
from redis_toolkit.worker.lane import Item, Lane
from redis_toolkit.worker.loop_lane import LoopLane

__all__ = ["MISSED", "Callbacks", "ClientLane", "ClientLoopLane", "client_settings"]

MISSED: Item = (b"", None, b"")
"""Stands for what may have been missed."""
ADDED = frozenset({"id", "timestamp"})
WAITING = 1_000
WAITING_BYTES = 16 * 1024 * 1024


class Callbacks:
    """The handlers of a client by channel, called as one.

    Args:
        bindings: they.
    """

    def __init__(self, bindings: Mapping[str, Binding]) -> None:
        self._bindings = {name: (binding, _unwanted(binding)) for name, binding in bindings.items()}
        self.name = ", ".join(dict.fromkeys(binding.name for binding in bindings.values()))
        self.is_async = any(binding.is_async for binding in bindings.values())

    def call(self, message: Message) -> Any:
        """Call the one for a message; where one of them is ``async def``, this returns a coroutine."""
        binding, unwanted = self._bindings[message.channel]
        if unwanted and isinstance(message.data, dict):
            kept = {name: value for name, value in message.data.items() if name not in unwanted}
            message = dataclasses.replace(message, data=kept)
        if self.is_async and not binding.is_async:
            return loops.in_thread(binding.call, message)
        return binding.call(message)

    def handler(self, wire: Wire) -> Handler:
        """Return what lanes know of it."""
        this: Any = self
        return Handler(this, wire, tuple(self._bindings), ())


def _unwanted(binding: Binding) -> frozenset[str]:
    """Return which of the fields that the server adds a handler has no place for: one that takes fields by
    name, or a model that is strict about them."""
    fields = binding.fields
    if fields is None:
        return frozenset()
    return ADDED - fields


def client_settings(settings: Settings) -> Settings:
    """Return the settings of a client's lane: what waits longer is read again."""
    return dataclasses.replace(settings, lane_messages=WAITING, lane_bytes=WAITING_BYTES)


class Receiving(Lane):
    """What both kinds of lanes have in common."""

    _reception: Reception
    _driver: SyncDriver
    _given = Message("", None)

    def receive(self, reception: Reception, driver: SyncDriver) -> Self:
        """Begin.

        Args:
            reception: says what is to be done.
            driver: reads what was missed.
        """
        self._reception, self._driver = reception, driver
        return self

    def _drop(self) -> None:
        self._items.clear()
        self._bytes = 0
        self._items.append(MISSED)

    def _message(self, _channel: bytes, _glob: bytes | None, _body: bytes) -> Message:
        return self._given


class ClientLane(Receiving):
    """The lane of a client whose handlers are all ``def``."""

    def _handle(self, channel: bytes, glob: bytes | None, body: bytes) -> None:
        steps = self._reception.take(channel.decode("utf-8"), body)
        step = next(steps, None)
        while step is not None:
            answer: Any = None
            if isinstance(step, Give):
                self._given = step.message
                super()._handle(channel, glob, body)
            elif isinstance(step, Pause):
                with self._changed:
                    if self._changed.wait_for(lambda: self._stopping, step.seconds):
                        return
            else:
                answer = _outcome(self._driver, step)
            step = _sent(steps, answer)


class ClientLoopLane(Receiving, LoopLane):
    """The lane of a client that has an ``async def`` handler; it reads in a thread beside the loop."""

    async def _handle_async(self, channel: bytes, glob: bytes | None, body: bytes) -> None:
        steps = self._reception.take(channel.decode("utf-8"), body)
        step = next(steps, None)
        while step is not None and not self._abandoned:
            answer: Any = None
            if isinstance(step, Give):
                self._given = step.message
                await super()._handle_async(channel, glob, body)
            elif isinstance(step, Pause):
                if self._stopping:
                    return
                await asyncio.sleep(step.seconds)
            else:
                answer = await loops.in_thread(_outcome, self._driver, step)
            step = _sent(steps, answer)


def _outcome(driver: SyncDriver, step: Ask) -> Any:
    """Return what came of a flow: its result, or its error."""
    try:
        return driver.run(step.flow)
    except RedisToolkitError as error:
        return error


def _sent(steps: Any, answer: Any) -> Any:
    """Tell what came of a step, and return the next one, or None at the end."""
    try:
        return steps.throw(answer) if isinstance(answer, RedisToolkitError) else steps.send(answer)
    except StopIteration:
        return None
