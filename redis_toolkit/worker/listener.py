"""The listener: one subscribed connection of a process, and the one thread that reads it.

Rules:

- It is ready only when the server has confirmed every subscription.
- The reader never waits for a handler: it puts messages into lanes.
- Silence is not health: after ``ping_interval`` seconds without a byte the server is pinged, and after
  as long again the connection is given up.
- A subscription that was cut is made again after a random part of a second, as others may have been cut
  with it; from then on with growing pauses.
- An interruption is reported once, as one `Gap`, when everything is confirmed again.
- A channel that an ACL refuses is asked for again and again, while the others are heard; but a start that
  is refused one fails.
- Exact names are subscribed before globs, so that a handler's primary subscription is the first one
  that is confirmed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from redis_toolkit._core.connection import NOTHING, Connections, Link
from redis_toolkit._core.flow import Command
from redis_toolkit._core.recovery import Failed, Fate, describe, pause_of_the_cut, reconnecting, sort
from redis_toolkit.errors import OutcomeUnknown, PermissionDenied
from redis_toolkit.message import Gap
from redis_toolkit.routing import LiveTable
from redis_toolkit.settings import Settings
from redis_toolkit.worker.lane import Lane
from redis_toolkit.worker.trouble import Trouble

__all__ = ["Listener"]

logger = logging.getLogger("redis_toolkit")

FULL_DISK = "MISCONF"
"""How a server refuses a PING that cannot write to its disk. It is alive, and subscribes and publishes."""
CHUNK = 500
"""Names per SUBSCRIBE command."""
LAST_SECONDS = 2.0
"""Seconds that a server which does not answer holds up a stop."""


class Listener:
    """Hears live events for the lanes of one process, and shows the server that it serves channels.

    Args:
        connections: where its connection comes from.
        settings: ping interval and reconnect cap.
        lanes: who gets messages. Those of handlers with ``every_worker`` always, the others only
            while this process has the listener role.
        presence: internal channels that it stays subscribed to; nothing is published there.
        internal: other internal channels, in every process, and who is told of each message there: its body,
            or None once it is subscribed, as messages may have been missed. Nobody there may wait.
        report: called with each `Gap`.
        listening: whether it has the listener role from the start.
    """

    def __init__(
        self,
        connections: Connections,
        settings: Settings,
        lanes: Sequence[Lane],
        presence: Sequence[str],
        report: Callable[[Gap], None],
        *,
        listening: bool,
        internal: Sequence[tuple[str, Callable[[bytes | None], None]]] = (),
    ) -> None:
        self._connections = connections
        self._settings = settings
        self._lanes = lanes
        self._presence = [*presence, *(name for name, _ in internal)]
        self._internal = internal
        self._report = report
        self._listening = listening
        self._table = LiveTable()
        for lane in lanes:
            self._table.add(lane.handler, lane)
            lane.active = listening or lane.handler.every_worker
        for name, heard in internal:
            self._table.exact.setdefault(name.encode("utf-8"), []).append(_Ear(heard))
        self._link: Link | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._failure: Exception | None = None
        self._gap: tuple[float, str] | None = None
        self._heard = time.time()
        self._started = False
        self._refused: list[Command] = []
        self._refused_gap: tuple[float, str] = (0.0, "")
        self._retry: threading.Timer | None = None
        self._trouble = Trouble("not subscribed", "subscribed again")
        self._thread = threading.Thread(target=self._run, name="rt-listener", daemon=True)

    @property
    def confirmed(self) -> bool:
        """Whether every subscription is confirmed and the connection is not known to be lost."""
        return self._ready.is_set() and not (self._failure or self._refused or self._stopping.is_set())

    def start(self) -> None:
        """Subscribe; returns when every subscription is confirmed.

        Raises:
            RedisToolkitError: the server cannot be reached or refuses a subscription.
        """
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            if isinstance(self._failure, Failed):
                raise self._failure.error from self._failure.__cause__
            raise self._failure

    def listen(self, since: float | None, reason: str) -> None:
        """Take the listener role; what was missed since ``since`` is reported as a gap."""
        with self._lock:
            if self._listening:
                return
            self._listening = True
            if since is not None:
                self._gap = (since, reason)
            for lane in self._lanes:
                lane.active = True
            self._ready.clear()
            link = self._link
            if link is not None:
                try:
                    link.send([*self._subscriptions(), ("PING",)])
                except Failed:
                    return  # the reader notices as well, and subscribes anew

    def wait_confirmed(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until every subscription is confirmed; returns whether they are."""
        return self._ready.wait(timeout) and self.confirmed

    def stop(self) -> None:
        """Unsubscribe and end the thread. Messages that have arrived are in their lanes."""
        self._stopping.set()
        with self._lock:
            link = self._link
            if link is not None:
                try:
                    link.send([("UNSUBSCRIBE",), ("PUNSUBSCRIBE",), ("PING",)])
                except Failed:
                    link.close()
        self._thread.join(timeout=min(self._settings.ping_interval, LAST_SECONDS))
        if link is not None and self._thread.is_alive():
            link.close()

    # -- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._connect()
        except Exception as error:  # start() raises it
            self._close()
            self._failure = error
            self._ready.set()
            return
        self._started = True
        while not self._stopping.is_set():
            try:
                self._read()
            except Failed as failure:
                self._lose(failure)
                self._reconnect()
        self._close()

    def _reconnect(self) -> None:
        """Connect and subscribe until it succeeds, or until stopped."""
        cap = self._settings.reconnect_cap
        if self._stopping.wait(pause_of_the_cut(cap)):
            return
        try:
            reconnecting(cap, self._stopping, self._log)(self._connect)
        except Failed as failure:
            logger.debug("stopped while not subscribed: %s", failure)

    def _connect(self) -> None:
        """Connect and subscribe; returns when everything is confirmed, or when stopped."""
        if self._stopping.is_set():
            return
        self._close()
        link = self._connections.dedicated()
        with self._lock:
            self._table.reset()
            self._ready.clear()
            self._link = link
            self._refused = []
            link.send([*self._subscriptions(), ("PING",)])
        self._read(until_ready=True)

    def _read(self, *, until_ready: bool = False) -> None:
        """Read until the connection is lost (`Failed`), until stopped, or until all is confirmed."""
        link, interval, asked = self._link, self._settings.ping_interval, False
        if link is None:
            return
        exact, of_glob = self._table.exact, self._table.of_glob
        while True:
            reply = link.poll(interval)
            if reply is NOTHING:
                if asked:
                    raise Failed(
                        Fate.UNKNOWN,
                        OutcomeUnknown(f"{link.where} gave no sign of life for {2 * interval:g} s"),
                    )
                asked = True
                link.send([("PING",)])
                continue
            asked = False
            self._heard = time.time()
            if isinstance(reply, list):
                kind = reply[0]
                if kind == b"message":
                    for lane in exact.get(reply[1], ()):
                        lane.put(reply[1], None, reply[2])
                    continue
                if kind == b"pmessage":
                    for lane in of_glob(reply[1], reply[2]):
                        lane.put(reply[2], reply[1], reply[3])
                    continue
                if kind == b"subscribe" or kind == b"psubscribe":
                    self._table.confirm(reply[1], glob=kind == b"psubscribe")
                    continue
                if kind != b"pong":
                    continue
            elif isinstance(reply, Exception) and not str(reply).startswith(FULL_DISK):
                self._take_error(sort(reply, sent=False, where=link.where, doing=self._asked()))
                continue
            if self._stopping.is_set():
                return
            self._check_ready()
            if until_ready and self._ready.is_set():
                return

    def _asked(self) -> str:
        """Return what it subscribes to, for a message."""
        return " and ".join(map(describe, self._refused or self._subscriptions()))

    def _take_error(self, failure: Failed) -> None:
        """Once it has been subscribed, a refusal is for some channels: ask for each on its own.

        Raises:
            Failed: it is none, or this is the start.
        """
        if not self._started or not isinstance(failure.error, PermissionDenied):
            raise failure from failure.error
        link = self._link
        if link is not None and not self._refused:
            with self._lock:
                self._refused = self._apart()
                link.send([*self._refused, ("PING",)])
        self._refused_gap = (self._refused_gap[0] or self._heard, failure.why)

    def _apart(self) -> list[Command]:
        """Return a subscription for each name that is not confirmed."""
        names, globs = self._wanted()
        exact: list[Command] = [
            ("SUBSCRIBE", name) for name in names if not self._table.is_confirmed(name, glob=False)
        ]
        return exact + [
            ("PSUBSCRIBE", glob) for glob in globs if not self._table.is_confirmed(glob, glob=True)
        ]

    def _check_ready(self) -> None:
        """At a PONG: everything that was asked for before it is answered."""
        if self._ready.is_set() and self._gap is None and not self._refused:
            return
        with self._lock:
            before, missing = self._refused, self._apart()
            if missing and not before:
                return
            self._refused = missing
            gap, self._gap = self._gap, None
            self._ready.set()
        for _, heard in self._internal:
            heard(None)
        if missing:
            self._ask_again_later()
        else:
            self._trouble.over()
        if gap is not None:
            self._report_gap(gap, list(self._active()))
        elif before and not missing:
            since, self._refused_gap = self._refused_gap, (0.0, "")
            back = {command[1] for command in before}
            self._report_gap(since, [lane for lane in self._active() if self._hears(lane, back)])

    def _hears(self, lane: Lane, names: set[Any]) -> bool:
        return any(name.encode("utf-8") in names for name in (*lane.handler.channels, *lane.handler.globs))

    def _report_gap(self, gap: tuple[float, str], lanes: Sequence[Lane]) -> None:
        channels = tuple(name for lane in lanes for name in (*lane.handler.channels, *lane.handler.globs))
        if channels:
            self._report(Gap(tuple(dict.fromkeys(channels)), gap[0], time.time(), gap[1]))
        else:
            logger.info("connected again: %s", gap[1])

    def _ask_again_later(self) -> None:
        """Ask again for what was refused, from a thread of its own, as the reader may always be busy."""
        failure = Failed(Fate.REFUSED, PermissionDenied(self._refused_gap[1]))
        self._trouble.tell(failure)
        if self._retry is not None:
            self._retry.cancel()
        self._retry = threading.Timer(self._settings.reconnect_cap, self._ask_again)
        self._retry.name, self._retry.daemon = "rt-listener-again", True
        self._retry.start()

    def _ask_again(self) -> None:
        with self._lock:
            link = self._link
            if link is None or not self._refused or self._stopping.is_set():
                return
            try:
                link.send([*self._refused, ("PING",)])
            except Failed as failure:
                logger.debug("the reader notices as well, and subscribes anew: %s", failure)

    def _active(self) -> Iterator[Lane]:
        return (lane for lane in self._lanes if self._listening or lane.handler.every_worker)

    def _wanted(self) -> tuple[list[bytes], list[bytes]]:
        names = [name.encode("utf-8") for name in self._presence]
        globs: list[bytes] = []
        for lane in self._active():
            names += [name.encode("utf-8") for name in lane.handler.channels]
            globs += [glob.encode("utf-8") for glob in lane.handler.globs]
        return list(dict.fromkeys(names)), list(dict.fromkeys(globs))

    def _subscriptions(self) -> list[Command]:
        names, globs = self._wanted()
        commands: list[Command] = []
        for verb, wanted in (("SUBSCRIBE", names), ("PSUBSCRIBE", globs)):
            commands += [(verb, *wanted[start : start + CHUNK]) for start in range(0, len(wanted), CHUNK)]
        return commands

    def _lose(self, failure: Failed) -> None:
        self._close()
        if self._stopping.is_set():
            return
        self._ready.clear()
        with self._lock:
            if self._gap is None:
                self._gap = (self._heard, failure.why)
        self._log(failure)

    def _close(self) -> None:
        with self._lock:
            link, self._link = self._link, None
            retry, self._retry = self._retry, None
        if retry is not None:
            retry.cancel()
        if link is not None:
            link.close()

    def _log(self, failure: Failed) -> None:
        if not self._stopping.is_set():
            self._trouble.tell(failure)


class _Ear:
    """Stands in the table beside lanes, for an internal channel."""

    __slots__ = ("_heard",)

    def __init__(self, heard: Callable[[bytes | None], None]) -> None:
        self._heard = heard

    def put(self, _channel: bytes, _glob: bytes | None, body: bytes) -> None:
        """Hand on a message."""
        self._heard(body)
