"""Real processes, what they leave behind, and the log that they share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.kit import proc
from tests.kit.processes import History, Process
from tests.kit.waiting import eventually

SLEEPER = "import threading; print('up', flush=True); threading.Event().wait()"

# Children that are hard to find once the parent is dead: one in a session of its own, which does not
# say whose it is either when it is "unmarked"; one in the session, with an environment of its own.
FAMILY = """
    import subprocess, sys, threading
    child = [sys.executable, "-uc", "import threading; print('child up'); threading.Event().wait()"]
    subprocess.Popen(child, start_new_session=True, env={} if "unmarked" in sys.argv else None)
    subprocess.Popen(child, env={})
    print("parent up", flush=True)
    threading.Event().wait()
"""


def test_output_arguments_and_exit_code(tmp_path: Path) -> None:
    source = "import sys; print('out', *sys.argv[1:]); print('err', file=sys.stderr); sys.exit(3)"
    with Process(source=source, directory=tmp_path, args=["a b", "c"]) as process:
        assert process.wait() == process.returncode == 3
    assert (process.stdout, process.stderr) == ("out a b c\n", "err\n")
    assert process.output == "out a b c\nerr\n"


def test_a_path_a_module_an_environment_and_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMOVED", "1")
    (tmp_path / "elsewhere").mkdir()
    script = tmp_path / "shows.py"
    script.write_text("import os; print(os.getcwd(), os.environ.get('ADDED'), os.environ.get('REMOVED'))")
    for choice in ({"path": script}, {"module": "shows"}):
        with Process(
            directory=tmp_path,
            cwd=tmp_path / "elsewhere",
            env={"ADDED": "2", "REMOVED": None, "PYTHONPATH": str(tmp_path)},
            **choice,
        ) as process:
            assert process.wait() == 0, process.output
        assert process.output.split() == [str(tmp_path / "elsewhere"), "2", "None"]


def test_two_processes_of_one_name_have_their_own_files(tmp_path: Path) -> None:
    with (
        Process(source="print(1)", directory=tmp_path, name="worker") as first,
        Process(source="print(2)", directory=tmp_path, name="worker") as second,
    ):
        first.wait()
        second.wait()
    assert (first.output, second.output) == ("1\n", "2\n")


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (Process.kill, -signal.SIGKILL),
        (Process.terminate, -signal.SIGTERM),
        (Process.interrupt, -signal.SIGINT),
    ],
)
def test_signals_reach_the_program(action: object, code: int, tmp_path: Path) -> None:
    assert callable(action)
    with Process(source=SLEEPER, directory=tmp_path) as process:
        process.wait_for_line("up")
        action(process)
        assert process.wait() == code


def test_interrupt_works_where_the_test_itself_ignores_it(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Process(source=SLEEPER, directory=tmp_path) as process:
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            process.wait_for_line("up")
            process.interrupt()
            assert process.wait() == -signal.SIGINT
            assert "KeyboardInterrupt" in process.stderr
    finally:
        signal.signal(signal.SIGINT, before)


def test_interrupt_of_the_group_reaches_children(tmp_path: Path) -> None:
    with Process(source=FAMILY, directory=tmp_path) as process:
        eventually(lambda: process.output.count("child up") == 2, what="both children")
        _other_session, same_group = process.children()
        process.interrupt(group=True)
        process.wait()
        eventually(lambda: not proc.alive(same_group), what="end of the child in the group")


def test_pause_and_resume(tmp_path: Path) -> None:
    history = History(tmp_path / "history")
    source = f"""
        import time
        from tests.kit.processes import History
        while True:
            History({str(history.path)!r}).write("beat")
            time.sleep(0.001)
    """
    with Process(source=source, directory=tmp_path) as process:
        history.wait_for(lambda entries: len(entries) > 2)
        process.pause()
        known = proc.stat(process.pid)
        assert known is not None
        assert known.state == "T"
        beats = len(history.read())
        process.resume()
        history.wait_for(lambda entries: len(entries) > beats)
        process.pause()
        process.resume()
        process.kill()
        with pytest.raises(RuntimeError, match="has ended"):
            process.pause()


@pytest.mark.parametrize("ending", ["running", "killed by the kit"])
def test_nothing_that_it_started_outlives_it(ending: str, tmp_path: Path) -> None:
    with Process(source=FAMILY, directory=tmp_path, args=["unmarked"]) as process:
        process.wait_for_line("parent up")
        eventually(lambda: process.output.count("child up") == 2, what="both children")
        children = process.children()
        assert len(children) == 2
        if ending != "running":
            process.kill()
            assert [proc.alive(pid) for pid in children] == [True, True]
    assert [proc.alive(pid) for pid in children] == [False, False]


def test_a_child_in_its_own_session_is_found_after_an_unseen_death(tmp_path: Path) -> None:
    with Process(source=FAMILY, directory=tmp_path) as process:
        eventually(lambda: process.output.count("child up") == 2, what="both children")
        children = proc.children(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert [proc.alive(pid) for pid in children] == [False, False]


def test_lines_of_several_processes_stay_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")  # as in many containers
    source = """
        import os
        children = [os.fork() for _ in range(2)]
        for number in range(500):
            print("line", number, "of", os.getpid(), flush=True)
        if all(children):
            for child in children:
                os.waitpid(child, 0)
    """
    with Process(source=source, directory=tmp_path) as process:
        assert process.wait() == 0
    lines = [line.split() for line in process.stdout.splitlines()]
    assert {len(words) for words in lines} == {4}
    assert sorted(int(number) for _, number, _, _ in lines) == [number // 4 for number in range(2000)]


def test_waiting_for_a_line_that_never_comes_ends_with_the_process(tmp_path: Path) -> None:
    with Process(source="print('something else', end='')", directory=tmp_path) as process:
        with pytest.raises(AssertionError, match="without a line with 'up'") as caught:
            process.wait_for_line("up")
        assert "something else" in "".join(caught.value.__notes__)
        assert process.wait_for_line("some") == "something else"


def test_what_still_runs_is_an_error_with_its_output(tmp_path: Path) -> None:
    with Process(source=SLEEPER, directory=tmp_path) as process:
        process.wait_for_line("up")
        with pytest.raises(AssertionError, match="still runs"):
            process.wait(timeout=0.01)


def test_a_process_dies_with_the_one_that_owns_it(tmp_path: Path) -> None:
    source = f"""
        import pathlib, threading
        from tests.kit.processes import Process
        inner = Process(source={SLEEPER!r}, directory=pathlib.Path(), name="inner").start()
        print("inner", inner.pid, flush=True)
        threading.Event().wait()
    """
    with Process(source=source, directory=tmp_path) as owner:
        pid = int(owner.wait_for_line("inner").split()[1])
        assert proc.alive(pid)
        os.kill(owner.pid, signal.SIGKILL)
        eventually(lambda: not proc.alive(pid), what="end of the orphan")


def test_history_of_many_processes_has_whole_lines(tmp_path: Path) -> None:
    history = History(tmp_path / "history")
    source = f"""
        import sys
        from tests.kit.processes import History
        for number in range(200):
            History({str(history.path)!r}).write("step", worker=sys.argv[1], number=number, text="x" * 3000)
    """
    assert history.read() == []
    workers = [Process(source=source, directory=tmp_path, args=[str(n)]).start() for n in range(4)]
    try:
        entries = history.wait_for(lambda found: len(found) == 800, event="step")
    finally:
        for worker in workers:
            worker.close()
    for n in range(4):
        mine = [entry for entry in entries if entry["worker"] == str(n)]
        assert [entry["number"] for entry in mine] == list(range(200))
        assert {entry["pid"] for entry in mine} == {workers[n].pid}


def test_history_says_what_it_does_not_take(tmp_path: Path) -> None:
    history = History(tmp_path / "history")
    with pytest.raises(ValueError, match="at most 4096"):
        history.write("long", text="x" * 4096)
    with pytest.raises(ValueError, match="pid"):
        history.write("mine", pid=1)
    history.write("a", value=[1, None])
    history.write("b")
    with history.path.open("a") as file:
        file.write('{"event": "a", "half')
    assert [entry["event"] for entry in history.read()] == ["a", "b"]
    assert [entry["value"] for entry in history.read("a")] == [[1, None]]
    with pytest.raises(AssertionError, match="'event': 'b'"):
        history.wait_for(lambda entries: len(entries) == 3, timeout=0)


def test_eventually_names_what_it_waited_for() -> None:
    values = iter([0, "", None, "found"])
    assert eventually(lambda: next(values)) == "found"
    with pytest.raises(AssertionError, match=r"the answer: not within 0.01 s; last value \[\]"):
        eventually(list, timeout=0.01, what="the answer")
