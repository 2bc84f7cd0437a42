"""How fast the LLM's provider may be asked: what it announced of its own limits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

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
