"""Retry-After: in seconds or as a date, clamped, and never an error."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.adapters.retry_after import MAX_RETRY_AFTER, retry_after
from notifications.domain.backoff import jittered

NOW = {"Date": "Fri, 01 May 2026 09:00:00 GMT"}


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("7", timedelta(seconds=7)),
        ("0.5", timedelta(seconds=0.5)),
        ("Fri, 01 May 2026 09:01:00 GMT", timedelta(minutes=1)),
        ("Fri, 01 May 2026 08:00:00 GMT", timedelta(0)),
        ("1790000000000", MAX_RETRY_AFTER),
        ("86399", timedelta(seconds=86399)),
        ("86400", timedelta(days=1)),
        ("86400.5", MAX_RETRY_AFTER),
        ("0", timedelta(0)),
        ("  7 ", timedelta(seconds=7)),
        ("0.123456789", timedelta(seconds=0.123456789)),
        ("0.1234567890", None),
        ("7.", None),
        (".5", None),
        ("Fri, 01 May 2026 09:00:00 GMT", timedelta(0)),
        ("Fri, 01 May 2026 11:00:01 +0200", timedelta(seconds=1)),
        ("Sat, 02 May 2026 08:59:59 GMT", MAX_RETRY_AFTER - timedelta(seconds=1)),
        ("Sat, 02 May 2026 09:00:01 GMT", MAX_RETRY_AFTER),
        ("9" * 30, MAX_RETRY_AFTER),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER),
        ("-5", None),
        ("1e300", None),
        ("inf", None),
        ("٣", None),
        ("soon", None),
        ("", None),
    ],
)
def test_what_a_server_asks_for(text: str, wait: timedelta | None) -> None:
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
