"""How fast providers may be asked: the LLM's announced budget, FCM's ramp, and a cohort spread over time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

RAMP = timedelta(seconds=60)  # FCM's guide for sending at scale: from nothing to the full rate in a minute at least
RAMP_STARTS_AT = 1 / 60  # of the full rate
MAX_PAUSE = timedelta(seconds=30)  # then a 429 would tell more than an old announcement
RESERVE_AT_MOST = 0.25  # of a limit: a small one is for using, not for keeping


@dataclass(frozen=True, slots=True)
class Budget:
    """What a provider said is left of one limit, and when all of it is back."""

    limit: int
    remaining: int
    reset: timedelta


def pause(budget: Budget, reserve: float) -> timedelta:
    """How long to start nothing, so that `reserve` is left for what may already be on its way.

    A budget refills evenly: of what is used, all comes back within `reset`.
    """
    kept = min(reserve, budget.limit * RESERVE_AT_MOST)
    used = budget.limit - budget.remaining
    if budget.remaining >= kept or used <= 0:
        return timedelta(0)
    return min(MAX_PAUSE, budget.reset * ((kept - budget.remaining) / used))


def longest_pause(budgets: Iterable[tuple[Budget, float]]) -> timedelta:
    """Of several limits the one that gives out first decides."""
    return max((pause(budget, reserve) for budget, reserve in budgets), default=timedelta(0))


def ramp_offset(count: int, rate: float) -> timedelta:
    """When message number `count` (from 0) may leave, after the first, on the way up to `rate` a second.

    The rate rises in a straight line over RAMP, then stays: the inverse of its area.
    """
    start, seconds = rate * RAMP_STARTS_AT, RAMP.total_seconds()
    slope = (rate - start) / seconds
    risen = start * seconds + slope * seconds**2 / 2
    if count >= risen:
        return RAMP + timedelta(seconds=(count - risen) / rate)
    return timedelta(seconds=(math.sqrt(start**2 + 2 * slope * count) - start) / slope)


def spread_offset(uid: str, over: timedelta) -> timedelta:
    """A user's own place in the first `over` after their slot: the same each day, even over all users."""
    place = int.from_bytes(hashlib.sha256(uid.encode()).digest()[:8], "big") / 2**64
    return over * place
