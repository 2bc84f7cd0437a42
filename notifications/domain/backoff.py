"""How long to wait: Retry-After, judged by the server's clock and not ours; jitter; a provider's rate limits."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

LONGEST = timedelta(days=1)
SECONDS = re.compile(r"[0-9]{1,30}(\.[0-9]{1,9})?", re.ASCII)
MAX_PAUSE = timedelta(seconds=30)  # after it a 429 tells more than an old announcement
MAX_RESERVE = 0.25  # of a rate limit: a small one would otherwise be kept and never used


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


def jittered(span: timedelta, low: float, high: float) -> timedelta:
    """The span times a random factor: whole zones fail in the same second and must not return in one."""
    return span * random.uniform(low, high)  # noqa: S311 - spreads load, keeps no secret


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One rate limit as a provider announced it: what remains of it, and when all of it is back."""

    limit: int
    remaining: int
    reset: timedelta

    def pause(self, reserve: float) -> timedelta:
        """How long to start nothing, so that `reserve` remains for the calls under way. It refills evenly."""
        kept = min(reserve, self.limit * MAX_RESERVE)
        used = self.limit - self.remaining
        if self.remaining >= kept or used <= 0:
            return timedelta(0)
        return min(MAX_PAUSE, self.reset * ((kept - self.remaining) / used))
