"""Tracebacks in log records: what an exception says never becomes a line of its own."""

from __future__ import annotations

import asyncio
import io
import logging
import traceback
from collections.abc import Callable
from types import FunctionType
from typing import Any

import pytest

from redis_toolkit import App, RemoteError
from redis_toolkit.binding import Binding
from redis_toolkit.patterns import TaskQueue
from redis_toolkit.tracebacks import install, traceback_of
from tests.kit.servers import Server
from tests.kit.waiting import eventually

FORGED = "x\r\nCRITICAL redis_toolkit forged \x1b[2J\x9b31m\u2028"
ESCAPED = "x\\r\\nCRITICAL redis_toolkit forged \\x1b[2J\\x9b31m\\u2028"


class Unspeakable:
    def __str__(self) -> str:
        raise ValueError(FORGED)


def raised(*errors: Exception) -> Exception:
    """Return the last of some exceptions, each raised while the one before was handled."""
    *before, last = errors
    try:
        try:
            if before:
                raise raised(*before)
        finally:
            raise last
    except Exception as error:
        return error


def noted(error: Exception, notes: Any) -> Exception:
    error.__notes__ = notes
    return error


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


ERRORS: dict[str, Callable[[], Exception]] = {
    "message": lambda: raised(ValueError(FORGED)),
    "key": lambda: raised(KeyError(FORGED)),
    "class": lambda: raised(type(FORGED, (Exception,), {})(1)),
    "module": lambda: raised(type("Error", (Exception,), {"__module__": FORGED})(1)),
    "notes": lambda: raised(noted(ValueError(1), [FORGED, 2])),
    "one note": lambda: raised(noted(ValueError(1), FORGED)),
    "context": lambda: raised(ValueError(FORGED), KeyError(1)),
    "cause": lambda: caused(raised(KeyError(1)), raised(noted(ValueError(FORGED), [FORGED]))),
    "syntax": lambda: raised(SyntaxError(FORGED, (FORGED, 1, 2, FORGED))),
    "group": lambda: raised(
        ExceptionGroup(FORGED, [raised(ValueError(FORGED)), noted(KeyError(1), [FORGED])])
    ),
    "groups": lambda: ExceptionGroup("a", [ExceptionGroup("b", [caused(ValueError(1), KeyError(FORGED))])]),
    "not raised": lambda: ValueError(FORGED),
}


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.fault(41, "events", "requests")
def test_what_an_exception_says_is_escaped(kind: str) -> None:
    lines = traceback_of(ERRORS[kind]()).split("\n")
    assert [line for line in lines if not line.isprintable()] == []
    assert [line for line in lines if line.lstrip(" |").startswith("CRITICAL")] == []
    assert any(ESCAPED in line.replace("\\\\", "\\") for line in lines)


def test_any_other_traceback_is_pythons() -> None:
    errors = [ValueError("1, 2"), noted(ExceptionGroup("some", [KeyError("a")]), ["a note"])]
    error = caused(raised(*errors), raised(TypeError("cause")))
    assert traceback_of(error) == "".join(traceback.format_exception(error)).rstrip("\n")


def test_what_cannot_be_said_is_named() -> None:
    error = raised(noted(ValueError(Unspeakable()), [Unspeakable()]))
    assert traceback_of(error).split("\n")[-2:] == [
        "ValueError: <exception str() failed>",
        "<a note whose str() raised ValueError>",
    ]


def test_a_record_has_both_the_text_and_the_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    install()  # once more: it does no harm
    logger, shown, records = logging.getLogger("redis_toolkit"), io.StringIO(), list[logging.LogRecord]()
    stream, keeping = logging.StreamHandler(shown), logging.Handler()
    monkeypatch.setattr(keeping, "emit", records.append)
    error = raised(ValueError(FORGED))
    for handler in (keeping, stream):
        logger.addHandler(handler)
    try:
        logger.error("failed", exc_info=error)
        logger.error("failed", exc_info=(None, None, None))
    finally:
        for handler in (keeping, stream):
            logger.removeHandler(handler)
    first, second = records
    assert first.exc_info is not None
    assert first.exc_info[1] is error
    assert shown.getvalue() == f"failed\n{traceback_of(error)}\nfailed\nNoneType: None\n"
    assert second.exc_text == "NoneType: None"  # logging's own


@pytest.mark.parametrize("kind", ["live", "request", "group", "task"])
@pytest.mark.parametrize("style", ["def", "async def"])
def test_what_a_handler_raised_begins_in_the_handler(
    server: Server, caplog: pytest.LogCaptureFixture, kind: str, style: str
) -> None:
    def fail(data: Any) -> None:
        Binding(len)  # something of ours, which is fine
        raise ValueError(data)

    async def fail_later(data: Any) -> None:
        await asyncio.sleep(0)
        fail(data)

    app = App(server.url, block=0.2)
    handler, queue = fail if style == "def" else fail_later, TaskQueue("q", app=app)
    if kind == "task":
        queue.task(name="fail")(handler)
    else:
        app.on("c", group="g" if kind == "group" else None)(handler)
    with app:
        if kind == "request":
            with pytest.raises(RemoteError):
                app.request("c", 1, timeout=30)
        elif kind == "task":
            queue.submit("fail", 1)
            eventually(queue.dead)
            assert f", in {handler.__name__}\n" in queue.dead()[0].traceback.split("File ")[1]
        else:
            app.publish("c", 1)
        eventually(lambda: [record for record in caplog.records if record.exc_text])
    [text] = [record.exc_text for record in caplog.records if record.exc_text]
    assert str(text).split("\n")[1].endswith(f", in {handler.__name__}")
    assert "redis_toolkit/worker" not in str(text)
    if kind == "group":
        assert "of 'c', group 'g' failed" in caplog.text


def test_what_only_we_have_run_is_shown_whole() -> None:
    def fail() -> Exception:
        try:
            raise KeyError(1)
        except KeyError as error:
            return error

    ours = FunctionType(fail.__code__, {**globals(), "__name__": "redis_toolkit.ours"})
    assert ", in fail" in traceback_of(ours(), of_handler=True)


def test_a_traceback_that_cannot_be_made_fails_nobody(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_error: BaseException, **_how: bool) -> str:
        raise RecursionError(FORGED)

    monkeypatch.setattr("redis_toolkit.tracebacks.traceback_of", fail)
    logging.getLogger("redis_toolkit").error("failed", exc_info=ValueError(FORGED))
    assert "RecursionError: this traceback could not be shown" in caplog.text
    assert "forged" not in caplog.text
