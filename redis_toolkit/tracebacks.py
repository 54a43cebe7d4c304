"""The tracebacks of our log records: each line is Python's own, whatever an exception says.

Rules:

- Who sends a payload has a say in the text of the exception that it causes. Line breaks and escapes in
  it, in its notes and in the name of its class are escaped: none of it can pass for another record.
- Of what a handler raised, the frames before its own are left out: they are ours, and tell nothing to who
  wrote it. Who logs such an exception says so by ``extra=OF_HANDLER``.
- The text is put where `logging.Formatter` keeps the one that it makes (``record.exc_text``), and takes it
  from when it is there. ``record.exc_info`` stays the exception itself, for handlers that want that.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Generator, Sequence
from types import TracebackType
from typing import Any

from redis_toolkit.errors import one_line

__all__ = ["OF_HANDLER", "install", "since_handler", "traceback_of"]

_MARK = "redis_toolkit_handler"
OF_HANDLER = {_MARK: True}
"""What a log record has whose exception a handler raised."""


class _Escaped(traceback.TracebackException):
    """Says each thing about the exception itself on one line."""

    def format_exception_only(self, **how: Any) -> Generator[str, None, None]:
        for said in super().format_exception_only(**how):
            yield one_line(said.removesuffix("\n")) + "\n"


def since_handler(error: BaseException) -> TracebackType | None:
    """Return the traceback of what a handler raised from its first frame that is not ours; all if none is."""
    at = error.__traceback__
    while at is not None and str(at.tb_frame.f_globals.get("__name__")).startswith("redis_toolkit."):
        at = at.tb_next
    return at or error.__traceback__


def traceback_of(error: BaseException, *, of_handler: bool = False) -> str:
    """Return a traceback as Python shows it, but that what the exceptions say is escaped.

    Args:
        error: the exception; those that led to it are shown as well.
        of_handler: whether a handler raised it.
    """
    frames = since_handler(error) if of_handler else error.__traceback__
    top = traceback.TracebackException(type(error), error, frames)
    found: list[traceback.TracebackException | None] = [top]
    while found:
        one = found.pop()
        if one is not None:
            found += [one.__cause__, one.__context__, *(one.exceptions or ())]
            notes: Any = one.__notes__
            if notes is not None:  # each line of a note would become a line
                many = isinstance(notes, Sequence) and not isinstance(notes, str)
                one.__notes__ = [_noted(note) for note in (notes if many else [notes])]
            one.__class__ = _Escaped
    lines = "".join(top.format()).removesuffix("\n").split("\n")
    return "\n".join(map(one_line, lines))


def _noted(note: object) -> str:
    try:
        return one_line(str(note))
    except BaseException as error:  # it is foreign code
        return f"<a note whose str() raised {type(error).__name__}>"


def install() -> None:
    """See that the records of our logger have such tracebacks."""
    logging.getLogger("redis_toolkit").addFilter(_add_traceback)


def _add_traceback(record: logging.LogRecord) -> bool:
    """Give a record with an exception the text of its traceback; a filter that lets every record pass."""
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and not record.exc_text:
        try:
            record.exc_text = traceback_of(error, of_handler=hasattr(record, _MARK))
        except BaseException as failure:  # foreign code may even exit; logging must not fail in a handler
            record.exc_text = f"{type(failure).__name__}: this traceback could not be shown"
    return True
