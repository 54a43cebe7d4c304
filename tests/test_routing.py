"""Who hears what: registrations, responders, and the table that keeps a handler from hearing twice."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redis_toolkit import App
from redis_toolkit.codecs import JSONCodec
from redis_toolkit.errors import ConfigurationError
from redis_toolkit.globs import is_glob, matches
from redis_toolkit.message import ExactChannel
from redis_toolkit.routing import Handler, LiveTable, Router, checked_channel
from redis_toolkit.wire import Wire

WIRE = Wire(JSONCodec(), 1000)


def router(*registrations: tuple[str, list[str], dict[str, Any]]) -> Router:
    """Make a router with handlers of these names, on these channels, with these options."""
    made = Router()
    for name, channels, options in registrations:
        made.add(named(name), channels, app=None, wire=WIRE, **options)
    return made


def named(name: str) -> Any:
    def handler(data: Any) -> None: ...

    handler.__qualname__ = name
    return handler


def answering(made: Router) -> dict[str, str]:
    return {name: handler.name for name, handler in made.responders(quiet=True).items()}


class TestRegistrations:
    def test_names_and_globs_are_told_apart_and_doubles_dropped(self) -> None:
        [handler] = router(("h", ["a", "b:*", "a", ExactChannel("c:*"), "b:*"], {})).handlers

        assert handler.channels == ("a", "c:*")
        assert handler.globs == ("b:*",)

    def test_an_exact_channel_and_the_glob_of_the_same_text_are_two(self) -> None:
        for names in (["a*", ExactChannel("a*")], [ExactChannel("a*"), "a*"]):
            [handler] = router(("h", names, {})).handlers
            assert (handler.channels, handler.globs) == (("a*",), ("a*",))

    def test_they_keep_their_order(self) -> None:
        made = router(("one", ["a"], {}), ("two", ["b"], {}), ("three", ["a"], {}))
        assert [handler.name for handler in made.handlers] == ["one", "two", "three"]

    @pytest.mark.parametrize("name", [5, None, b"bytes", "", "\ud800", ["a"]])
    def test_what_is_no_channel(self, name: Any) -> None:
        with pytest.raises(ConfigurationError, match="channel"):
            checked_channel(name)
        with pytest.raises(ConfigurationError, match="channel"):
            router(("h", ["fine", name], {}))

    @pytest.mark.parametrize("name", ["a", "zürich 🎈", "a b\n", "{x}", "%", "*"])
    def test_what_is_one(self, name: str) -> None:
        assert checked_channel(name) == name

    def test_no_channel_at_all(self) -> None:
        with pytest.raises(ConfigurationError, match="needs a channel"):
            router(("h", [], {}))

    @pytest.mark.parametrize(
        ("channels", "options"),
        [(["a"], {"requests": False}), (["a:*"], {}), (["a:*"], {"requests": False})],
    )
    def test_a_handler_that_would_never_be_called(self, channels: list[str], options: dict[str, Any]) -> None:
        made = Router()
        with pytest.raises(ConfigurationError, match="never be called"):
            made.add(named("h"), channels, app=None, wire=WIRE, events=False, **options)
        assert made.handlers == []

    def test_a_bad_signature_registers_nothing(self) -> None:
        made = Router()
        with pytest.raises(ConfigurationError):
            made.add(lambda *args: None, ["a"], app=None, wire=WIRE)
        assert made.handlers == []


class TestTheDecorator:
    def test_it_returns_the_function_unchanged(self) -> None:
        app = App("redis://localhost:1")

        def handler(data: Any) -> Any:
            return data

        assert app.on("a", "b:*")(handler) is handler
        assert handler(5) == 5

    def test_without_brackets_it_is_an_error_that_shows_how(self) -> None:
        with pytest.raises(ConfigurationError, match=r'@app\.on\("orders"\)'):
            App("redis://localhost:1").on(named("h"))

    @pytest.mark.parametrize("concurrency", [0, -1, 1.5, True, "2"])
    def test_concurrency_is_a_whole_number(self, concurrency: Any) -> None:
        with pytest.raises(ConfigurationError, match="concurrency"):
            App("redis://localhost:1").on("a", concurrency=concurrency)


class TestResponders:
    def test_exact_names_answer_and_globs_only_when_asked_to(self) -> None:
        made = router(
            ("exact", ["a"], {}),
            ("glob", ["b:*"], {}),
            ("asked", ["c:*", "c"], {"requests": True}),
            ("silent", ["d"], {"requests": False}),
        )
        assert answering(made) == {"a": "exact", "c": "asked", "c:*": "asked"}

    def test_the_first_registered_answers_and_the_others_are_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        made = router(("one", ["a"], {}), ("two", ["a", "b"], {}), ("three", ["a"], {"requests": False}))

        with caplog.at_level(logging.WARNING, "redis_toolkit"):
            found = made.responders()

        assert {name: handler.name for name, handler in found.items()} == {"a": "one", "b": "two"}
        [record] = caplog.records
        assert record.getMessage() == (
            "requests on 'a' are answered by one, registered first; two hears its live events only"
        )

    def test_quietly(self, caplog: pytest.LogCaptureFixture) -> None:
        router(("one", ["a"], {}), ("two", ["a"], {})).responders(quiet=True)
        assert caplog.records == []


def live_table(handlers: dict[str, list[str]]) -> LiveTable:
    table = LiveTable()
    made = router(*((name, channels, {}) for name, channels in handlers.items()))
    for handler in made.handlers:
        table.add(handler, handler.name)
    return table


def confirm(table: LiveTable, *names: str) -> None:
    for name in names:
        table.confirm(name.encode(), glob=is_glob(name))


class TestLiveTable:
    def test_the_exact_subscription_comes_first(self) -> None:
        table = live_table({"h": ["a", "*", "?"]})
        confirm(table, "*", "a", "?")

        assert table.exact[b"a"] == ["h"]
        assert table.of_glob(b"*", b"a") == []
        assert table.of_glob(b"?", b"a") == []

    def test_else_the_glob_that_was_confirmed_first(self) -> None:
        table = live_table({"h": ["*", "a*", "?"]})
        confirm(table, "a*", "*", "?")

        assert table.of_glob(b"a*", b"a") == ["h"]
        assert table.of_glob(b"*", b"a") == []
        assert table.of_glob(b"*", b"b") == ["h"]
        assert table.of_glob(b"?", b"b") == []

    def test_what_is_not_confirmed_has_no_claim(self) -> None:
        table = live_table({"h": ["a", "*"]})
        confirm(table, "*")

        assert table.of_glob(b"*", b"a") == ["h"]

        confirm(table, "a")
        assert table.of_glob(b"*", b"a") == []

    def test_one_handlers_exact_name_is_nothing_to_another(self) -> None:
        table = live_table({"exact": ["a"], "glob": ["*"], "both": ["a", "*"]})
        confirm(table, "a", "*")

        assert table.exact[b"a"] == ["exact", "both"]
        assert table.of_glob(b"*", b"a") == ["glob"]
        assert table.of_glob(b"*", b"b") == ["glob", "both"]

    def test_a_new_connection_starts_from_nothing(self) -> None:
        table = live_table({"h": ["*", "a*"]})
        confirm(table, "*", "a*")
        assert table.of_glob(b"a*", b"a") == []

        table.reset()
        assert not table.is_confirmed(b"*", glob=True)
        confirm(table, "a*", "*")
        assert table.of_glob(b"a*", b"a") == ["h"]
        assert table.of_glob(b"*", b"a") == []

    def test_names_and_globs_are_confirmed_apart(self) -> None:
        table = live_table({"h": [ExactChannel("a*"), "a*"]})
        table.confirm(b"a*", glob=True)

        assert table.is_confirmed(b"a*", glob=True)
        assert not table.is_confirmed(b"a*", glob=False)
        assert table.of_glob(b"a*", b"a*") == ["h"]

    def test_its_memory_is_bounded(self) -> None:
        table = live_table({"h": ["*"]})
        confirm(table, "*")
        for number in range(table.CACHED * 2 + 5):
            assert table.of_glob(b"*", b"%d" % number) == ["h"]
        assert len(table._choices) <= table.CACHED

    def test_what_nobody_asked_for(self) -> None:
        table = live_table({"h": ["a"]})
        assert b"b" not in table.exact
        assert table.of_glob(b"*", b"b") == []


NAMES = ["a", "b", "ab", "ba", "a*", "*", "?", "*b", "[ab]", "[^a]*", ExactChannel("a*"), ExactChannel("?")]
names = st.sampled_from(NAMES)
subscriptions = st.lists(names, min_size=1, max_size=5)


def deliveries(table: LiveTable, subscribed: list[str], channel: str) -> list[str]:
    """Send one message as a server does: once for its exact name and once for each glob that matches."""
    found: list[str] = []
    for name in subscribed:
        if not is_glob(name):
            found += table.exact.get(channel.encode(), []) if name == channel else []
        elif matches(name.encode(), channel.encode()):
            found += table.of_glob(name.encode(), channel.encode())
    return found


@given(
    handlers=st.dictionaries(st.sampled_from("hijk"), subscriptions, min_size=1),
    chance=st.randoms(use_true_random=False),
    channel=st.sampled_from(["a", "b", "ab", "ba", "a*", "?", "c", "bb"]),
    part=st.floats(0, 1),
)
def test_each_handler_hears_each_message_once_whatever_is_confirmed(
    handlers: dict[str, list[str]], chance: Any, channel: str, part: float
) -> None:
    table = live_table(handlers)
    every = [*dict.fromkeys((name, is_glob(name)) for channels in handlers.values() for name in channels)]
    chance.shuffle(every)
    confirmed = every[: round(len(every) * part)]
    subscribed = [name if glob else ExactChannel(name) for name, glob in confirmed]
    for name, glob in confirmed:
        table.confirm(name.encode(), glob=glob)

    def hears(channels: list[str]) -> bool:
        return any(
            (matches(name.encode(), channel.encode()) if is_glob(name) else name == channel)
            for name in channels
            if (name, is_glob(name)) in confirmed
        )

    expected = sorted(name for name, channels in handlers.items() if hears(channels))
    for _ in range(2):  # the second time from the cache
        assert sorted(deliveries(table, subscribed, channel)) == expected


def test_a_handler_says_what_it_answers() -> None:
    [handler] = router(("h", ["a", "b*"], {"requests": True})).handlers
    assert isinstance(handler, Handler)
    assert handler.answers == ("a", "b*")
