"""The `Retry-After` of an HTTP answer, judged by the server's clock and not by ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

LONGEST = timedelta(days=1)
SECONDS = re.compile(r"[0-9]{1,30}(\.[0-9]{1,9})?", re.ASCII)


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """`Retry-After` in seconds, or as a date against the answer's `Date` (RFC 9110), at most LONGEST; else None."""
    text = _header(headers, "Retry-After")
    if SECONDS.fullmatch(text):
        return timedelta(seconds=min(float(text), LONGEST.total_seconds()))
    then, now = _date(text), _date(_header(headers, "Date"))
    return min(LONGEST, max(timedelta(0), then - now)) if then and now else None


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((headers[key] for key in (name.lower(), name) if key in headers), "").strip()


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)  # without a zone it is UTC, whatever this machine's zone is (RFC 9110)
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None
