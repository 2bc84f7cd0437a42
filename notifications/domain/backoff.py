"""How long to wait: jitter, and a provider's rate limits."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta

MAX_PAUSE = timedelta(seconds=30)  # an older announcement says less than the next 429
MAX_RESERVE = 0.25  # share of a rate limit; else all of a small one would be reserved and never used


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
        reserved = min(reserve, self.limit * MAX_RESERVE)
        used = self.limit - self.remaining
        if self.remaining >= reserved or used <= 0:
            return timedelta(0)
        return min(MAX_PAUSE, self.reset * ((reserved - self.remaining) / used))
