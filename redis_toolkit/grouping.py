"""How a durable group is registered: the options of ``on(..., group=)``, checked, as `Durable` values.

Rules: what cannot work is said when it is registered, naming the handler, the option and the way out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypedDict

from redis_toolkit._core.flow import Command
from redis_toolkit._core.flows import durable
from redis_toolkit.binding import Binding, handler_name
from redis_toolkit.errors import ConfigurationError
from redis_toolkit.globs import is_glob
from redis_toolkit.jobs import Backoff, Durable, Job, moment_ms, policy_of, seconds_of
from redis_toolkit.message import Message
from redis_toolkit.misspelt import meant
from redis_toolkit.routing import checked_channel
from redis_toolkit.settings import check_whole
from redis_toolkit.wire import Wire

__all__ = ["GroupOptions", "durable_groups", "refuse_options"]

_ID = re.compile(r"(\d{1,20})-(\d{1,20})")
_OTHERS = ("group", "concurrency", "every_worker", "events", "requests", "codec")
"""What ``on`` takes besides the fields of `GroupOptions`."""


class GroupOptions(TypedDict, total=False):
    """What ``on(..., group=)`` takes besides.

    Attributes:
        retries: how often an event is tried again after a failure, or a number per exception class; 0 unless
            given. After the last one it is a dead letter, see `App.dead`.
        backoff: seconds before the first retry, each later one waits twice as long; or a `Backoff`; or one of
            these per exception class.
        timeout: seconds, or a timedelta, that one attempt may take.
        lease: seconds after which others take over what a process holds that gives no sign of life; the app's
            ``lease`` unless given.
        start: where the group begins when it is made: ``"now"``, which it does unless given, ``"beginning"``,
            the id of an event, or a datetime.
        keep: seconds, or a timedelta, for which events are kept besides those that a group has not finished,
            so that a group which is made later can begin with them; 0 unless given.
        max_backlog: how many events the group may be behind; any number unless given.
        overflow: what happens then: ``"refuse"``, which lets `App.publish` raise `StreamFull`, or ``"drop"``,
            which drops the oldest events of the group and counts them.
    """

    retries: int | Mapping[type[BaseException], int]
    backoff: float | Backoff | Mapping[type[BaseException], float | Backoff] | None
    timeout: float | timedelta | None
    lease: float | None
    start: str | datetime
    keep: float | timedelta
    max_backlog: int | None
    overflow: Literal["refuse", "drop"]


def refuse_options(options: GroupOptions) -> None:
    """Refuse what was given without ``group=``.

    Raises:
        ConfigurationError: something was.
    """
    for name in options:
        _check_known(name)
        raise ConfigurationError(
            f"{name}= is for durable events: give the handler a group= as well, or leave it out"
        )


def durable_groups(
    function: Callable[..., Any],
    channels: Sequence[str],
    group: str,
    concurrency: int | None,
    options: GroupOptions,
    *,
    app: object,
    wire: Wire,
    then: Callable[[Message], Command | None] | None = None,
    buried: Callable[[Message], Command | None] | None = None,
) -> list[Durable]:
    """Return a group for each channel, all with one handler.

    Args:
        function: the handler.
        channels: exact names.
        group: its name.
        concurrency: how many events are handled at once in one process, or None.
        options: the others.
        app: what a parameter annotated with its class gets.
        wire: reads the events.
        then, buried: see `Job`.

    Raises:
        ConfigurationError: a channel is a glob, or an option or the signature cannot work.
    """
    names = _checked_names(function, channels)
    for name in options:
        _check_known(name)
    group = checked_group(group)
    policy = policy_of(
        retries=options.get("retries", 0),
        backoff=options.get("backoff"),
        timeout=options.get("timeout"),
        result_ttl=0,
    )
    job = Job("", Binding(function, app), wire, policy, then=then, buried=buried)
    after = _after(options.get("start", "now"))
    keep_ms = int(seconds_of("keep", options.get("keep", 0), least=0) * 1000)
    lease, backlog = options.get("lease"), options.get("max_backlog")
    if backlog is not None:
        check_whole("max_backlog", backlog)
    overflow = options.get("overflow", "refuse")
    if overflow not in ("refuse", "drop"):
        raise ConfigurationError(f"overflow={overflow!r} must be 'refuse' or 'drop'")
    return [
        Durable(
            durable.group_source(str(name), group),
            {"": job},
            str(name),
            is_queue=False,
            concurrency=concurrency,
            lease=None if lease is None else seconds_of("lease", lease, least=0.1),
            after=after,
            keep_ms=keep_ms,
            max_backlog=backlog,
            drop=overflow == "drop",
        )
        for name in names
    ]


def _checked_names(function: Callable[..., Any], channels: Sequence[str]) -> list[str]:
    if not channels:
        raise ConfigurationError('on() needs a channel: @app.on("orders", group="billing")')
    names = list(dict.fromkeys(checked_channel(name) for name in channels))
    for name in names:
        if is_glob(name):
            raise ConfigurationError(
                f"handler {handler_name(function)}: a durable group is of one channel, and {name!r} "
                "is a glob; name the channels, or write ExactChannel(...) when it is a name"
            )
    return names


def checked_group(group: object) -> str:
    """Return the name of a group.

    Raises:
        ConfigurationError: it cannot be one.
    """
    if not isinstance(group, str) or not 0 < len(group) <= 200 or not group.isprintable():
        raise ConfigurationError(f"group={ascii(group)[:80]} must be printable text of 1 to 200 characters")
    return group


def _after(start: object) -> str:
    """Return the id after which a group begins."""
    if start == "now":
        return "$"
    if start == "beginning":
        return "0"
    if isinstance(start, datetime):
        return durable.since_ms(moment_ms("start", start))
    found = _ID.fullmatch(start) if isinstance(start, str) else None
    if found is None:
        raise ConfigurationError(
            f"start={start!r} must be 'now', 'beginning', the id of an event such as '1700000000000-0', "
            "or a datetime"
        )
    ms, sequence = int(found[1]), int(found[2])
    return f"{ms}-{sequence - 1}" if sequence else durable.since_ms(ms)


def _check_known(name: str) -> None:
    if name not in GroupOptions.__annotations__:
        raise ConfigurationError(
            f"on() has no option {name}=: {meant([name], [*_OTHERS, *GroupOptions.__annotations__])}"
        )
