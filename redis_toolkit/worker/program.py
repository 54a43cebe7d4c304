"""How to start this program once more, as a worker process.

A worker re-runs the script (or ``-m`` module, or ``-c`` text) whose code asked for it, where reaching
``run()`` or ``start(workers=N)`` again means: serve. When the program is another one that only
imported the app, a test runner or a server say, the worker imports the app's module instead.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
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
        command = _rerun()
        if command is not None:
            return Program(command, reruns=True)
        raise ConfigurationError(
            "worker processes run the script again, and here there is none (an interactive session?): "
            "put the app and its handlers into a module, or use app.run(workers=0)"
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


def _rerun() -> list[str] | None:
    main = sys.modules.get("__main__")
    arguments = sys.orig_argv[1:]
    has_source = getattr(main, "__file__", None) is not None or getattr(main, "__spec__", None) is not None
    if not sys.executable or not arguments or not (has_source or "-c" in arguments):
        return None
    return [sys.executable, *arguments]


def _attribute(app: Any, module: str) -> str | None:
    """Return under which name an importable module has the app."""
    if not _is_importable(module):
        return None
    return next((name for name, value in vars(sys.modules[module]).items() if value is app), None)


def _is_importable(module: str) -> bool:
    """Return whether a fresh interpreter finds what is loaded here under this name."""
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return spec is not None and importlib.util.find_spec(module) is not None
