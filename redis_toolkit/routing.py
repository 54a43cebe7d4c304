"""Which handler hears what: the registrations of an app, and the tables made of them.

Rules:

- A handler is never given one live event twice, also when its names and globs overlap: its exact name
  wins, else the first of its confirmed globs that matches.
- A request on a channel is answered by one handler: an exact one, else one whose glob was registered
  with ``requests=True``. Of several in one app, the first registered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redis_toolkit.binding import Binding, handler_name
from redis_toolkit.errors import ConfigurationError
from redis_toolkit.globs import is_glob, matches
from redis_toolkit.jobs import Durable
from redis_toolkit.wire import Wire

__all__ = ["Beside", "Handler", "LiveTable", "Router", "checked_channel", "is_typed"]

logger = logging.getLogger("redis_toolkit")


def checked_channel(channel: object, kind: str = "channel") -> str:
    """Return the name of a channel, or of what is named as channels are, if it can be one.

    Raises:
        ConfigurationError: not text, empty, or text that has no UTF-8 form.
    """
    if not isinstance(channel, str):
        if isinstance(channel, list | tuple | set | frozenset):
            raise ConfigurationError(
                f"{kind}s are named one by one, not in a {type(channel).__name__}: write *{kind}s"
            )
        raise ConfigurationError(
            f"a {kind} is named by str, not by {type(channel).__name__}: {ascii(channel)[:80]}"
        )
    if not channel:
        raise ConfigurationError(f"a {kind} needs a name, this one is empty")
    try:
        channel.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"the {kind} name {ascii(channel)[:80]} has no UTF-8 form: {error.reason}"
        ) from error
    return channel


@dataclass(eq=False, slots=True)
class Handler:
    """One registered handler.

    Attributes:
        binding: calls the function.
        wire: reads its messages and writes its replies.
        channels: exact names, in the order given.
        globs: globs, in the order given.
        concurrency: threads of its own, or None: one for live events, the app's pool for requests.
        every_worker: whether each worker process hears its live events, instead of one of them.
        events: whether it hears live events.
        requests: whether it answers requests; None means: on its exact channels.
    """

    binding: Binding
    wire: Wire
    channels: tuple[str, ...]
    globs: tuple[str, ...]
    concurrency: int | None = None
    every_worker: bool = False
    events: bool = True
    requests: bool | None = None

    @property
    def name(self) -> str:
        """How log lines and errors name it."""
        return self.binding.name

    @property
    def answers(self) -> tuple[str, ...]:
        """The exact names and globs whose requests it answers."""
        exact = self.channels if self.requests is not False else ()
        return (*exact, *(self.globs if self.requests else ()))


@dataclass(eq=False, slots=True)
class Beside:
    """Durable work that is served beside an app, until worker processes serve that app: then it is theirs.

    Attributes:
        durable: the work.
        stop: ends the serving beside.
    """

    durable: Durable
    stop: Callable[[], object]


class Router:
    """The handlers of one app, and what it serves of durable work, in the order of their registration.

    Attributes:
        handlers: of live events and requests.
        durables: groups and queues.
        beside: what of those becomes the app's when worker processes serve it.
    """

    def __init__(self) -> None:
        self.handlers: list[Handler] = []
        self.durables: list[Durable] = []
        self.beside: list[Beside] = []

    def add(
        self, function: Callable[..., Any], names: Sequence[str], *, app: object, wire: Wire, **options: Any
    ) -> None:
        """Register a handler for exact names and globs.

        Raises:
            ConfigurationError: no name, a bad name, or a signature that cannot be served.
        """
        if not names:
            raise ConfigurationError('on() needs a channel: @app.on("orders")')
        checked = [checked_channel(name) for name in names]
        # Each without doubles by itself: an `ExactChannel` equals the glob of the same text.
        globs = tuple(dict.fromkeys(name for name in checked if is_glob(name)))
        channels = tuple(dict.fromkeys(name for name in checked if not is_glob(name)))
        handler = Handler(Binding(function, app), wire, channels, globs, **options)
        if not handler.events and not handler.answers:
            raise ConfigurationError(
                f"handler {handler.name} would never be called: events=False and no requests"
            )
        if handler.every_worker and not handler.events:
            raise ConfigurationError(
                f"handler {handler.name}: every_worker=True is for live events, which events=False turns off"
            )
        self._forget_replaced(handler)
        self._tell_double(handler)
        self.handlers.append(handler)

    def add_durable(self, new: Durable) -> None:
        """Register a durable group or a queue.

        Raises:
            ConfigurationError: the app serves it with another handler already.
        """
        for old in list(self.durables):
            if old.source.name != new.source.name:
                continue
            function = new.jobs[""].binding.function if "" in new.jobs else None
            if old.is_queue or function is None or not is_typed(function):
                raise ConfigurationError(
                    f"this app serves {new.source.shown} already: a group has one handler in an app, "
                    "so give the other one a group of its own"
                )
            self.durables.remove(old)
            logger.info(
                "the handler of %s is registered again: it replaces the earlier one", new.source.shown
            )
        self.durables.append(new)

    def take_over(self) -> None:
        """Serve what has been served beside the app, which that ends.

        Raises:
            ConfigurationError: two of them are one source, of which an app serves one.
        """
        names = [durable.source.name for durable in self.durables]
        for one in self.beside:
            name = one.durable.source.name
            if name in names:
                raise ConfigurationError(
                    f"this app has two subscribers of {one.durable.source.shown}, and a worker process "
                    "serves one of each: make one of them, with a higher concurrency="
                )
            names.append(name)
        taken, self.beside = self.beside, []
        for one in taken:
            self.durables.append(one.durable)
            one.stop()

    def forget(self, durable: Durable) -> None:
        """Forget durable work that is to end, if it is there."""
        self.beside = [one for one in self.beside if one.durable is not durable]
        self.durables = [one for one in self.durables if one is not durable]

    def _forget_replaced(self, new: Handler) -> None:
        """In a notebook or at a prompt: a function that was defined again replaces the earlier one."""
        if not is_typed(new.binding.function):
            return
        for old in list(self.handlers):
            if _is_redefined(old, new):
                self.handlers.remove(old)
                logger.info("handler %s is registered again: it replaces the earlier one", new.name)

    def _tell_double(self, new: Handler) -> None:
        """Say so when a function is registered for what it hears, or answers, already."""
        for old in self.handlers:
            if old.binding.function != new.binding.function:
                continue
            heard = [name for name in _heard(new) if name in _heard(old)]
            answered = [name for name in new.answers if name in old.answers]
            if heard or answered:
                logger.warning(
                    "handler %s is registered twice on %s%s",
                    new.name,
                    ", ".join(map(repr, dict.fromkeys(heard + answered))),
                    ": it gets each of their live events twice" if heard else "",
                )

    @property
    def bindings(self) -> list[Binding]:
        """The bindings of all handlers and jobs."""
        handlers = [handler.binding for handler in self.handlers]
        return handlers + [job.binding for durable in self.durables for job in durable.jobs.values()]

    @property
    def has_async(self) -> bool:
        """Whether any handler or job is ``async def``."""
        return any(binding.is_async for binding in self.bindings)

    def responders(self, *, quiet: bool = False) -> dict[str, Handler]:
        """Return who answers requests, by exact name or glob; logs those that are left out, unless quiet."""
        table: dict[str, Handler] = {}
        for handler in self.handlers:
            for name in handler.answers:
                first = table.setdefault(name, handler)
                twice = first.binding.function == handler.binding.function  # that was said before
                if first is not handler and not quiet and not twice:
                    logger.warning(
                        "requests on %r are answered by %s, registered first; %s hears its live events only",
                        name,
                        first.name,
                        handler.name,
                    )
        return table


def _heard(handler: Handler) -> tuple[str, ...]:
    """Return the exact names and globs whose live events a handler hears."""
    return (*handler.channels, *handler.globs) if handler.events else ()


def is_typed(function: Callable[..., Any]) -> bool:
    """Return whether it is a named function of a session that is no file."""
    scope = getattr(function, "__globals__", {})
    return (
        scope.get("__name__") == "__main__" and "__file__" not in scope and "<" not in handler_name(function)
    )


def _is_redefined(old: Handler, new: Handler) -> bool:
    """Return whether these are two functions with one name, on the same channels. One function may well
    be registered twice, with other options."""
    same_function = old.binding.function is new.binding.function
    same_names = (old.channels, old.globs, old.name) == (new.channels, new.globs, new.name)
    return same_names and not same_function and is_typed(old.binding.function)


class LiveTable:
    """Says which handlers get a message, given what is subscribed and confirmed on one connection.

    Only its reader uses it. ``targets`` are any objects that stand for a handler's lane.

    Attributes:
        exact: who gets a message that came by the exact subscription of its channel.
        globs: who is registered with a glob; `of_glob` says who gets a message that came by it.
    """

    CACHED = 10_000

    def __init__(self) -> None:
        self.exact: dict[bytes, list[Any]] = {}
        self.globs: dict[bytes, list[Any]] = {}
        self.confirmed: dict[bytes, None] = {}
        self._confirmed_globs: dict[bytes, None] = {}
        self._choices: dict[tuple[bytes, bytes], list[Any]] = {}

    def add(self, handler: Handler, target: Any) -> None:
        """Add the names and globs of a handler."""
        for name in handler.channels:
            self.exact.setdefault(name.encode("utf-8"), []).append(target)
        for glob in handler.globs:
            self.globs.setdefault(glob.encode("utf-8"), []).append(target)

    def confirm(self, name: bytes, *, glob: bool) -> None:
        """Note that the server has confirmed a subscription."""
        (self._confirmed_globs if glob else self.confirmed)[name] = None
        self._choices.clear()

    def reset(self) -> None:
        """Forget every confirmation: the connection is gone."""
        self.confirmed.clear()
        self._confirmed_globs.clear()
        self._choices.clear()

    def is_confirmed(self, name: bytes, *, glob: bool) -> bool:
        """Return whether a subscription is confirmed."""
        return name in (self._confirmed_globs if glob else self.confirmed)

    def of_glob(self, glob: bytes, channel: bytes) -> list[Any]:
        """Return who gets a message that came by a glob: those for whom no other comes first."""
        found = self._choices.get((glob, channel))
        if found is None:
            if len(self._choices) >= self.CACHED:
                self._choices.clear()
            found = [
                target for target in self.globs.get(glob, []) if self._comes_first(target, glob, channel)
            ]
            self._choices[glob, channel] = found
        return found

    def _comes_first(self, target: Any, glob: bytes, channel: bytes) -> bool:
        if channel in self.confirmed and target in self.exact.get(channel, []):
            return False
        for other in self._confirmed_globs:
            if target in self.globs.get(other, []) and matches(other, channel):
                return other == glob
        return True
