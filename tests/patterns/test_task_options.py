from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from redis_toolkit import ConfigurationError
from redis_toolkit.patterns.task_options import NO_OPTIONS, OPTIONS, TaskOptionFields, TaskOptions

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOON_MS = 1_767_268_800_000


def test_durations_are_seconds_or_timedeltas() -> None:
    assert TaskOptions(delay=1.5).delay_ms == 1500
    assert TaskOptions(delay=timedelta(minutes=1)).delay_ms == 60_000
    assert TaskOptions(delay=0).delay_ms is None
    assert TaskOptions(expires=5).expires_ms(NOON_MS) == NOON_MS + 5000
    assert TaskOptions(expires=timedelta(0)).expires_ms(NOON_MS) == NOON_MS


def test_moments_have_a_time_zone() -> None:
    assert TaskOptions(eta=NOON).due_ms == NOON_MS
    assert TaskOptions(eta=NOON.astimezone(timezone(timedelta(hours=5)))).due_ms == NOON_MS
    assert TaskOptions(expires=NOON).expires_ms(0) == NOON_MS
    for name in ("eta", "expires"):
        with pytest.raises(ConfigurationError, match=rf"{name}=.* has no time zone.*astimezone"):
            TaskOptions.of({name: NOON.replace(tzinfo=None)})


def test_none_of_them_is_plain() -> None:
    assert NO_OPTIONS.plain
    assert TaskOptions(priority="high", headers={"a": "b"}).plain
    for more in ({"delay": 0}, {"eta": NOON}, {"expires": 1}, {"unique_key": "u"}, {"id": "7"}):
        assert not TaskOptions(**more).plain
    assert (NO_OPTIONS.delay_ms, NO_OPTIONS.due_ms, NO_OPTIONS.expires_ms(1)) == (None, None, None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"delay": -1}, "delay=-1"),
        ({"delay": True}, "delay=True"),
        ({"delay": "5"}, "delay='5'"),
        ({"delay": float("nan")}, "delay=nan"),
        ({"delay": NOON}, "delay="),
        ({"delay": 1, "eta": NOON}, "delay= or eta="),
        ({"eta": 5}, "eta=5 must be a datetime"),
        ({"expires": -1}, "expires=-1"),
        ({"unique_key": ""}, "unique_key="),
        ({"unique_key": 5}, "unique_key=5"),
        ({"unique_key": "\ud800"}, "unique_key="),
        ({"id": ""}, "id="),
        ({"id": 'a"b'}, "id="),
        ({"id": "a\\b"}, "id="),
        ({"id": "a\nb"}, "id="),
        ({"id": "ä"}, "id="),
        ({"id": "x" * 201}, "id="),
        ({"id": 7}, "id=7"),
    ],
)
def test_what_cannot_be_is_refused(options: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        TaskOptions(**options)


def test_options_by_name() -> None:
    assert TaskOptions.of({}) is NO_OPTIONS
    assert TaskOptions.of({"priority": "low"}) == TaskOptions(priority="low")
    with pytest.raises(
        ConfigurationError, match=r"no option xyz=: it has delay, eta, expires, headers, id, "
    ):
        TaskOptions.of({"xyz": "low"})
    with pytest.raises(ConfigurationError, match=r"no option prioriy=: did you mean priority=\?"):
        TaskOptions.of({"prioriy": "low"})
    assert set(TaskOptionFields.__annotations__) == OPTIONS == {
        name for name in TaskOptions.__dataclass_fields__ if name not in ("plain", "bare")
    }  # fmt: skip
