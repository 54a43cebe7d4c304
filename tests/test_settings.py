from __future__ import annotations

import dataclasses
import inspect
from typing import Any, get_type_hints

import pytest

from redis_toolkit import App
from redis_toolkit.errors import ConfigurationError
from redis_toolkit.settings import LOCAL_URL, Options, Settings, default_url


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "redis://localhost:6379/0"),
        ({"REDIS_URL": "redis://b"}, "redis://b"),
        ({"REDIS_TOOLKIT_URL": "redis://a", "REDIS_URL": "redis://b"}, "redis://a"),
        ({"REDIS_TOOLKIT_URL": "", "REDIS_URL": "redis://b"}, "redis://b"),
        ({"REDIS_TOOLKIT_URL": "", "REDIS_URL": ""}, LOCAL_URL),
    ],
)
def test_the_url_of_an_app_that_names_none(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_url(environment) == expected

    for name in ("REDIS_TOOLKIT_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert default_url() == expected
    assert App().url == expected


def test_the_documented_defaults() -> None:
    assert dataclasses.asdict(Settings()) == {
        "connect_timeout": 5.0,
        "command_timeout": 5.0,
        "reconnect_cap": 5.0,
        "ping_interval": 4.0,
        "block": 2.0,
        "lease": 10.0,
        "grace": 10.0,
        "concurrency": 8,
        "coroutines": 100,
        "max_payload": 1024 * 1024,
        "lane_messages": 524_288,
        "lane_bytes": 128 * 1024 * 1024,
        "send_tracebacks": False,
    }


def test_options_are_the_fields_of_the_settings() -> None:
    assert get_type_hints(Options) == get_type_hints(Settings)


def test_each_field_is_described() -> None:
    described = inspect.getdoc(Settings) or ""
    for field in dataclasses.fields(Settings):
        assert f"{field.name}: " in described


@pytest.mark.parametrize("value", [0, -1, -0.5, None, "5", True, float("nan")])
@pytest.mark.parametrize(
    "name", [field.name for field in dataclasses.fields(Settings) if field.name != "send_tracebacks"]
)
def test_a_number_is_greater_than_0(name: str, value: Any) -> None:
    options: Any = {name: value}
    with pytest.raises(ConfigurationError, match=f"{name}=.* must be a (number|whole number)"):
        Settings(**options)
    with pytest.raises(ConfigurationError, match=f"{name}=.* must be a (number|whole number)"):
        App("redis://localhost:1", **options)


def test_an_app_takes_them_as_keywords() -> None:
    app = App("redis://localhost:1", lease=1, send_tracebacks=True)
    assert (app.settings.lease, app.settings.send_tracebacks) == (1, True)


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(ConfigurationError, match="leese"):
        App("redis://localhost:1", leese=1)  # type: ignore[call-arg]


def test_they_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().lease = 5  # type: ignore[misc]
