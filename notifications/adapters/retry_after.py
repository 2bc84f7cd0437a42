"""The `Retry-After` of an HTTP answer, measured by the server's clock and not by ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER = timedelta(days=1)
SECONDS = re.compile(r"[0-9]{1,30}(\.[0-9]{1,9})?", re.ASCII)


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Read `Retry-After` (RFC 9110): seconds, or a date against the answer's `Date`; at most MAX_RETRY_AFTER."""
    text = _header(headers, "Retry-After")
    if SECONDS.fullmatch(text):
        return timedelta(seconds=min(float(text), MAX_RETRY_AFTER.total_seconds()))
    then, now = _date(text), _date(_header(headers, "Date"))
    return min(MAX_RETRY_AFTER, max(timedelta(0), then - now)) if then and now else None


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((headers[key] for key in (name.lower(), name) if key in headers), "").strip()


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)  # without a zone it is UTC, whatever this machine's zone is (RFC 9110)
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None
