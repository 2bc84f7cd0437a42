"""Tokens and money: summed, and no figure where a price is not known."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.adapters.llm.prices import Price, price_listed, price_set
from notifications.domain.money import NOTHING, Spent, spend_key
from notifications.settings import Settings

PRICE = Price(Decimal("0.25"), Decimal(2), Decimal("0.025"), Decimal("0.3125"))
amounts = st.integers(0, 10**7)


@pytest.mark.parametrize(
    ("tokens", "micros"),
    [
        *[((0, 0, 0), 0), ((1, 0, 0), 1), ((4, 0, 0), 1), ((5, 0, 0), 2), ((1000, 0, 100), 450), ((1000, 1000, 0), 25)],
        *[((2000, 1000, 0, 1000), 338), ((1000, 0, 0, 1000), 313), ((1000, 400, 0, 9000), 198)],  # what is kept
    ],
)
def test_a_call_costs_what_its_tokens_do_rounded_up(tokens: tuple[int, ...], micros: int) -> None:
    assert PRICE.of(*tokens) == micros


@given(amounts, amounts, amounts)
def test_the_price_of_no_call_is_under_what_it_costs(tokens_in: int, cached: int, tokens_out: int) -> None:
    exact = (tokens_in - min(cached, tokens_in)) * 0.25 + min(cached, tokens_in) * 0.025 + tokens_out * 2
    assert exact <= PRICE.of(tokens_in, cached, tokens_out) + 1e-6 <= exact + 1.001


def test_of_a_sum_of_which_one_price_is_not_known_there_is_none() -> None:
    known, unknown = Spent(1, 10, 5, 4, 2, 7), Spent(1, 1, 0, 1, 0, None)
    assert known + known == Spent(2, 20, 10, 8, 4, 14)
    assert (known + unknown).micro_usd is None
    assert NOTHING + known == known
    assert (known.tokens, known.usd, unknown.usd) == (14, 7e-6, None)
    assert "usd" not in unknown.as_metadata()


def test_a_price_is_set_by_hand_or_listed_and_flex_is_half() -> None:
    assert price_set(None, 1.0, "default") is None
    assert price_set(1.0, 4.0, "default") == Price(Decimal(1), Decimal(4), Decimal(1), Decimal("1.25"))
    assert price_set(1.0, 4.0, "flex") == Price(Decimal("0.5"), Decimal(2), Decimal("0.5"), Decimal("0.625"))
    default = Settings.openai_model
    expected = Price(Decimal("0.10"), Decimal("0.50"), Decimal("0.01"), Decimal("0.125"))
    assert price_listed(default, "default") == expected
    cheap = price_listed(default, "flex")
    assert cheap is not None
    assert (cheap.tokens_in, cheap.tokens_out, cheap.cached) == (Decimal("0.05"), Decimal("0.25"), Decimal("0.005"))
    assert price_listed("nobody's model", "default") is None


def test_a_day_of_money_is_a_utc_day() -> None:
    assert spend_key("e1", date(2026, 5, 1)) == "daily_summary:spend:e1:2026-05-01"
