"""How long to wait: what a server asks for, judged by its clock and not ours, and jitter."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
    return next((headers[one] for one in (name.lower(), name) if one in headers), "").strip()


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)  # without a zone it is in UTC, whatever this machine's is (RFC 9110)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def jittered(span: timedelta, low: float, high: float) -> timedelta:
    """The span times a random factor: whole zones fail in the same second and must not return in one."""
    return span * random.uniform(low, high)  # noqa: S311 - spreads load, keeps no secret


MAX_PAUSE = timedelta(seconds=30)  # then a 429 would tell more than an old announcement
RESERVE_AT_MOST = 0.25  # of a limit: a small one is for using, not for keeping


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What a provider said is left of one limit, and when all of it is back."""

    limit: int
    remaining: int
    reset: timedelta


def pause(budget: RateLimit, reserve: float) -> timedelta:
    """How long to start nothing, so that `reserve` is left for what is on its way: a budget refills evenly."""
    kept = min(reserve, budget.limit * RESERVE_AT_MOST)
    used = budget.limit - budget.remaining
    if budget.remaining >= kept or used <= 0:
        return timedelta(0)
    return min(MAX_PAUSE, budget.reset * ((kept - budget.remaining) / used))


def longest_pause(rate_limits: Iterable[tuple[RateLimit, float]]) -> timedelta:
    """Of several limits the one that gives out first decides."""
    return max((pause(budget, reserve) for budget, reserve in rate_limits), default=timedelta(0))
