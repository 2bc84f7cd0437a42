"""Waits: a server's Retry-After, jitter, and the pause of a rate limit."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.adapters.retry_after import MAX_RETRY_AFTER, retry_after
from notifications.domain.backoff import MAX_PAUSE, RateLimit, jittered
from tests.support.rows import rows

NOW = {"Date": "Fri, 01 May 2026 09:00:00 GMT"}


@pytest.mark.parametrize(("text", "seconds"), rows("texts", "retry_after"))
def test_what_a_server_asks_for(text: str, seconds: float | None) -> None:
    wait = None if seconds is None else timedelta(seconds=seconds)
    assert retry_after({"Retry-After": text, **NOW}) == wait


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_header_is_an_error(text: str, date: str) -> None:
    found = retry_after({"retry-after": text, "date": date})
    assert found is None or timedelta(0) <= found <= MAX_RETRY_AFTER


@pytest.mark.parametrize("headers", [{}, NOW, {"date": NOW["Date"]}])
def test_who_asks_for_nothing_is_not_waited_for(headers: dict[str, str]) -> None:
    assert retry_after(headers) is None


@pytest.mark.parametrize("headers", [{}, {"Date": ""}, {"Date": "yesterday"}])
def test_a_date_means_nothing_without_the_servers_own(headers: dict[str, str]) -> None:
    assert retry_after({"Retry-After": "Fri, 01 May 2026 09:01:00 GMT", **headers}) is None


@pytest.mark.parametrize(("asks", "tells"), [("retry-after", "date"), ("Retry-After", "Date"), ("Retry-After", "date")])
def test_headers_count_in_small_and_in_capital_letters(asks: str, tells: str) -> None:
    assert retry_after({asks: "7"}) == timedelta(seconds=7)
    assert retry_after({asks: "Fri, 01 May 2026 09:01:00 GMT", tells: NOW["Date"]}) == timedelta(minutes=1)


@given(st.timedeltas(timedelta(0), MAX_RETRY_AFTER), st.floats(0, 2), st.floats(0, 2))
def test_jitter_stays_between_its_factors(span: timedelta, one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    assert span * low <= jittered(span, low, high) <= span * high


def test_jitter_of_no_width_is_the_span_times_its_factor() -> None:
    assert jittered(timedelta(minutes=1), 1.5, 1.5) == timedelta(seconds=90)


def test_jitter_sets_those_apart_who_failed_together() -> None:
    assert len({jittered(timedelta(minutes=1), 1.0, 2.0) for _ in range(10)}) > 1


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo", "UTC"])
def test_a_date_without_a_zone_is_in_utc_whatever_the_machines_zone_is(
    monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for asked in ("Fri May  1 09:01:00 2026", "Fri, 01 May 2026 09:01:00 -0000"):
            assert retry_after({"Retry-After": asked, **NOW}) == timedelta(minutes=1)
    finally:
        monkeypatch.undo()
        time.tzset()


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
