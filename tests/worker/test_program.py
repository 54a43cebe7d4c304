"""Which command line starts this program once more, as a worker."""

from __future__ import annotations

import sys
from types import FrameType, ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from redis_toolkit.errors import ConfigurationError
from redis_toolkit.worker.program import program_of

APP = object()
THIS = __name__


def frame_of(module: str, file: str = "main.py") -> FrameType:
    """Return what looks like a frame of code in a module."""
    code = SimpleNamespace(co_filename=file)
    return cast(FrameType, SimpleNamespace(f_globals={"__name__": module}, f_code=code))


@pytest.fixture
def started_as(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretend that this interpreter was started with these arguments."""

    def start(*arguments: str, file: str | None = None, spec: object = None) -> None:
        main = ModuleType("__main__")
        main.__dict__.update({"__file__": file} if file else {})
        main.__spec__ = cast(Any, spec)
        monkeypatch.setitem(sys.modules, "__main__", main)
        monkeypatch.setattr(sys, "orig_argv", ["python", *arguments])

    return start


@pytest.mark.parametrize(
    ("arguments", "main"),
    [
        (("main.py", "--fast"), {"file": "main.py"}),
        (("-W", "error", "-X", "dev", "main.py"), {"file": "main.py"}),
        (("-m", "service", "-c", "x"), {"file": "/x/service.py", "spec": object()}),
        (("main.py", "-c"), {"file": "/moved/main.py"}),
        (("-m", "cProfile", "main.py"), {"file": "main.py"}),
        (("-c", "import service; service.app.run()", "arg"), {}),
        (("-W", "once", "-Xdev", "-Ic", "import service; service.app.run()"), {}),
    ],
)
def test_a_script_runs_again_as_it_was_started(
    started_as: Any, arguments: tuple[str, ...], main: Any
) -> None:
    started_as(*arguments, **main)
    program = program_of(APP, "__main__", frame_of("__main__"), {"__main__"})
    assert program.command == [sys.executable, *arguments]
    assert program.reruns


@pytest.mark.parametrize(
    ("module", "caller", "handlers"),
    [
        (THIS, "__main__", {THIS}),
        (THIS, THIS, {"__main__"}),
        ("__main__", THIS, {THIS}),
        (THIS, THIS, {THIS, "__main__"}),
    ],
)
def test_what_the_script_has_a_part_in_runs_the_script_again(
    started_as: Any, module: str, caller: str, handlers: set[str]
) -> None:
    started_as("main.py", file="main.py")
    assert program_of(APP, module, frame_of(caller), handlers).reruns


@pytest.mark.parametrize(
    "arguments",
    [(), ("-",), ("-i",), ("-q", "-i"), ("-", "-c"), ("-W", "-c"), ("-Wonce",), ("/usr/bin/console", "-c")],
)
def test_an_interactive_session_cannot_run_again(started_as: Any, arguments: tuple[str, ...]) -> None:
    started_as(*arguments)
    with pytest.raises(ConfigurationError, match=r"workers=0"):
        program_of(APP, "__main__", frame_of("__main__"), {"__main__"})


@pytest.mark.parametrize("file", ["<stdin>", "<console>", "<python-input-3>"])
def test_what_is_typed_at_the_prompt_behind_a_script_cannot_run_again(started_as: Any, file: str) -> None:
    started_as("-i", "main.py", file="main.py")
    with pytest.raises(ConfigurationError, match=r"app\.start\(\)"):
        program_of(APP, "__main__", frame_of("__main__", file), {"__main__"})


def test_a_script_that_another_program_has_loaded_cannot_run_again(started_as: Any) -> None:
    started_as("-m", "notebook_kernel", "-f", "connection.json", file="/home/me/script.py")
    with pytest.raises(ConfigurationError, match=r"workers=0"):
        program_of(APP, "__main__", frame_of("__main__"), {"__main__"})


def test_an_app_of_another_program_is_imported(started_as: Any) -> None:
    started_as("-m", "pytest", file="/x/pytest.py", spec=object())
    program = program_of(APP, THIS, frame_of(THIS), {THIS, "json.decoder", "no.such.module"})
    flags = program.command[1 : program.command.index("-m")]
    assert program.command == [
        sys.executable, *flags, "-m", "redis_toolkit.worker.child", f"{THIS}:APP", "json.decoder",
    ]  # fmt: skip
    assert not program.reruns


def test_an_app_without_a_name_cannot_be_imported(started_as: Any) -> None:
    started_as("-m", "pytest", file="/x/pytest.py", spec=object())
    for app, module in ((object(), THIS), (APP, "no.such.module")):
        with pytest.raises(ConfigurationError, match="module-level name"):
            program_of(app, module, frame_of(THIS), {THIS})
