from __future__ import annotations

import pytest

from redis_toolkit._core.recovery import sort
from redis_toolkit._core.server import _without_password

SECRETS = [
    "secret",
    "se@cret",
    "se:cret",
    "se/cret",
    "se?cret",
    "se#cret",
    "se?x=cret",
    "s@e/c?r@et",
    "12?34cret",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("start", ["redis://user:", "redis://:", "redis://us@er:", "unix://user:"])
@pytest.mark.parametrize("end", ["host:6379/0", "host", "host/0?client_name=a@b", "/path/to/socket?db=1"])
def test_no_message_shows_a_password_however_it_is_written(start: str, secret: str, end: str) -> None:
    shown = _without_password(f"{start}{secret}@{end}")
    for part in (secret, "cret", "se@", "se?", "se/", "r@et"):
        assert part not in shown, shown
    assert shown.startswith(start.partition("//")[0])


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@host:1/0", "redis://user:***@host:1/0"),
        ("redis://user:secret@host:1/0?client_name=a@b", "redis://user:***@host:1/0?client_name=***"),
        ("redis://host:6379/0?client_name=a@b&db=1", "redis://host:6379/0?client_name=***&db=1"),
        ("redis://host?password=a@b&db=1", "redis://host?password=***&db=1"),
        ("rediss://host?ssl_password=secret", "rediss://host?ssl_password=***"),
        ("redis://host:6379/0?client_name=a", "redis://host:6379/0?client_name=a"),
        ("unix:///path?db=1", "unix:///path?db=1"),
        ("redis://host:6379/0", "redis://host:6379/0"),
    ],
)
def test_what_is_no_password_stays_readable(url: str, shown: str) -> None:
    assert _without_password(url) == shown


def test_a_reason_without_a_text_is_given_one() -> None:
    for error, reason in (
        (TimeoutError(), "it took too long"),
        (ConnectionResetError(), "ConnectionResetError"),
    ):
        assert f"cannot reach it: {reason}. " in str(sort(error, sent=False, where="it"))
        assert f"({reason})" in str(sort(error, sent=True, where="it"))
