"""What calls to an LLM cost: tokens and money. An unknown price is no figure, and never zero."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

SPEND_PREFIX = "daily_summary:spend:"
SPEND_KEPT_SECONDS = 3 * 86_400
MICROS = 1_000_000  # of a USD: what money is counted in
TOKENS = ("tokens_in", "tokens_cached", "tokens_out", "tokens_reasoning")
MTOK = 1_000_000  # prices are told for so many tokens


@dataclass(frozen=True, slots=True)
class Spent:
    """Of one call, or of several. `micro_usd`: None where the price is not known."""

    calls: int = 0
    tokens_in: int = 0
    tokens_cached: int = 0  # of those in
    tokens_out: int = 0
    tokens_reasoning: int = 0  # of those out
    micro_usd: int | None = 0
    seconds: float = 0.0  # until the answers were there

    def __add__(self, other: Spent) -> Spent:
        """Both together; of a sum of which one price is not known there is none."""
        known = self.micro_usd is not None and other.micro_usd is not None
        return Spent(
            self.calls + other.calls,
            self.tokens_in + other.tokens_in,
            self.tokens_cached + other.tokens_cached,
            self.tokens_out + other.tokens_out,
            self.tokens_reasoning + other.tokens_reasoning,
            (self.micro_usd or 0) + (other.micro_usd or 0) if known else None,
            self.seconds + other.seconds,
        )

    @classmethod
    def from_metadata(cls, told: Mapping[str, str | int | float]) -> Spent:
        """What stands on a recap, as it was spent; nothing where nothing stands."""
        if not told.get("calls"):
            return cls()
        usd = told.get("usd")
        return cls(
            calls=int(told["calls"]),
            micro_usd=None if usd is None else round(float(usd) * MICROS),
            seconds=float(told.get("llm_seconds", 0)),
            **{name: int(told.get(name, 0)) for name in TOKENS},
        )

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out

    @property
    def usd(self) -> float | None:
        return None if self.micro_usd is None else self.micro_usd / MICROS

    def as_metadata(self) -> dict[str, int | float]:
        """As it stands on a recap."""
        told: dict[str, int | float] = {"calls": self.calls, **{name: getattr(self, name) for name in TOKENS}}
        if self.seconds:
            told["llm_seconds"] = round(self.seconds, 3)
        return told if self.usd is None else {**told, "usd": self.usd}


NOTHING = Spent()


@dataclass(frozen=True, slots=True)
class Price:
    """USD for a million tokens. Of those in, `cached` had been read before, and `kept` are kept for a later call."""

    tokens_in: Decimal
    tokens_out: Decimal
    cached: Decimal
    kept: Decimal

    def of(self, tokens_in: int, tokens_cached: int, tokens_out: int, tokens_kept: int = 0) -> int:
        """What a call costs, in millionths of a USD, rounded up. Each token in has one of the three prices."""
        cached = min(tokens_cached, tokens_in)
        kept = min(tokens_kept, tokens_in - cached)
        read = (tokens_in - cached - kept) * self.tokens_in + cached * self.cached + kept * self.kept
        usd = read + tokens_out * self.tokens_out
        return math.ceil(usd * MICROS / MTOK)


def spend_key(environment: str, day: date) -> str:
    """Where a UTC day's money is counted, over all processes of an environment."""
    return f"{SPEND_PREFIX}{environment}:{day.isoformat()}"
