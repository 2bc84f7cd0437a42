"""What a model costs: as it is set, else from a kept list that needs no network; None where neither knows."""

from __future__ import annotations

from decimal import Decimal

from notifications.domain.spending import MTOK, Price

FLEX, PRIORITY = "flex", "priority"
SAMPLE = 1_000  # tokens that are priced: a recap's call is in the bracket of short ones
KEPT = Decimal("1.25")  # of a token in, what one costs that is kept for a later call
SHARES = {FLEX: Decimal("0.5"), PRIORITY: Decimal("2.5")}  # of the price that is set by hand: the default tier's


def price_set(tokens_in: float | None, tokens_out: float | None, tier: str) -> Price | None:
    """The price by RECAP_PRICE_…, in USD for a million tokens; None where it is not set."""
    if tokens_in is None or tokens_out is None:
        return None
    share = SHARES.get(tier, Decimal(1))
    read, written = (Decimal(str(one)) * share for one in (tokens_in, tokens_out))
    return Price(read, written, read, read * KEPT)


def price_listed(model: str, tier: str) -> Price | None:
    """The price of one of OpenAI's models; None where the list does not know it.

    The import takes some 0.2 s: call it in a thread.
    """
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
