"""Notifications: each heard once and in order, unread until it is read, on all devices of a user."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from redis_toolkit import (
    App,
    ConfigurationError,
    EncodeError,
    Gap,
    Message,
    OutcomeUnknown,
    PayloadTooLarge,
    PermissionDenied,
    ServerUnreachable,
    SignedCodec,
    StoreFull,
)
from redis_toolkit.patterns import NotificationSystem, UserNotificationClient
from tests.e2e.conftest import check_keys
from tests.e2e.test_rights import RULES, user
from tests.kit.processes import Process
from tests.kit.proxy import Proxy
from tests.kit.servers import Server
from tests.kit.waiting import eventually

__all__ = ["user"]  # the fixture

Open = Callable[..., UserNotificationClient]


@pytest.fixture
def talking(server: Server, no_thread_is_left: None) -> Iterator[App]:
    app = App(server.url, reconnect_cap=0.2)
    yield app
    app.stop()


@pytest.fixture
def system(talking: App) -> NotificationSystem:
    return NotificationSystem(app=talking)


@pytest.fixture
def connect(no_thread_is_left: None) -> Iterator[Open]:
    """Return what opens clients, which are stopped after the test."""
    with ExitStack() as stack:
        yield lambda *args, **more: stack.enter_context(UserNotificationClient(*args, **more))


def texts(notifications: list[dict[str, Any]]) -> list[Any]:
    return [one.get("text") for one in notifications]


class TestHearing:
    def test_each_hears_what_is_theirs_and_all_hear_broadcasts(
        self, system: NotificationSystem, talking: App, connect: Open
    ) -> None:
        heard: dict[str, list[Any]] = {"ada": [], "bob": [], "all": []}
        connect("ada", heard["ada"].append, heard["ada"].append, app=talking)
        connect("bob", heard["bob"].append, app=talking)
        connect("bob", on_broadcast=heard["all"].append, app=talking)
        ids = [system.send_notification("ada", {"text": 1}), system.broadcast({"text": 2})]
        ids.append(system.send_notification("ada", {"text": 3}))
        system.send_notification("bob", {"text": 4})
        eventually(lambda: len(heard["ada"]) == 3 and len(heard["bob"]) == 1 and len(heard["all"]) == 1)
        assert texts(heard["ada"]) == [1, 2, 3]
        assert [one["id"] for one in heard["ada"]] == ids
        assert (texts(heard["bob"]), texts(heard["all"])) == ([4], [2])
        assert all(isinstance(one["timestamp"], float) for one in heard["ada"])

    def test_the_channels_are_those_that_are_documented(
        self, system: NotificationSystem, talking: App, connect: Open, server: Server
    ) -> None:
        got: list[Any] = []
        watched: list[Any] = []
        watcher = App(server.url)
        watcher.on("notifications:all")(watched.append)
        client = connect(7, got.append, got.append, app=talking)
        with watcher:
            server.execute("PUBLISH", "notifications:user:7", '{"text": "hi"}')
            server.execute("PUBLISH", "notifications:broadcast", '{"text": "all", "id": 5}')
            for _ in range(2):
                server.execute("PUBLISH", "notifications:user:7", '{"id": "99999999999999-0"}')
            for garbage in ("hi", b"\xff", "[1]", "1", '{"a": NaN}', '{"a": 1, "a": 2}', "[" * 10_000):
                server.execute("PUBLISH", "notifications:user:7", garbage)
            sent = system.send_notification("7", {"text": "own"})
            eventually(lambda: len(got) == 5 and watched)
        made_up = {"id": "99999999999999-0"}
        assert got[:4] == [{"text": "hi"}, {"text": "all", "id": 5}, made_up, made_up]
        assert watched == [{"user_id": "7", "notification": got[4]}]
        assert client.counters == {"undecodable": 7}
        assert [one["id"] for one in system.unread(7)] == [sent]

    @pytest.mark.fault(38, "chat")
    def test_user_ids_are_just_names(self, system: NotificationSystem, talking: App, connect: Open) -> None:
        names = ["*", "u?", "[ab]", "a b", "🦊", "u" * 500, "x{y}%", "u1", "a", 'q"\\', "a\nb"]
        heard: dict[str, list[Any]] = {name: [] for name in names}
        for name in names:
            connect(name, heard[name].append, app=talking)
            system.send_notification(name, {"text": name})
        eventually(lambda: all(heard.values()))
        assert {name: texts(got) for name, got in heard.items()} == {name: [name] for name in names}
        assert all(system.unread_count(name) == 1 for name in names)

    def test_a_handler_takes_what_it_names(
        self, system: NotificationSystem, talking: App, connect: Open
    ) -> None:
        @dataclasses.dataclass
        class Note:
            text: str

        got: list[Any] = []

        def by_name(text: str, level: str = "info", *, message: Message) -> None:
            got.append((text, level, message.id))

        def as_model(note: Note, channel: str) -> None:
            got.append((note, channel))

        client = connect("ada", by_name, as_model, app=talking)
        sent = system.send_notification("ada", Note("hi"))
        system.broadcast({"text": "all"})
        system.broadcast({"title": "no text"})
        eventually(lambda: client.counters.get("mismatched"))
        assert got == [("hi", "info", sent), (Note("all"), "notifications:broadcast")]

    def test_an_error_in_a_handler_ends_nothing(
        self, system: NotificationSystem, talking: App, connect: Open
    ) -> None:
        got: list[Any] = []

        def fail(notification: dict[str, Any]) -> None:
            got.append(notification)
            raise ValueError("closed")

        client = connect("ada", fail, app=talking)
        for number in range(2):
            system.send_notification("ada", {"text": number})
        eventually(lambda: client.counters.get("failed") == 2)
        assert texts(got) == [0, 1]
        assert client.unread_count() == 2

    def test_coroutines_and_calls_that_are_awaited(self, talking: App) -> None:
        async def main() -> None:
            system = NotificationSystem(app=talking)
            loop, got, reads = asyncio.get_running_loop(), list[Any](), list[Any]()
            done = asyncio.Event()

            async def hear(notification: dict[str, Any]) -> None:
                assert asyncio.get_running_loop() is loop
                await asyncio.sleep(0)
                got.append(notification)

            def hear_all(notification: dict[str, Any]) -> None:
                got.append(notification)

            async def read(said: dict[str, Any]) -> None:
                reads.append(said)
                done.set()

            await system.asend_notification("ada", {"text": 1})
            client = await UserNotificationClient.aconnect(
                "ada", hear, hear_all, on_read=read, app=talking, catch_up=True
            )
            async with client:
                sent = await system.abroadcast({"text": 2})
                assert await client.aunread_count() == await system.aunread_count("ada") == 2
                assert texts(await client.aunread()) == texts(await system.aunread("ada")) == [1, 2]
                assert await client.amark_read(sent) == 1
                await asyncio.wait_for(done.wait(), 30)
                assert await system.amark_all_read("ada") == 1
                assert await system.adropped("ada") == 0
            assert texts(got) == [1, 2]
            assert reads[0] == {"ids": [sent], "all": False}
            assert not client.connected
            await talking.astop()

        asyncio.run(main())

    def test_coroutines_of_a_client_that_was_not_awaited(
        self, system: NotificationSystem, talking: App, connect: Open
    ) -> None:
        got: list[Any] = []
        marked: list[int] = []

        async def hear(notification: dict[str, Any]) -> None:
            marked.append(await client.amark_read(notification))
            got.append(notification)
            if notification["text"] == 2:
                client.stop()

        client = connect("ada", hear, app=talking)
        for number in range(3):
            system.send_notification("ada", {"text": number})
        eventually(lambda: len(got) == 3)
        assert (texts(got), marked) == ([0, 1, 2], [1, 1, 1])
        assert not client.connected

    def test_a_handler_may_stop_its_client(self, system: NotificationSystem, talking: App) -> None:
        ended = threading.Event()

        def hear(notification: dict[str, Any]) -> None:
            client.cleanup()
            ended.set()

        client = UserNotificationClient("ada", hear, app=talking)
        system.send_notification("ada", {})
        assert ended.wait(30)
        client.stop()

    def test_all_clients_of_a_process_share_a_connection(
        self, system: NotificationSystem, talking: App, connect: Open, server: Server
    ) -> None:
        heard: dict[str, list[Any]] = {f"u{number}": [] for number in range(50)}
        clients = [connect(name, got.append, got.append, app=talking) for name, got in heard.items()]
        devices = [connect("u7", heard["u7"].append, app=talking) for _ in range(2)]
        [_] = server.execute("CLIENT", "LIST", "TYPE", "pubsub").splitlines()
        system.broadcast({"text": "all"})
        for name in heard:
            system.send_notification(name, {"text": name})
        eventually(lambda: all(len(got) >= 2 for got in heard.values()) and len(heard["u7"]) == 4)
        assert all(texts(got) == ["all", name] for name, got in heard.items() if name != "u7")
        for client in (*clients[:25], *devices):
            client.stop()
        system.send_notification("u7", {"text": "late"})
        system.send_notification("u49", {"text": "last"})
        eventually(lambda: len(heard["u49"]) == 3)
        assert len(heard["u7"]) == 4
        names = server.execute("PUBSUB", "CHANNELS", "notifications:user:*")
        assert sorted(names) == sorted(f"notifications:user:u{number}" for number in range(25, 50))

    def test_what_was_sent_before_a_stop_is_heard(self, system: NotificationSystem, talking: App) -> None:
        got: list[Any] = []

        async def hear(notification: dict[str, Any]) -> None:
            got.append(notification)

        with UserNotificationClient("other", on_broadcast=lambda notification: None, app=talking):
            for round_ in range(30):
                with UserNotificationClient("ada", *[(got.append, hear)[round_ % 2]] * 2, app=talking):
                    system.broadcast({"text": round_})
                    system.send_notification("ada", {"text": round_})
        assert texts(got) == [round_ for round_ in range(30) for _ in "ab"]

    def test_one_that_only_reads_has_no_connection_of_its_own(self, talking: App, connect: Open) -> None:
        client = connect("ada", app=talking)
        assert client.unread() == []
        assert not client.connected


class TestReading:
    def test_it_waits_for_who_is_offline(
        self, system: NotificationSystem, talking: App, connect: Open, server: Server
    ) -> None:
        system.send_notification("ada", {"text": 1})
        system.broadcast({"text": 2})
        system.send_notification("ada", {"text": 3})
        got: list[Any] = []
        client = connect("ada", got.append, got.append, app=talking, catch_up=True)
        system.send_notification("ada", {"text": 4})
        eventually(lambda: len(got) == 4)
        assert sorted(texts(got)) == [1, 2, 3, 4]
        assert got == client.unread()
        assert client.unread(2) == got[:2]
        assert client.unread(after=got[1]["id"]) == got[2:]
        assert client.unread_count() == 4  # what a handler got is not read by that
        assert client.mark_read(got[0]["id"], got[1]) == 2
        assert client.unread() == got[2:]
        assert client.mark_read() == client.mark_read(*[]) == 0
        assert client.unread() == got[2:]
        assert client.mark_all_read() == 2
        assert client.unread_count() == 0
        assert system.unread_count("new") == 1
        check_keys(server)

    def test_devices_share_what_is_read(
        self, system: NotificationSystem, talking: App, connect: Open
    ) -> None:
        said: list[list[Any]] = [[], []]
        phone = connect("ada", on_read=said[0].append, app=talking)
        laptop = connect("ada", on_read=said[1].append, app=talking)
        other = connect("bob", app=talking)
        ids = [system.send_notification("ada", {}), system.broadcast({}), system.broadcast({})]
        assert phone.mark_read(*ids[:2]) == 2
        assert [one["id"] for one in laptop.unread()] == [ids[2]]
        assert phone.mark_read() == system.mark_read("ada") == 0  # of which nobody is told
        assert laptop.mark_all_read() == 1
        assert phone.unread_count() == 0
        assert other.unread_count() == 2
        expected = [{"ids": ids[:2], "all": False}, {"ids": [], "all": True}]
        eventually(lambda: said == [expected, expected])

    def test_the_number_that_is_kept_is_limited_and_what_goes_is_counted(self, talking: App) -> None:
        system = NotificationSystem(app=talking, keep=3)
        for number in range(5):
            system.send_notification("ada", {"text": number})
            system.broadcast({"text": number + 10})
        assert sorted(texts(system.unread("ada"))) == [2, 3, 4, 12, 13, 14]
        assert (system.unread_count("ada"), system.dropped("ada"), system.dropped()) == (6, 2, 2)

    @pytest.mark.fault(29, "chat")
    def test_garbage_in_the_streams_is_left_out(
        self, system: NotificationSystem, talking: App, connect: Open, server: Server
    ) -> None:
        for body in (b"\xff", "[]", "x"):
            server.execute("XADD", "rt:n:{ada}:unread", "*", "b", body)
        server.execute("XADD", "rt:b:{broadcast}:stream", "*", "other", "field")
        system.send_notification("ada", {"text": 1})
        got: list[Any] = []
        client = connect("ada", got.append, app=talking, catch_up=True)
        eventually(lambda: got)
        assert texts(client.unread()) == [1]
        assert client.counters == {"undecodable": 3}
        client.mark_all_read()
        assert client.unread_count() == 0

    def test_what_cannot_be_is_refused_before_anything_is_sent(
        self, system: NotificationSystem, talking: App, server: Server
    ) -> None:
        refused: list[tuple[Callable[[], Any], str]] = [
            (lambda: system.send_notification("", {}), "empty"),
            (lambda: system.send_notification(b"ada", {}), "text or a whole number, not by"),  # type: ignore[arg-type]
            (lambda: system.send_notification(True, {}), "text or a whole number, not by"),
            (lambda: system.send_notification("\ud800", {}), "UTF-8"),
            (lambda: system.send_notification("ada", {"id": 1}), "'id'"),
            (lambda: system.send_notification("ada", {"rt": 1}), "'rt'"),
            (lambda: system.send_notification("ada", {}, id=""), "id="),
            (lambda: system.mark_read("ada", "x"), "no id of a notification"),
            (lambda: system.unread("ada", 0), "limit=0"),
            (lambda: system.unread("ada", after="x"), "no id of a notification"),
            (lambda: NotificationSystem(app=talking, keep=0), "keep=0"),
            (lambda: NotificationSystem(app=talking, max_age=0), "max_age"),
            (lambda: NotificationSystem(app=talking, url=server.url), "not both"),
            (lambda: NotificationSystem(app=App(server.url, codec=SignedCodec("json", "k" * 16))), "signed"),
            (lambda: UserNotificationClient("ada", 5, app=talking), "handler"),  # type: ignore[arg-type]
            (lambda: UserNotificationClient("ada", app=talking, url=server.url), "not both"),
            (lambda: UserNotificationClient("ada", on_personnel=5), "on_personal"),  # type: ignore[call-arg]
            (lambda: system.send_notification("ada", {}, ttl=3), "it has user_id, notification, id"),  # type: ignore[call-arg]
            (lambda: system.unread("ada", limt=3), "did you mean limit="),  # type: ignore[call-arg]
            (lambda: NotificationSystem(maxage=5), "max_age"),  # type: ignore[call-arg]
        ]
        for call, reason in refused:
            with pytest.raises(ConfigurationError, match=reason):
                call()
        for bad in ("text", [1], None, 5, {"a": object()}, {1: 2}):
            with pytest.raises(EncodeError):
                system.broadcast(bad)
        with pytest.raises(PayloadTooLarge):
            system.broadcast({"text": "x" * 2**20})
        assert server.execute("DBSIZE") == 0

    def test_the_largest_that_may_be_sent_can_be_read(
        self, system: NotificationSystem, talking: App, connect: Open
    ) -> None:
        got: list[Any] = []
        client = connect("ada", got.append, app=talking)
        system.send_notification("ada", {"text": "x" * (2**20 - 11)})
        eventually(lambda: got)
        assert client.unread() == got


class TestFaults:
    @pytest.mark.fault(16, "chat")
    def test_what_came_during_a_cut_comes_once_and_in_order(
        self, own_server: Server, proxy: Proxy, connect: Open, quickly: dict[str, Any]
    ) -> None:
        system = NotificationSystem(url=own_server.url)
        cut = App(proxy.url, **quickly)
        got: list[Any] = []
        gaps: list[Gap] = []
        client = connect("ada", got.append, got.append, on_gap=gaps.append, app=cut)
        read = [system.send_notification("ada", {"text": 0})]
        eventually(lambda: len(got) == 1)
        for round_ in range(3):
            proxy.refuse()
            proxy.rst()
            eventually(lambda: not client.connected)
            for number in range(4):
                system.send_notification("ada", {"text": (round_, number)})
            read.append(system.broadcast({"text": "read meanwhile"}))
            system.mark_read("ada", *read)
            proxy.accept()
            system.broadcast({"text": (round_, "last")})
            eventually(lambda: len(got) == 1 + 5 * (round_ + 1))  # noqa: B023  # called here and now
        numbers = [[round_, number] for round_ in range(3) for number in range(4)]
        assert texts([one for one in got if not one["id"].startswith("b")]) == [0, *numbers]
        lasts = [[round_, "last"] for round_ in range(3)]
        assert texts([one for one in got if one["id"].startswith("b")]) == lasts
        assert gaps == []
        assert len({one["id"] for one in got}) == len(got)
        cut.stop()

    @pytest.mark.fault(17, "chat")
    @pytest.mark.parametrize("handlers", ["def", "async def"])
    def test_a_network_that_swallows_everything(
        self, own_server: Server, proxy: Proxy, connect: Open, handlers: str
    ) -> None:
        system = NotificationSystem(url=own_server.url)
        short = {"ping_interval": 0.5, "connect_timeout": 0.5, "command_timeout": 0.7}
        cut = App(proxy.url, reconnect_cap=0.2, **short)  # type: ignore[arg-type]
        hasty = App(proxy.url, connect_timeout=0.1, command_timeout=0.1)
        got: list[Any] = []

        async def hear(notification: dict[str, Any]) -> None:
            got.append(notification)

        client = connect("ada", got.append if handlers == "def" else hear, app=cut, catch_up=True)
        proxy.blackhole()
        eventually(lambda: not client.connected)
        sent = [system.send_notification("ada", {"text": number}) for number in range(3)]
        with pytest.raises(ServerUnreachable):
            UserNotificationClient("bob", hear, app=hasty)
        proxy.heal()
        eventually(lambda: len(got) == 3)
        assert [one["id"] for one in got] == sent
        eventually(lambda: client.connected)
        cut.stop()

    @pytest.mark.fault(21, "chat")
    def test_a_fork_neither_hears_nor_ends_anything(self, own_server: Server, tmp_path: Path) -> None:
        source = """
            import os, sys
            from redis_toolkit.patterns import NotificationSystem, UserNotificationClient

            def hear(notification):
                print("heard", notification["text"], flush=True)

            url = sys.argv[1]
            client = UserNotificationClient("ada", hear, hear, url=url)
            child = os.fork()
            if not child:
                assert not client.connected
                client.stop()
                with UserNotificationClient("ada", lambda data: None, url=url) as own:
                    NotificationSystem(url=url).broadcast({"text": own.connected})
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            NotificationSystem(url=url).send_notification("ada", {"text": "parent"})
        """
        options = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]  # fork beside threads
        with Process(directory=tmp_path, source=source, args=[own_server.url], options=options) as program:
            assert program.wait(60) == 0, program.output
            assert program.stdout == "heard True\nheard parent\n"
            assert program.stderr == ""

    @pytest.mark.fault(32, "chat")
    def test_what_a_slow_handler_could_not_hear_is_read_later(
        self, system: NotificationSystem, talking: App, connect: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("redis_toolkit.patterns.client_lane.WAITING", 5)
        go_on, got = threading.Event(), list[Any]()

        def slow(notification: dict[str, Any]) -> None:
            assert go_on.wait(30)
            got.append(notification)

        connect("ada", slow, app=talking)
        sent = [system.send_notification("ada", {"text": number}) for number in range(100)]
        go_on.set()
        eventually(lambda: len(got) >= 100)
        assert [one["id"] for one in got] == sent

    def test_what_was_dropped_during_a_cut_is_a_gap(
        self, own_server: Server, proxy: Proxy, connect: Open, quickly: dict[str, Any]
    ) -> None:
        system = NotificationSystem(url=own_server.url, keep=2)
        cut = App(proxy.url, **quickly)
        got: list[Any] = []
        gaps: list[Gap] = []
        client = connect("ada", got.append, on_gap=gaps.append, app=cut)
        proxy.refuse()
        proxy.fin()
        eventually(lambda: not client.connected)
        for number in range(4):
            system.send_notification("ada", {"text": number})
        proxy.accept()
        eventually(lambda: len(got) == 2)
        assert texts(got) == [2, 3]
        eventually(lambda: gaps)
        assert "dropped" in gaps[0].reason
        assert client.counters == {"gaps": 1}
        cut.stop()

    @pytest.mark.fault(9, "chat")
    @pytest.mark.fault(10, "chat")
    def test_a_restart_keeps_what_is_on_the_disk(self, tmp_path: Path, connect: Open) -> None:
        with Server(directory=tmp_path / "server", persistence="always") as server:
            app = App(server.url, reconnect_cap=0.2, command_timeout=30)
            system = NotificationSystem(app=app)
            got: list[Any] = []
            gaps: list[Gap] = []
            client = connect("ada", got.append, got.append, on_gap=gaps.append, app=app)
            system.send_notification("ada", {"text": 1})
            system.mark_read("ada", system.broadcast({"text": 2}))
            eventually(lambda: len(got) == 2)
            server.kill()
            server.start()
            last = system.send_notification("ada", {"text": 3}, id="three")
            assert system.send_notification("ada", {"text": 3}, id="three") == last
            eventually(lambda: len(got) == 3 and client.connected)
            assert texts(got) == [1, 2, 3]
            assert texts(client.unread()) == [1, 3]
            assert gaps == []
            client.stop()
            app.stop()

    @pytest.mark.fault(11, "chat")
    def test_a_server_that_forgets_everything_is_told_and_goes_on(
        self, own_server: Server, connect: Open
    ) -> None:
        app = App(own_server.url, reconnect_cap=0.2, command_timeout=30)
        system = NotificationSystem(app=app)
        got: list[Any] = []
        gaps: list[Gap] = []
        client = connect("ada", got.append, on_gap=gaps.append, app=app)
        system.send_notification("ada", {"text": 1})
        own_server.execute("FLUSHALL")
        system.send_notification("ada", {"text": 2})
        eventually(lambda: len(got) == 2)
        assert texts(client.unread()) == [2]
        own_server.kill()
        own_server.start()
        eventually(lambda: gaps)
        assert "lost" in gaps[0].reason
        system.send_notification("ada", {"text": 3})
        eventually(lambda: len(got) == 3)
        assert (texts(got), texts(client.unread())) == ([1, 2, 3], [3])
        client.stop()
        app.stop()

    @pytest.mark.fault(18, "chat")
    @pytest.mark.parametrize("id", [None, "order-7"])
    def test_an_unknown_outcome_is_told_or_repeated_without_a_double(
        self, own_server: Server, proxy: Proxy, id: str | None, quickly: dict[str, Any]
    ) -> None:
        app = App(proxy.url, **quickly)
        system = NotificationSystem(app=app)
        system.send_notification("bob", {})  # the server knows the script
        drop = proxy.drop_reply(b"notifications:user:ada")
        if id is None:
            with pytest.raises(OutcomeUnknown):
                system.send_notification("ada", {"text": 1})
        else:
            system.send_notification("ada", {"text": 1}, id=id)
        assert drop.hits
        assert texts(system.unread("ada")) == [1]
        app.stop()

    @pytest.mark.fault(14, "chat")
    def test_connections_that_are_killed_again_and_again(
        self, system: NotificationSystem, talking: App, connect: Open, server: Server
    ) -> None:
        got: list[Any] = []
        client = connect("ada", got.append, got.append, app=talking)
        for number in range(60):
            if number % 3:
                system.send_notification("ada", {"text": number}, id=f"n-{number}")
            else:
                system.broadcast({"text": number}, id=f"n-{number}")
            if number % 10 == 5:
                server.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                server.execute("CLIENT", "KILL", "TYPE", "pubsub")
        eventually(lambda: len(got) >= 60 and client.connected)
        assert sorted(texts(got)) == list(range(60))
        for kind in ("b", ""):
            heard = [one["id"] for one in got if one["id"].startswith("b") == bool(kind)]
            assert heard == [one["id"] for one in client.unread() if one["id"].startswith("b") == bool(kind)]

    @pytest.mark.fault(25, "chat")
    def test_full_memory_refuses_the_next_and_lets_people_read(
        self, system: NotificationSystem, server: Server
    ) -> None:
        sent = system.send_notification("ada", {"text": 1})
        server.execute("CONFIG", "SET", "maxmemory", "1")
        try:
            with pytest.raises(StoreFull):
                system.send_notification("ada", {"text": 2})
            with pytest.raises(StoreFull):
                system.broadcast({"text": 2})
            assert texts(system.unread("ada")) == [1]
            assert system.mark_read("ada", sent) == 1
        finally:
            server.execute("CONFIG", "SET", "maxmemory", "0")
        assert system.unread_count("ada") == 0

    @pytest.mark.fault(35, "chat")
    def test_the_rules_of_the_documentation_are_enough(
        self, user: Callable[..., str], connect: Open, server: Server
    ) -> None:
        app = App(user("notifier", RULES["notifications"]))
        system = NotificationSystem(app=app, keep=1)
        got: list[Any] = []
        client = connect("ada", got.append, got.append, on_read=got.append, app=app)
        for number in range(2):
            system.send_notification("ada", {"text": number}, id=str(number))
            system.broadcast({"text": number}, id=str(number))
        sent = system.unread("ada")[-1]
        assert client.mark_read(sent) == 1
        assert client.mark_all_read() == 1
        assert system.dropped("ada") == 1
        eventually(lambda: len(got) == 6)
        app.stop()
        calls: list[tuple[str, Callable[[App], Any]]] = [
            ("-publish", lambda app: NotificationSystem(app=app).send_notification("ada", {"text": 1})),
            ("-xrevrange", lambda app: UserNotificationClient("ada", got.append, app=app)),
            ("-subscribe", lambda app: UserNotificationClient("ada", got.append, app=app)),
        ]
        for right, call in calls:
            app = App(user("other", RULES["notifications"], right))
            with pytest.raises(PermissionDenied, match=right[1:].upper()):
                call(app)
            app.stop()

    @pytest.mark.fault(35, "chat")
    def test_a_right_that_is_taken_away_is_waited_for(
        self, user: Callable[..., str], system: NotificationSystem, connect: Open, server: Server
    ) -> None:
        url = user("hearer", "~* +@all resetchannels &rt:* &notifications:user:a &notifications:user:b")
        app = App(url, reconnect_cap=0.2)
        got: dict[str, list[Any]] = {"a": [], "b": []}
        clients = {name: connect(name, got[name].append, app=app) for name in got}
        server.execute("ACL", "SETUSER", "hearer", "resetchannels", "&rt:*", "&notifications:user:b")
        server.execute("CLIENT", "KILL", "TYPE", "pubsub")
        eventually(lambda: clients["b"].connected and not clients["a"].connected)
        for name in got:
            system.send_notification(name, {"text": name})
        eventually(lambda: got["b"])
        server.execute("ACL", "SETUSER", "hearer", "&notifications:user:a")
        eventually(lambda: clients["a"].connected and got["a"])
        assert (texts(got["a"]), texts(got["b"])) == (["a"], ["b"])
        for client in clients.values():
            client.stop()
        app.stop()

    def test_nobody_there(self) -> None:
        with pytest.raises(ServerUnreachable):
            UserNotificationClient("ada", list[Any]().append, url="redis://127.0.0.1:1/0")

        async def hear(notification: dict[str, Any]) -> None: ...

        with pytest.raises(ServerUnreachable):
            UserNotificationClient("ada", hear, url="redis://127.0.0.1:1/0", catch_up=True)


def test_a_client_is_awaited_with_the_parameters_of_its_constructor() -> None:
    made = inspect.signature(UserNotificationClient)
    awaited = inspect.signature(UserNotificationClient.aconnect)
    assert list(made.parameters.values()) == list(awaited.parameters.values())


def test_on_a_loop_that_runs_handlers_nothing_blocks(system: NotificationSystem, talking: App) -> None:
    async def main() -> None:
        async with talking:
            refused: list[tuple[Callable[[], Any], str]] = [
                (lambda: system.send_notification("ada", {}), "asend_notification"),
                (lambda: system.unread_count("ada"), "aunread_count"),
                (lambda: UserNotificationClient("ada", [].append, app=talking), r"Client\.aconnect"),
                (UserNotificationClient("ada", app=talking).unread, "aunread"),
            ]
            for call, twin in refused:
                with pytest.raises(ConfigurationError, match=rf"await [A-Za-z]*{twin}\(\)"):
                    call()

    talking.on("x")(lambda data: None)
    asyncio.run(main())


def test_ids_only_grow_and_are_json(system: NotificationSystem) -> None:
    sent = [system.send_notification("ada", {"text": number}) for number in range(20)]
    assert [one["id"] for one in system.unread("ada")] == sent
    assert json.loads(json.dumps(system.unread("ada"))) == system.unread("ada")
