"""A rate limit's pause, as properties and at its boundaries."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.domain.backoff import MAX_PAUSE, RateLimit

limits = st.integers(1, 10_000_000)
shares = st.floats(0, 1)
resets = st.timedeltas(timedelta(0), timedelta(minutes=10))
SECOND = timedelta(seconds=1)


@given(limits, shares, resets, st.floats(0, 1e6))
def test_a_pause_ends_when_the_reserve_is_back(limit: int, share: float, reset: timedelta, reserve: float) -> None:
    limited = RateLimit(limit, int(limit * share), reset)
    rest = limited.pause(reserve)
    assert timedelta(0) <= rest <= min(MAX_PAUSE, reset)
    kept = min(reserve, limit / 4)
    if limited.remaining >= kept:
        assert rest == timedelta(0)
    elif rest < MAX_PAUSE:
        back = (limit - limited.remaining) * (rest / reset if reset else 1)
        assert abs(limited.remaining + back - kept) <= 1 + limit * 1e-6 or rest < timedelta(milliseconds=1)


def test_each_limit_has_a_pause_of_its_own() -> None:
    requests = RateLimit(1000, 0, timedelta(minutes=1))
    tokens = RateLimit(100_000, 99_000, timedelta(minutes=1))
    assert requests.pause(50) == timedelta(seconds=3)
    assert tokens.pause(20_000.0) == timedelta(0)


MINUTE = 60 * SECOND


@pytest.mark.parametrize(
    ("limit", "remaining", "reset", "reserve", "rest"),
    [
        (100, 20, MINUTE, 20, 0 * SECOND),  # the reserve is left, to the last
        (100, 19, MINUTE, 20, MINUTE / 81),
        (100, 25, MINUTE, 50, 0 * SECOND),  # a quarter of the limit is the most that is kept
        (100, 24, MINUTE, 50, MINUTE / 76),
        (100, 0, MINUTE, 10, 6 * SECOND),
        (1, 0, MINUTE, 0.5, 15 * SECOND),
        (100, 0, 2 * MINUTE, 25, MAX_PAUSE),
        (100, 0, 2 * MINUTE, 24, 28.8 * SECOND),
        (100, 0, 10 * MINUTE, 25, MAX_PAUSE),
        (100, 0, MINUTE, 0, 0 * SECOND),  # nothing is on its way
        (100, 0, 0 * SECOND, 25, 0 * SECOND),
    ],
)
def test_a_pause_lasts_until_the_reserve_is_back(
    limit: int, remaining: int, reset: timedelta, reserve: float, rest: timedelta
) -> None:
    assert abs(RateLimit(limit, remaining, reset).pause(reserve) - rest) <= timedelta(microseconds=1)


@pytest.mark.parametrize("remaining", [-50, -51, -100])
def test_a_limit_that_announces_nonsense_pauses_nothing(remaining: int) -> None:
    """More left than there is, of a limit below nothing: of what is not used, nothing comes back."""
    assert RateLimit(-100, remaining, MINUTE).pause(20) == 0 * SECOND


def test_nothing_pauses_for_longer_than_half_a_minute() -> None:
    assert MAX_PAUSE == 30 * SECOND
