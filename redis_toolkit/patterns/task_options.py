"""`TaskOptions`: how one task is submitted. Checked when it is made, so that nothing wrong is sent.

Rules:

- Durations are seconds or a ``timedelta``; a moment is a ``datetime`` with a time zone. One without is
  refused: it names another moment in each zone.
- A moment counts on the server's clock, and so does a duration: it begins when the server gets the task.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from redis_toolkit.errors import ConfigurationError
from redis_toolkit.jobs import Duration, moment_ms, seconds_of
from redis_toolkit.misspelt import meant

__all__ = [
    "NO_OPTIONS",
    "OPTIONS",
    "Duration",
    "TaskOptionFields",
    "TaskOptions",
    "checked_text",
    "duration_ms",
    "refuse_unknown",
]

MAX_ID = 200


class TaskOptionFields(TypedDict, total=False):
    """The fields of `TaskOptions` as keyword arguments."""

    priority: str | None
    delay: Duration | None
    eta: datetime.datetime | None
    expires: Duration | datetime.datetime | None
    unique_key: str | None
    headers: Mapping[str, str] | None
    id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """How a task is submitted; None means: as the task, or the queue, says.

    Args:
        priority: one of the queue's.
        delay: how much later it becomes ready.
        eta: when it becomes ready; at once if that has passed.
        expires: until when it may begin; later it ends as expired, and is not run.
        unique_key: of the tasks with one key, the queue has one at a time, until it has ended.
        headers: text by name, for whoever handles it.
        id: its id. Another submit with this id adds nothing, so it may be repeated when the outcome of the
            first is unknown. Up to 200 printable ASCII characters but ``"`` and ``\\``.

    Attributes:
        plain: whether it has but a priority and headers, so that it becomes an entry of a stream and no more.
        bare: whether it has but a priority.

    Raises:
        ConfigurationError: one of them cannot be.
    """

    priority: str | None = None
    delay: Duration | None = None
    eta: datetime.datetime | None = None
    expires: Duration | datetime.datetime | None = None
    unique_key: str | None = None
    headers: Mapping[str, str] | None = None
    id: str | None = None
    plain: bool = field(init=False, repr=False)
    bare: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        timed = (self.delay, self.eta, self.expires, self.unique_key, self.id)
        object.__setattr__(self, "plain", timed == (None,) * 5)
        object.__setattr__(self, "bare", self.plain and not self.headers)
        if not self.plain:
            self._check()

    def _check(self) -> None:
        if self.delay is not None and self.eta is not None:
            raise ConfigurationError("a task has delay= or eta=, not both")
        if self.delay is not None:
            duration_ms("delay", self.delay)
        if self.eta is not None:
            moment_ms("eta", self.eta)
        if isinstance(self.expires, datetime.datetime):
            moment_ms("expires", self.expires)
        elif self.expires is not None:
            duration_ms("expires", self.expires)
        if self.unique_key is not None:
            checked_text("unique_key", self.unique_key)
        if self.id is not None:
            _check_id(self.id)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> TaskOptions:
        """Return options that were given as keywords.

        Raises:
            ConfigurationError: there is no such option, or it cannot be.
        """
        if not options:
            return NO_OPTIONS
        refuse_unknown(options)
        return cls(**options)

    @property
    def delay_ms(self) -> int | None:
        """How many ms later it becomes ready, or None."""
        return duration_ms("delay", self.delay) if self.delay else None

    @property
    def due_ms(self) -> int | None:
        """The server's ms when it becomes ready, or None."""
        return None if self.eta is None else moment_ms("eta", self.eta)

    def expires_ms(self, now_ms: int) -> int | None:
        """Return the server's ms until which it may begin, given those of now; or None."""
        if self.expires is None:
            return None
        if isinstance(self.expires, datetime.datetime):
            return moment_ms("expires", self.expires)
        return now_ms + duration_ms("expires", self.expires)


NO_OPTIONS = TaskOptions()
OPTIONS = frozenset(TaskOptionFields.__annotations__)
"""Their names."""


def refuse_unknown(options: Mapping[str, Any]) -> None:
    """Refuse options that there are not.

    Raises:
        ConfigurationError: one is among them.
    """
    if unknown := options.keys() - OPTIONS:
        raise ConfigurationError(
            f"a task has no option {', '.join(f'{one}=' for one in sorted(unknown))}: "
            f"{meant(sorted(unknown), sorted(OPTIONS))}"
        )


def duration_ms(name: str, value: object) -> int:
    """Return a duration in ms.

    Raises:
        ConfigurationError: it is none, negative, or longer than about four months.
    """
    return int(seconds_of(name, value, least=0) * 1000)


def checked_text(name: str, value: object) -> str:
    """Return a text that a caller gave.

    Raises:
        ConfigurationError: no text, empty, or text that has no UTF-8 form.
    """
    if not isinstance(value, str) or not value or value.encode("utf-8", "replace").decode("utf-8") != value:
        raise ConfigurationError(f"{name}={ascii(value)[:80]} must be text, and not empty")
    return value


def _check_id(id: object) -> None:
    fits = isinstance(id, str) and 0 < len(id) <= MAX_ID and id.isascii() and id.isprintable()
    if not fits or '"' in id or "\\" in id:  # type: ignore[operator]
        raise ConfigurationError(
            f'id={ascii(id)[:80]} must be 1 to {MAX_ID} printable ASCII characters, but " and \\'
        )
