"""Retry-After: in seconds or as a date, clamped, and never an error."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.domain.waits import LONGEST, retry_after

NOW = {"Date": "Fri, 01 May 2026 09:00:00 GMT"}


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("7", timedelta(seconds=7)),
        ("0.5", timedelta(seconds=0.5)),
        ("Fri, 01 May 2026 09:01:00 GMT", timedelta(minutes=1)),
        ("Fri, 01 May 2026 08:00:00 GMT", timedelta(0)),
        ("1790000000000", LONGEST),
        ("9" * 30, LONGEST),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST),
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
    assert found is None or timedelta(0) <= found <= LONGEST
