"""The one subscribed connection of a process to a server, for those who come and go, and its reader.

Rules:

- The reader never waits: who hears has to take a message without doing anything about it.
- Silence is not health: after ``ping_interval`` seconds without a byte the server is pinged, and after
  as long again the connection is given up.
- A connection that was cut is made again, and all is asked for in one packet. Everybody is told that it was
  cut, and that they are subscribed again; when all have been told, those who watch for it are.
- A channel that an ACL refuses is an error for who begins to hear it. Later it is asked for again and again,
  while the others are heard.
"""

from __future__ import annotations

import itertools
import logging
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from redis_toolkit._core.connection import NOTHING, Connections, Link
from redis_toolkit._core.flow import Command
from redis_toolkit._core.recovery import Failed, Fate, describe, pause_of_the_cut, reconnecting, sort
from redis_toolkit.errors import OutcomeUnknown, PermissionDenied, RedisToolkitError, ServerUnreachable
from redis_toolkit.settings import Settings
from redis_toolkit.worker.hearer import Hearer
from redis_toolkit.worker.subscriptions import Subscriptions
from redis_toolkit.worker.trouble import Trouble

__all__ = ["Subscriber"]

logger = logging.getLogger("redis_toolkit")

FULL_DISK = "MISCONF"
"""How a server refuses a PING that cannot write to its disk. It is alive, and subscribes and publishes."""
OTHERS = re.compile(r"'(unsubscribe|ping)\b")
"""What else an ACL may refuse us; it is no answer to a SUBSCRIBE."""


class Subscriber:
    """Hears channels of one server for everybody in this process.

    Args:
        connections: where its connection comes from.
        settings: ping interval and reconnect cap.

    Attributes:
        watching: called by the reader when all are subscribed again, and have been told so.
    """

    def __init__(self, connections: Connections, settings: Settings) -> None:
        self._connections = connections
        self._settings = settings
        self._hearers: dict[bytes, tuple[Hearer, ...]] = {}
        self._waiting: dict[Hearer, Future[None]] = {}
        self._channels = Subscriptions()
        self._drained: dict[bytes, threading.Event] = {}
        self._link: Link | None = None
        self._started = self._cut = False
        self._heard = time.time()
        self._missed: tuple[float, str] = (self._heard, "")
        self.watching: set[Callable[[], None]] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._failure: RedisToolkitError | None = None
        self._retry: threading.Timer | None = None
        self._trouble = Trouble("not subscribed", "subscribed again")
        self._thread = threading.Thread(target=self._run, name="rt-subscriber", daemon=True)

    def start(self) -> None:
        """Start its thread, which may be asked for again.

        In a thread, as Ctrl-C, which the main thread gets, must not come in between: others would wait for
        one that was never started.
        """
        if not self._started:
            starting = threading.Thread(target=self._start, name="rt-subscriber-start", daemon=True)
            starting.start()
            starting.join()

    def _start(self) -> None:
        with self._lock:
            if not self._started:
                self._thread.start()
                self._started = True

    @property
    def used(self) -> bool:
        """Whether anybody hears anything."""
        return bool(self._hearers)

    @property
    def ended(self) -> bool:
        """Whether it hears nothing any more."""
        return self._stopping.is_set()

    def add(self, hearer: Hearer) -> Future[None]:
        """Let somebody hear; returns what is done once the server has confirmed it, or has refused."""
        confirmed: Future[None] = Future()
        with self._lock:
            if self._stopping.is_set():
                confirmed.set_exception(self._failure or ServerUnreachable("the subscriptions have ended"))
                return confirmed
            for channel in hearer.channels:
                self._hearers[channel] = (*self._hearers.get(channel, ()), hearer)
            if self._link is not None and self._channels.confirmed.issuperset(hearer.channels):
                confirmed.set_result(None)
            else:
                self._waiting[hearer] = confirmed
                self._ask(self._channels.unasked(hearer.channels))
        return confirmed

    def drain(self, hearer: Hearer) -> None:
        """Unsubscribe somebody, and wait until what was published before that has been heard."""
        heard = threading.Event()
        with self._lock:
            if self._link is None or self._stopping.is_set():
                return
            alone = [channel for channel in hearer.channels if self._hearers.get(channel) == (hearer,)]
            token = f"drained-{next(_numbers)}".encode()
            self._drained[token] = heard
            self._send([*self._channels.leave(alone), ("PING", token)])
        heard.wait(self._settings.ping_interval)

    def remove(self, hearer: Hearer) -> None:
        """Let somebody hear nothing any more, from now on, without waiting. May be called again."""
        with self._lock:
            heard = {
                channel: tuple(one for one in self._hearers.get(channel, ()) if one is not hearer)
                for channel in hearer.channels
            }
            gone = [channel for channel, others in heard.items() if not others]
            self._send(self._channels.leave(gone))
            self._channels.refused.difference_update(gone)
            for channel, others in heard.items():
                if others:
                    self._hearers[channel] = others
                else:
                    self._hearers.pop(channel, None)
            waiting = self._waiting.pop(hearer, None)
        if waiting is not None and waiting.set_running_or_notify_cancel():
            waiting.set_exception(ServerUnreachable("it was left before it was subscribed"))

    def has(self, hearer: Hearer) -> bool:
        """Return whether somebody's channels are all confirmed, as far as is known."""
        with self._lock:
            return not self._cut and self._channels.confirmed.issuperset(hearer.channels)

    def stop(self) -> None:
        """End the thread, and close the connection."""
        self._stopping.set()
        with self._lock:
            retry, self._retry = self._retry, None
            self._send([("UNSUBSCRIBE",), ("PING",)])
        if retry is not None:
            retry.cancel()
        if self._started and self._thread is not threading.current_thread():
            self._thread.join(self._settings.ping_interval)
        if self._thread.is_alive() and self._link is not None:
            self._link.close()

    # -- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        error: Exception | None = None
        try:
            self._connect()
            while not self._stopping.is_set():
                try:
                    self._read()
                except Failed as failure:
                    self._lose(failure)
        except Failed as failure:  # those who wait raise it
            error = failure.error
        except Exception as failed:
            logger.exception("the reader of subscriptions has failed")
            error = failed
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        with self._lock:
            self._failure = error if isinstance(error, RedisToolkitError) else None
            self._stopping.set()
            link, self._link = self._link, None
            waiting, self._waiting = list(self._waiting.values()), {}
            self._nothing_more()
        if link is not None:
            link.close()
        for confirmed in waiting:
            if confirmed.set_running_or_notify_cancel():
                confirmed.set_exception(error or ServerUnreachable("the subscriptions have ended"))

    def _connect(self) -> None:
        """Connect, and ask for everything."""
        link = self._connections.dedicated()
        with self._lock:
            self._link = link
            self._ask(list(self._hearers))
            if self._stopping.is_set() or self._channels.next is None:
                self._cut = False

    def _lose(self, failure: Failed) -> None:
        """Tell everybody, and connect until it succeeds, or until stopped."""
        with self._lock:
            link, self._link = self._link, None
            self._channels.clear()
            if not self._cut:
                self._cut, self._missed = True, (self._heard, failure.why)
            self._nothing_more()
        if link is not None:
            link.close()
        if self._stopping.is_set():
            return
        for hearer in self._everybody():
            hearer.cut(*self._missed)
        self._trouble.tell(failure)
        cap = self._settings.reconnect_cap
        if self._stopping.wait(pause_of_the_cut(cap)):
            return
        try:
            reconnecting(cap, self._stopping, self._trouble.tell)(self._connect)
        except Failed as error:
            if not self._stopping.is_set():
                raise
            logger.debug("stopped while not subscribed: %s", error)

    def _read(self) -> None:
        """Read until the connection is lost (`Failed`), or until stopped."""
        link, interval, asked = self._link, self._settings.ping_interval, False
        if link is None:
            return
        hearers = self._hearers
        while True:
            reply = link.poll(interval)
            if reply is NOTHING:
                if asked:
                    error = OutcomeUnknown(f"{link.where} gave no sign of life for {2 * interval:g} s")
                    raise Failed(Fate.UNKNOWN, error)
                asked = True
                with self._lock:
                    link.send([("PING",)])
                continue
            asked = False
            self._heard = time.time()
            if isinstance(reply, list):
                kind = reply[0]
                if kind == b"message":
                    _, channel, body = reply
                    for hearer in hearers.get(channel, ()):
                        hearer.hear(channel, body)
                elif kind == b"subscribe":
                    self._answered(None)
                elif kind == b"pong":
                    self._drain(reply[1])
            elif isinstance(reply, bytes):  # a PONG to who is subscribed to nothing any more
                self._drain(reply)
            elif isinstance(reply, Exception):
                self._refuse(reply, link.where)
            if self._stopping.is_set():
                return

    def _refuse(self, reply: Exception, where: str) -> None:
        """Take an error: of a SUBSCRIBE that an ACL forbids, or `Failed` is raised."""
        text = str(reply)
        if text.startswith(FULL_DISK) or (text.startswith("NOPERM") and OTHERS.search(text)):
            return
        with self._lock:
            channel = self._channels.next
        doing = "SUBSCRIBE" if channel is None else describe(("SUBSCRIBE", channel))
        failure = sort(reply, sent=False, where=where, doing=doing)
        if channel is None or not isinstance(failure.error, PermissionDenied):
            raise failure from reply
        self._answered(failure)

    def _drain(self, token: bytes) -> None:
        heard = self._drained.pop(token, None)
        if heard is not None:
            heard.set()

    def _nothing_more(self) -> None:
        """Let those go who wait for what is on its way; the lock is held."""
        drained, self._drained = self._drained, {}
        for heard in drained.values():
            heard.set()

    def _answered(self, failure: Failed | None) -> None:
        """Take the answer to what was asked for first."""
        with self._lock:
            channel, channels = self._channels.next or b"", self._channels
            hearers = self._hearers.get(channel, ())
            late = failure is None and channel in channels.refused
            channels.answer(refused=failure is not None, wanted=bool(hearers))
            done = [
                self._waiting.pop(one)
                for one in hearers
                if one in self._waiting and (failure or channels.confirmed.issuperset(one.channels))
            ]
            back = self._cut and channels.next is None
            self._cut = self._cut and not back
        for confirmed in done:
            if not confirmed.set_running_or_notify_cancel():
                continue  # nobody waits for it any more
            if failure is not None:
                confirmed.set_exception(failure.error)
            else:
                confirmed.set_result(None)
        if failure is not None:
            self._ask_again_later(failure)
        if back:
            self._tell_back(self._everybody(), *self._missed)
        elif late:
            self._tell_back(set(hearers), self._heard, "it could not be heard for some time")
        if back and not channels.refused:
            self._trouble.over()

    def _tell_back(self, hearers: set[Hearer], since: float, reason: str) -> None:
        """Tell that they are subscribed again; who came meanwhile was not told of the cut."""
        for hearer in hearers:
            hearer.cut(since, reason)
            hearer.back()
        for watch in list(self.watching):
            watch()

    def _ask_again_later(self, failure: Failed) -> None:
        """Ask again for what was refused, from a thread of its own, as the reader may always be busy."""
        self._trouble.tell(failure)
        with self._lock:
            if self._retry is not None or self._stopping.is_set():
                return
            self._retry = threading.Timer(self._settings.reconnect_cap, self._ask_again)
            self._retry.name, self._retry.daemon = "rt-subscriber-again", True
            self._retry.start()

    def _ask_again(self) -> None:
        with self._lock:
            self._retry = None
            self._ask(self._channels.unasked(self._channels.refused))

    def _everybody(self) -> set[Hearer]:
        with self._lock:
            return {hearer for hearers in self._hearers.values() for hearer in hearers}

    def _ask(self, channels: list[bytes]) -> None:
        """Subscribe to channels, if there is a connection; the lock is held."""
        if self._link is not None:
            self._send(self._channels.ask(channels))

    def _send(self, commands: list[Command | bytes]) -> None:
        """Send what the server answers to the reader; the lock is held."""
        if self._link is not None and commands:
            try:
                self._link.send(commands)
            except Failed as failure:
                logger.debug("the reader notices as well, and subscribes anew: %s", failure)


_numbers = itertools.count(1)
