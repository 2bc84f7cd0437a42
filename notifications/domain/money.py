"""What calls to an LLM cost, in tokens and money. An unknown price is None, never zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

COST_KEY = "cost"  # of the kept document that holds what failed tries have cost
SPEND_PREFIX = "daily_summary:spend:"
SPEND_KEPT_SECONDS = 3 * 86_400
MICROS = 1_000_000  # sums are counted in millionths of a USD
TOKENS = ("tokens_in", "tokens_cached", "tokens_out", "tokens_reasoning")


@dataclass(frozen=True, slots=True)
class Spent:
    """The cost of one call or of several. `micro_usd`: None if a price is unknown."""

    calls: int = 0
    tokens_in: int = 0
    tokens_cached: int = 0  # part of tokens_in
    tokens_out: int = 0
    tokens_reasoning: int = 0  # part of tokens_out
    micro_usd: int | None = 0
    seconds: float = 0.0  # sum of the calls' durations

    def __add__(self, other: Spent) -> Spent:
        """The sum; its price is unknown if one of the two is."""
        known = self.micro_usd is not None and other.micro_usd is not None
        return Spent(
            calls=self.calls + other.calls,
            micro_usd=(self.micro_usd or 0) + (other.micro_usd or 0) if known else None,
            seconds=self.seconds + other.seconds,
            **{name: getattr(self, name) + getattr(other, name) for name in TOKENS},
        )

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str | int | float]) -> Spent:
        """The cost in a draft's metadata; zero if it has none."""
        if not metadata.get("calls"):
            return cls()
        usd = metadata.get("usd")
        return cls(
            calls=int(metadata["calls"]),
            micro_usd=None if usd is None else round(float(usd) * MICROS),
            seconds=float(metadata.get("llm_seconds", 0)),
            **{name: int(metadata.get(name, 0)) for name in TOKENS},
        )

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out

    @property
    def usd(self) -> float | None:
        return None if self.micro_usd is None else self.micro_usd / MICROS

    def as_metadata(self) -> dict[str, int | float]:
        """The cost as a draft's metadata stores it."""
        metadata: dict[str, int | float] = {"calls": self.calls, **{name: getattr(self, name) for name in TOKENS}}
        if self.seconds:
            metadata["llm_seconds"] = round(self.seconds, 3)
        return metadata if self.usd is None else {**metadata, "usd": self.usd}


NOTHING = Spent()


def spend_key(environment: str, day: date) -> str:
    """The key under which all processes of an environment count a UTC day's money."""
    return f"{SPEND_PREFIX}{environment}:{day.isoformat()}"
