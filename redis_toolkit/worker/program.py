"""How to start this program once more, as a worker process.

A worker re-runs the script (or ``-m`` module, or ``-c`` text) whose code asked for it, where reaching
``run()`` or ``start(workers=N)`` again means: serve. When the program is another one that only
imported the app, a test runner or a server say, the worker imports the app's module instead.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from redis_toolkit.errors import ConfigurationError

__all__ = ["Program", "program_of"]


class Program:
    """A command line that starts a worker process.

    Attributes:
        command: the arguments, the interpreter first.
        reruns: whether it runs the script again, rather than importing the app by name.
    """

    def __init__(self, command: list[str], *, reruns: bool) -> None:
        self.command = command
        self.reruns = reruns


def program_of(app: Any, module: str, caller: FrameType | None, handler_modules: set[str]) -> Program:
    """Return how to start a worker for an app.

    Args:
        app: the app.
        module: name of the module in which it was built.
        caller: the frame that called ``run()`` or ``start()``.
        handler_modules: names of the modules that its handlers are from.

    Raises:
        ConfigurationError: a fresh interpreter could not find the app.
    """
    asked_by_script = caller is not None and caller.f_globals.get("__name__") == "__main__"
    if asked_by_script or "__main__" in handler_modules or module == "__main__":
        command = None if _is_typed(caller) else _rerun()
        if command is not None:
            return Program(command, reruns=True)
        raise ConfigurationError(
            "worker processes run the script again, and here there is none (a notebook, a prompt, standard "
            "input): put the app and its handlers into a module, or serve here with app.start() or "
            "app.run(workers=0)"
        )
    attribute = _attribute(app, module)
    if attribute is not None:
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        others = sorted(name for name in handler_modules - {module} if _is_importable(name))
        target = [f"{module}:{attribute}", *others]
        command = [sys.executable, *flags, "-m", "redis_toolkit.worker.child", *target]
        return Program(command, reruns=False)
    raise ConfigurationError(
        f"worker processes import the app, and it is no attribute of module {module!r}: "
        "assign it to a module-level name, or use app.run(workers=0)"
    )


def _is_typed(caller: FrameType | None) -> bool:
    """Return whether the call was typed at a prompt: after ``python -i script.py`` there is a script too."""
    name = "" if caller is None else caller.f_code.co_filename
    return name.startswith("<") and not name.startswith(("<string>", "<frozen "))


def _rerun() -> list[str] | None:
    main = sys.modules.get("__main__")
    arguments = sys.orig_argv[1:]
    file = getattr(main, "__file__", None)
    if getattr(main, "__spec__", None) is not None:  # -m, a folder or an archive
        has_source = True
    elif file is not None:  # what ran it (a notebook's %run) may be another program
        has_source = Path(file).name in [Path(argument).name for argument in arguments]
    else:
        has_source = _has_text(arguments)
    return [sys.executable, *arguments] if sys.executable and has_source else None


def _has_text(arguments: list[str]) -> bool:
    """Return whether the interpreter's own options have the program in them (``-c``)."""
    rest = iter(arguments)
    for argument in rest:
        if re.match("-[bBdEhiIOPqRsSuvx]*c", argument):
            return True
        if argument in ("-W", "-X", "--check-hash-based-pycs"):
            next(rest, None)
        elif argument == "-" or not argument.startswith("-") or argument.startswith("-m"):
            return False
    return False


def _attribute(app: Any, module: str) -> str | None:
    """Return under which name an importable module has the app, or has what the app belongs to (a queue)."""
    if not _is_importable(module):
        return None
    found = vars(sys.modules[module]).items()
    own = (name for name, value in found if value is app)
    owned = (f"{name}.app" for name, value in found if inspect.getattr_static(value, "app", None) is app)
    return next(own, None) or next(owned, None)


def _is_importable(module: str) -> bool:
    """Return whether a fresh interpreter finds what is loaded here under this name."""
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return spec is not None and importlib.util.find_spec(module) is not None
