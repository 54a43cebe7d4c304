"""How worker processes are started: from a script, a module, an import; and what runs in them."""

from __future__ import annotations

import pytest

from redis_toolkit import App
from tests.kit.ports import free_port
from tests.kit.processes import Process
from tests.kit.servers import Server
from tests.kit.waiting import eventually
from tests.worker.programs import PID, Programs, both_answer, nothing_is_left, registered

RUN = "app.run(workers=2)\n"


def serves_from_two_workers(program: Process, client: App) -> None:
    """The program's two workers answer, and it ends as it should."""
    pids = both_answer(client)
    assert pids == set(program.children())
    program.terminate()
    assert program.wait() == 0


def test_a_script_runs_again_in_each_worker(programs: Programs, client: App) -> None:
    serves_from_two_workers(programs.serving(PID, RUN), client)


def test_a_module_with_m_runs_again_in_each_worker(programs: Programs, client: App) -> None:
    programs.write("service.py", PID + "if __name__ == '__main__':\n    " + RUN)
    serves_from_two_workers(programs.serving(module="service"), client)


def test_text_with_c_that_imports_the_app_runs_again(programs: Programs, client: App) -> None:
    module = programs.write("service.py", PID)
    text = "import service; service.app.run(workers=2)"
    serves_from_two_workers(programs.serving(options=["-c", text], path=module), client)


def test_a_script_that_imports_the_app_runs_again(programs: Programs, client: App) -> None:
    programs.write("service.py", PID)
    main = programs.write_bare("main.py", "from service import app\napp.run(workers=2)\n")
    serves_from_two_workers(programs.serving(path=main), client)


def test_a_module_that_runs_its_own_app_is_imported_instead(programs: Programs, client: App) -> None:
    programs.write("service.py", PID + "def serve():\n    history.write('asked')\n    " + RUN)
    main = programs.write_bare("main.py", "import service\nservice.serve()\n")
    serves_from_two_workers(programs.serving(path=main), client)
    assert len(programs.history.read("asked")) == 1


def test_handlers_of_other_modules_are_in_the_workers_too(programs: Programs, client: App) -> None:
    programs.write("service.py", "def serve():\n    " + RUN)
    programs.write_bare("handlers.py", "import os\nfrom service import app\n" + PID)
    main = programs.write_bare("main.py", "import handlers, service\nservice.serve()\n")
    serves_from_two_workers(programs.serving(path=main), client)


def test_an_app_built_in_a_function_of_the_script_is_found(programs: Programs, client: App) -> None:
    source = """
    def main():
        app = App(os.environ["URL"])

        @app.on("pid")
        def pid():
            return os.getpid()

        app.run(workers=2)

    if __name__ == "__main__":
        main()
    """
    serves_from_two_workers(programs.serving(source), client)


def test_the_code_before_run_runs_everywhere_and_that_behind_it_in_the_parent(
    programs: Programs, client: App
) -> None:
    program = programs.serving("history.write('before')\n", PID, RUN, "history.write('behind')\n")
    pids = both_answer(client)
    program.terminate()
    assert program.wait() == 0
    assert {entry["pid"] for entry in programs.history.read("before")} == {program.pid, *pids}
    assert [entry["pid"] for entry in programs.history.read("behind")] == [program.pid]


def test_a_script_serves_in_the_background_and_asks_its_own_workers(programs: Programs, bus: Server) -> None:
    source = """
    @app.on("news")
    def hear(data):
        history.write("heard", data=data)

    app.start(workers=2)
    print("receivers", app.publish("news", 1))
    pids = set(app.worker_pids)
    assert len(pids) == 2, pids
    assert set(app.request_many("pid", [None] * 20, timeout=30)) <= pids
    app.stop()
    print("pids", *pids)
    assert app.worker_pids == []
    """
    program = programs.start(PID, source)
    assert program.wait() == 0, program.output
    # Confirmed when start() returns: the very first event is heard.
    assert program.wait_for_line("receivers") == "receivers 1"
    assert len(programs.history.read("heard")) == 1
    nothing_is_left(bus, [int(pid) for pid in program.wait_for_line("pids").split()[1:]], "pid", "news")


def test_each_of_two_apps_in_one_script_has_its_own_workers(programs: Programs, client: App) -> None:
    source = """
    history.write("loaded")
    other = App(os.environ["URL"], lease=60)

    @other.on("other")
    def ask():
        return [os.getpid(), sorted(handler.name for handler in other._router.handlers)]

    app.start(workers=1)
    print("first", *app.worker_pids, flush=True)
    other.run(workers=1)
    app.stop()
    """
    program = programs.serving(PID, source, workers=1)
    first = int(program.wait_for_line("first").split()[1])
    assert client.request("pid", timeout=30) == first
    second = client.request("other", timeout=30)[0]
    assert sorted(program.children()) == sorted([first, second])
    program.terminate()
    assert program.wait() == 0
    assert {entry["pid"] for entry in programs.history.read("loaded")} == {program.pid, first, second}


def test_no_workers_means_this_process(programs: Programs, bus: Server, client: App) -> None:
    program = programs.start(PID, "app.run(workers=0)\nhistory.write('behind')\n")
    eventually(lambda: registered(bus, "pid"), what="the registration")
    assert client.request("pid", timeout=30) == program.pid
    assert program.children() == []
    assert programs.history.read() == []
    program.terminate()
    assert program.wait() == 0
    assert len(programs.history.read("behind")) == 1
    nothing_is_left(bus, [program.pid], "pid")


def test_what_a_worker_starts_is_no_worker(programs: Programs, client: App) -> None:
    text = (
        "import os; from redis_toolkit.worker.assignment import assignment; "
        "print('REDIS_TOOLKIT_WORKER' in os.environ, assignment())"
    )
    source = f"""
    @app.on("start", events=False)
    def start():
        return subprocess.run([sys.executable, "-c", {text!r}], capture_output=True, text=True).stdout
    """
    programs.serving(source, "app.run(workers=1)\n", workers=1)
    assert client.request("start", timeout=30) == "False None\n"


def test_an_embedded_server_is_shared_with_the_workers(programs: Programs) -> None:
    source = """
    @app.on("where", events=False)
    def where():
        return [os.getpid(), app.url, app.client.info("server")["process_id"]]

    app.start(workers=2)
    pid, url, server = app.request("where", timeout=30)
    assert pid in app.worker_pids
    assert url == app.url
    print("server", server, app.client.info("server")["process_id"])
    app.stop()
    """
    program = programs.start(source, url="embedded://")
    assert program.wait() == 0, program.output
    _, theirs, ours = program.wait_for_line("server ").split()
    assert theirs == ours


@pytest.mark.parametrize("call", ["run", "start"])
def test_a_server_that_is_not_there_is_said_once_and_no_worker_is_started(
    programs: Programs, call: str
) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    program = programs.start(f"history.write('loaded')\n{PID}\napp.{call}(workers=2)\n", url=url)
    assert program.wait() == 1
    assert len(programs.history.read("loaded")) == 1
    assert program.stderr.splitlines()[-1].startswith(
        f"redis_toolkit.errors.ServerUnreachable: cannot reach {url}: "
    )
    assert program.output.count("cannot reach") == 1 + program.stderr.count("Failed: cannot reach")


@pytest.mark.parametrize("call", ["run", "start"])
def test_workers_that_never_get_ready_end_the_program(programs: Programs, call: str) -> None:
    source = """
    history.write("loaded")
    if len(history.read("loaded")) > 1:
        raise RuntimeError("broken in a worker")
    """
    program = programs.start(source, PID, f"app.{call}(workers=5)")
    assert program.wait() == 1
    last = program.stderr.splitlines()[-1]
    assert last.startswith(
        "redis_toolkit.errors.WorkersFailed: 5 times a worker process ended before it was ready"
    )
    assert "exit code 1" in last
    assert "RuntimeError: broken in a worker" in program.stderr
    assert len(programs.history.read("loaded")) <= 1 + 2 * 5  # some may just have been started again
    assert program.children() == []
