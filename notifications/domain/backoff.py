"""How long to wait: jitter, and a provider's rate limits."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta

MAX_PAUSE = timedelta(seconds=30)  # after it a 429 tells more than an old announcement
MAX_RESERVE = 0.25  # of a rate limit: a small one would otherwise be kept and never used


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
