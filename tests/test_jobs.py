"""The options of durable work: which are taken, what they mean, what is said of those that cannot work."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redis_toolkit import Backoff, ConfigurationError, Retry
from redis_toolkit.jobs import RESULT_TTL, Policy, policy_of, seconds_of

NONE = Backoff(first=1, factor=2, cap=600, jitter=0)


class TestBackoff:
    def test_each_wait_is_twice_as_long_up_to_the_cap(self) -> None:
        waits = [NONE.delay(attempt) for attempt in (1, 2, 3, 10, 11, 1000, 10**9)]
        assert waits == [1, 2, 4, 512, 600, 600, 600]

    def test_another_factor(self) -> None:
        assert [Backoff(first=5, factor=1, jitter=0).delay(attempt) for attempt in (1, 2, 9)] == [5, 5, 5]

    @given(st.integers(1, 200), st.floats(0, 1), st.floats(0, 1))
    def test_the_jitter_takes_away_a_part(self, attempt: int, jitter: float, chance: float) -> None:
        whole = NONE.delay(attempt)
        wait = Backoff(first=1, factor=2, cap=600, jitter=jitter).delay(attempt, lambda: chance)
        assert whole * (1 - jitter) - 1e-9 <= wait <= whole

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"first": -1}, r"Backoff\(first=\)-1 must be seconds from 0"),
            ({"first": math.nan}, "first"),
            ({"first": "1"}, "first"),
            ({"factor": 0.5}, "factor"),
            ({"factor": True}, "factor"),
            ({"cap": math.inf}, "cap"),
            ({"jitter": 2}, "jitter"),
        ],
    )
    def test_what_cannot_work(self, options: dict[str, Any], said: str) -> None:
        with pytest.raises(ConfigurationError, match=said):
            Backoff(**options)


class TestPolicies:
    def test_nothing_given(self) -> None:
        assert policy_of() == Policy(0, {}, Backoff(), {}, None, RESULT_TTL)

    def test_numbers(self) -> None:
        policy = policy_of(retries=3, backoff=2, timeout=30, result_ttl=0)
        assert policy == Policy(3, {}, Backoff(first=2), {}, 30.0, 0.0)

    def test_timedeltas(self) -> None:
        minute = timedelta(minutes=1)
        policy = policy_of(backoff=minute, timeout=minute, result_ttl=timedelta(days=1))
        assert policy == Policy(0, {}, Backoff(first=60), {}, 60.0, 86400.0)

    def test_a_long_first_wait_lifts_the_cap(self) -> None:
        assert policy_of(backoff=1000).backoff == Backoff(first=1000, cap=1000)

    def test_a_backoff(self) -> None:
        assert policy_of(backoff=NONE).backoff is NONE

    def test_by_class(self) -> None:
        policy = policy_of(
            retries={ConnectionError: 10, Retry: 100, Exception: 2},
            backoff={ConnectionError: 5, OSError: NONE, Exception: timedelta(seconds=3)},
        )
        assert policy.retries == 2
        assert policy.retries_for == {ConnectionError: 10, Retry: 100}
        assert policy.backoff == Backoff(first=3)
        assert policy.backoff_for == {ConnectionError: Backoff(first=5), OSError: NONE}

    def test_without_a_number_for_all_others_those_are_not_retried(self) -> None:
        policy = policy_of(retries={ConnectionError: 10}, backoff={ConnectionError: 5})
        assert (policy.retries, policy.backoff) == (0, Backoff())

    def test_the_given_maps_are_not_kept(self) -> None:
        retries: dict[type[BaseException], int] = {ConnectionError: 10}
        policy = policy_of(retries=retries)
        retries[ConnectionError] = 20
        assert policy.retries_for == {ConnectionError: 10}

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"retries": -1}, r"retries=-1 must be a whole number.*retries={ConnectionError: 10"),
            ({"retries": 1.5}, "retries=1.5"),
            ({"retries": True}, "retries=True"),
            ({"retries": None}, "retries=None"),
            ({"retries": "x" * 1000}, r"retries='x{50,60}\.\.\. must"),
            ({"retries": {ConnectionError: -1}}, "retries=-1"),
            ({"retries": {"ConnectionError": 1}}, "retries= is given for classes of exceptions"),
            ({"retries": {int: 1}}, "classes of exceptions, such as ConnectionError, not for <class 'int'>"),
            ({"backoff": -1}, "backoff=-1 must be seconds, or a timedelta, from 0"),
            ({"backoff": "1"}, r"backoff='1' must be seconds, a timedelta, a Backoff\("),
            ({"backoff": True}, "backoff=True"),
            ({"backoff": {ConnectionError: "1"}}, "backoff='1'"),
            ({"backoff": {ConnectionError(): 1}}, "backoff= is given for classes"),
            ({"timeout": 0}, "timeout=0 must be seconds, or a timedelta, from 0.001"),
            ({"timeout": timedelta(0)}, r"timeout=datetime\.timedelta\(0\) must"),
            ({"timeout": math.inf}, "timeout=inf"),
            ({"timeout": math.nan}, "timeout=nan"),
            ({"timeout": "30"}, "timeout='30'"),
            ({"result_ttl": -1}, "result_ttl=-1 must be seconds, or a timedelta, from 0 to 10,000,000"),
            ({"result_ttl": None}, "result_ttl=None"),
        ],
    )
    def test_what_cannot_work_is_named_with_the_way_out(self, options: dict[str, Any], said: str) -> None:
        with pytest.raises(ConfigurationError, match=said):
            policy_of(**options)


def test_seconds_are_checked_by_name() -> None:
    assert seconds_of("delay", 2, least=0) == 2.0
    assert seconds_of("delay", timedelta(milliseconds=5)) == 0.005
    with pytest.raises(ConfigurationError, match="delay=-2 "):
        seconds_of("delay", -2)


@pytest.mark.parametrize("delay", [-1, math.nan, math.inf, "1", True, timedelta(seconds=-1)])
def test_a_retry_after_no_duration_is_refused(delay: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Retry\(delay="):
        Retry(delay)


def test_a_retry_says_when() -> None:
    assert (Retry().delay, str(Retry())) == (None, "again")
    assert (Retry(30).delay, str(Retry(30))) == (30, "again in 30 s")
    assert Retry(delay=timedelta(minutes=1)).delay == 60
