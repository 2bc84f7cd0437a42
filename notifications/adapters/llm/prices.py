"""The price of a model: from the settings, else from a list that comes with a library; None if unknown."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from decimal import Decimal

from notifications.domain.money import MICROS

DEFAULT_TIER, FLEX, PRIORITY = "default", "flex", "priority"
UPGRADABLE_TIERS, CHEAP_TIERS = ("auto", PRIORITY), {FLEX, "auto"}
SAMPLE = 1_000  # tokens of the call that is priced: short, as recaps are, for models that price long calls higher
MTOK = 1_000_000  # prices are per this many tokens
CACHE_WRITE_FACTOR = Decimal("1.25")  # price of an input token that is written to the cache
TIER_FACTORS = {FLEX: Decimal("0.5"), PRIORITY: Decimal("2.5")}  # the settings hold the price of the default tier


@dataclass(frozen=True, slots=True)
class Price:
    """USD for a million tokens. `cached`: input that was cached before; `kept`: input that is written to the cache."""

    tokens_in: Decimal
    tokens_out: Decimal
    cached: Decimal
    kept: Decimal

    def of(self, tokens_in: int, tokens_cached: int, tokens_out: int, tokens_kept: int = 0) -> int:
        """The cost of a call, in millionths of a USD, rounded up. Each token in has one of the three prices."""
        cached = min(tokens_cached, tokens_in)
        kept = min(tokens_kept, tokens_in - cached)
        read = (tokens_in - cached - kept) * self.tokens_in + cached * self.cached + kept * self.kept
        usd = read + tokens_out * self.tokens_out
        return math.ceil(usd * MICROS / MTOK)


def price_set(tokens_in: float | None, tokens_out: float | None, tier: str) -> Price | None:
    """The price in the settings (RECAP_PRICE_…), in USD for a million tokens; None if it is not set."""
    if tokens_in is None or tokens_out is None:
        return None
    factor = TIER_FACTORS.get(tier, Decimal(1))
    read, written = Decimal(str(tokens_in)) * factor, Decimal(str(tokens_out)) * factor
    return Price(read, written, read, read * CACHE_WRITE_FACTOR)


def price_listed(model: str, tier: str) -> Price | None:
    """The price of one of OpenAI's models, or None. The import takes some 0.2 s: call it in a thread."""
    from genai_prices import Usage, calc_price

    context = {"service_tier": tier}

    def price_of(**tokens: int) -> Decimal:
        cost = calc_price(Usage(**tokens), model_ref=model, provider_id="openai", price_context=context)
        return Decimal(cost.total_price) * MTOK / SAMPLE

    try:
        return Price(
            tokens_in=price_of(input_tokens=SAMPLE),
            tokens_out=price_of(output_tokens=SAMPLE),
            cached=price_of(input_tokens=SAMPLE, cache_read_tokens=SAMPLE),
            kept=price_of(input_tokens=SAMPLE, cache_write_tokens=SAMPLE),
        )
    except LookupError:
        return None


class Prices:
    """The prices of one model, each looked up once. `price_in`, `price_out`: the settings, USD per million tokens."""

    def __init__(self, model: str, price_in: float | None, price_out: float | None) -> None:
        self._model = model
        self._set = price_in, price_out
        self._by_tier: dict[str, Price | None] = {}

    async def at(self, tier: str) -> Price | None:
        """The price in that tier; None if it is not known."""
        if tier not in self._by_tier:
            set_price = price_set(*self._set, tier)
            self._by_tier[tier] = set_price or await asyncio.to_thread(price_listed, self._model, tier)
        return self._by_tier[tier]

    async def at_worst(self, tier: str | None) -> list[Price]:
        """The known prices at which a call for this tier may be billed, without the cheaper ones."""
        tiers = {DEFAULT_TIER, tier or DEFAULT_TIER, *((PRIORITY,) if tier in UPGRADABLE_TIERS else ())}
        return [price for name in sorted(tiers - CHEAP_TIERS) if (price := await self.at(name))]
