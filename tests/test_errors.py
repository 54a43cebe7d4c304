"""The tree that the errors module draws is the tree that there is."""

from __future__ import annotations

import builtins
import inspect
import itertools
import multiprocessing
import re
import textwrap

import pytest

from redis_toolkit import errors
from redis_toolkit.errors import RedisToolkitError, RemoteError

CLASSES = [getattr(errors, name) for name in errors.__all__]
LINE = re.compile(r"^(?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+)(?: \((?P<builtin>\w+)\))?")


def drawn() -> dict[str, tuple[str, str | None]]:
    """Return the parent and the builtin of each class, as the docstring draws them."""
    found: dict[str, tuple[str, str | None]] = {}
    path: list[str] = []
    lines = textwrap.dedent((inspect.getdoc(errors) or "").partition("tree.")[2]).splitlines()
    start = next(place for place, line in enumerate(lines) if line.strip() == "RedisToolkitError")
    margin = lines[start].index("R")
    for line in itertools.takewhile(lambda line: line.strip("` "), lines[start:]):
        match = LINE.match(line[margin:])
        assert match is not None, line
        depth = len(match["indent"]) // 4
        found[match["name"]] = (path[depth - 1] if depth else "Exception", match["builtin"])
        path[depth:] = [match["name"]]
    return found


def test_the_drawn_tree_is_the_real_one() -> None:
    real = {}
    for kind in CLASSES:
        parent, *builtin = [base.__name__ for base in kind.__bases__]
        real[kind.__name__] = (parent, builtin[0] if builtin else None)
    assert drawn() == real


def test_it_names_every_class_of_the_module() -> None:
    defined = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert defined == set(errors.__all__) == set(drawn())


@pytest.mark.parametrize("kind", CLASSES)
def test_there_is_one_root(kind: type[Exception]) -> None:
    assert issubclass(kind, RedisToolkitError)
    assert inspect.getdoc(kind)


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("RequestTimeout", "TimeoutError"),
        ("NoResponders", "TimeoutError"),
        ("ServerUnreachable", "ConnectionError"),
        ("AuthenticationFailed", "ConnectionError"),
        ("OutcomeUnknown", "ConnectionError"),
        ("ConfigurationError", "ValueError"),
        ("EncodeError", "ValueError"),
        ("PayloadTooLarge", "ValueError"),
        ("DecodeError", "ValueError"),
        ("PayloadMismatch", "ValueError"),
    ],
)
def test_they_are_builtin_errors_too(name: str, builtin: str) -> None:
    assert issubclass(getattr(errors, name), getattr(builtins, builtin))


def test_a_timeout_is_no_connection_error_and_the_other_way_round() -> None:
    assert not issubclass(errors.RequestTimeout, ConnectionError)
    assert not issubclass(errors.ServerUnreachable, TimeoutError)


class TestRemoteError:
    def test_its_text(self) -> None:
        assert str(RemoteError("KeyError", "'a'")) == "KeyError: 'a'"

    def test_with_a_traceback(self) -> None:
        error = RemoteError("KeyError", "'a'", "Traceback ...")
        assert (error.type, error.message, error.traceback) == ("KeyError", "'a'", "Traceback ...")
        assert str(error) == "KeyError: 'a'\n\nRemote traceback:\nTraceback ..."


@pytest.mark.parametrize("error", [RemoteError("KeyError", "'a'", "trace"), errors.NoResponders("nobody")])
def test_an_error_raised_in_a_process_of_multiprocessing_arrives_whole(error: Exception) -> None:
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        theirs.send(error)
        arrived = ours.recv()
    assert (type(arrived), arrived.args, str(arrived)) == (type(error), error.args, str(error))
