"""The budget's pause, the ramp and the spread, as properties."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from notifications.domain.pace import MAX_PAUSE, RAMP, Budget, longest_pause, pause, ramp_offset, spread_offset

limits = st.integers(1, 10_000_000)
shares = st.floats(0, 1)
resets = st.timedeltas(timedelta(0), timedelta(minutes=10))
SECOND = timedelta(seconds=1)


@given(limits, shares, resets, st.floats(0, 1e6))
def test_a_pause_ends_when_the_reserve_is_back(limit: int, share: float, reset: timedelta, reserve: float) -> None:
    budget = Budget(limit, int(limit * share), reset)
    rest = pause(budget, reserve)
    assert timedelta(0) <= rest <= min(MAX_PAUSE, reset)
    kept = min(reserve, limit / 4)
    if budget.remaining >= kept:
        assert rest == timedelta(0)
    elif rest < MAX_PAUSE:
        back = (limit - budget.remaining) * (rest / reset if reset else 1)
        assert abs(budget.remaining + back - kept) <= 1 + limit * 1e-6 or rest < timedelta(milliseconds=1)


def test_the_limit_that_gives_out_first_decides() -> None:
    requests = Budget(1000, 0, timedelta(minutes=1))
    tokens = Budget(100_000, 99_000, timedelta(minutes=1))
    assert pause(requests, 50) == timedelta(seconds=3)
    assert longest_pause([(tokens, 20_000.0), (requests, 50.0)]) == timedelta(seconds=3)
    assert longest_pause([]) == timedelta(0)


@given(st.integers(1, 100_000), st.integers(0, 2_000_000))
def test_the_ramp_never_runs_backwards_and_ends_at_the_full_rate(rate: int, count: int) -> None:
    assert ramp_offset(0, rate) == timedelta(0)
    here, following = ramp_offset(count, rate), ramp_offset(count + 1, rate)
    assert here <= following
    if here >= RAMP:
        assert abs((following - here).total_seconds() - 1 / rate) < 2e-6


def test_the_ramp_of_fcms_quota() -> None:
    """10,000 a second: 305,000 in the first minute, a sixtieth of the rate at its start."""
    sent = next(n for n in range(0, 1_000_000, 1000) if ramp_offset(n, 10_000) >= RAMP)
    assert sent == 305_000
    assert ramp_offset(10, 10_000) < timedelta(milliseconds=61)


@given(st.text(min_size=1), st.integers(1, 3600))
def test_a_users_place_is_their_own_each_day(uid: str, seconds: int) -> None:
    over = timedelta(seconds=seconds)
    assert timedelta(0) <= spread_offset(uid, over) <= over
    assert spread_offset(uid, over) == spread_offset(uid, over)


def test_places_are_even() -> None:
    """10,000 users over an hour: each minute has its sixtieth, within five standard deviations."""
    minutes = [spread_offset(f"user-{n}", timedelta(hours=1)) // timedelta(minutes=1) for n in range(10_000)]
    assert all(abs(minutes.count(minute) - 10_000 / 60) < 5 * (10_000 / 60) ** 0.5 for minute in range(60))
