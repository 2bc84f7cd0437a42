"""The budget's pause, as properties."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from notifications.domain.pace import MAX_PAUSE, Budget, longest_pause, pause

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
