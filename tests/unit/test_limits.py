"""The numbers: each at its least and most and beside them, and where two may not contradict."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from notifications.domain.claim import MAX_LEASE_MS
from notifications.domain.errors import ConfigFault
from notifications.limits import Limits, limits
from tests.support.rows import rows

NUMBERS = fields(Limits)


def seconds(given: dict[str, str]) -> dict[str, str]:
    return {f"RECAP_{name.upper()}_SECONDS": text for name, text in given.items()}


def refusal(env: dict[str, str]) -> str:
    with pytest.raises(ConfigFault) as caught:
        limits(env)
    return str(caught.value)


def test_what_is_not_set_keeps_its_default() -> None:
    assert limits({}) == Limits()
    assert limits({"RECAP_OTHER": "x", "page_size": "7", "PAGE_SIZE": "7"}) == Limits()


def test_each_number_has_its_variable_and_a_zero_in_front_means_nothing() -> None:
    given = {"RECAP_PAGE_SIZE": "0042", "RECAP_SWEEP_SECONDS": "0.5", "RECAP_SHARDS": "16"}
    found = limits(given)
    assert found == Limits(page_size=42, sweep_seconds=0.5, shards=16)
    assert isinstance(found.page_size, int)  # a store takes no 42.0 for a limit


@given(st.floats(5, 3600))
@example(127.36308399999999)
def test_a_number_is_read_as_a_program_prints_it(value: float) -> None:
    assert limits({"RECAP_WATCHDOG_SECONDS": repr(value)}).watchdog_seconds == value


def test_a_later_number_is_read_where_an_earlier_one_is_not_set() -> None:
    assert limits({"RECAP_LEDGER_RETENTION_DAYS": "7"}).ledger_retention_days == 7


def told(**given: float) -> str:
    """The sentence that refuses these numbers; nothing where they are fine."""
    try:
        Limits(**given)  # type: ignore[arg-type]
    except ConfigFault as fault:
        return str(fault)
    return ""


def test_each_number_may_have_its_least_and_most_and_nothing_beyond() -> None:
    for one in NUMBERS:
        least, most, whole = one.metadata["least"], one.metadata["most"], isinstance(one.default, int)
        wish = f"set it to {'a whole number' if whole else 'a number'} from {least:g} to {most:g}."
        step = 1 if whole else 1e-9
        for value in (least - step, most + step):
            assert told(**{one.name: value}) == f"RECAP_{one.name.upper()} is {value:.12g}; {wish}"
        for value in (least, most):  # another number may contradict it there; that is another sentence
            assert "set it to" not in told(**{one.name: value})


@pytest.mark.parametrize(("variable", "text", "sentence"), rows("settings", "numbers_refused"))
def test_a_bad_number_is_shown_with_what_it_may_be(variable: str, text: str, sentence: str) -> None:
    assert refusal({f"RECAP_{variable}": text}) == sentence


@pytest.mark.parametrize(("fits", "contradicts", "named"), rows("settings", "numbers_agree"), ids=str)
def test_numbers_agree_up_to_where_they_contradict(
    fits: dict[str, str], contradicts: dict[str, str], named: str
) -> None:
    found = limits(seconds(fits))
    assert {name: found.duration(name) for name in fits} == {n: timedelta(seconds=float(t)) for n, t in fits.items()}
    assert refusal(seconds(contradicts)).startswith(named)


def test_a_contradiction_is_told_with_its_numbers_and_its_reason() -> None:
    assert refusal(seconds({"user_lease": "600"})) == (
        "RECAP_USER_LEASE_SECONDS is 600; it must be over RECAP_USER_DEADLINE_SECONDS + RECAP_PUSH_DEADLINE_SECONDS"
        " + 2 x RECAP_STORE_TIMEOUT_SECONDS = 630, or a claim ends while its user is still being served."
    )


def test_no_lease_may_outlast_what_the_claims_take_for_live() -> None:
    longest = {one.name: one.metadata["most"] for one in NUMBERS if one.name.endswith("_lease_seconds")}
    assert longest == {"user_lease_seconds": MAX_LEASE_MS / 1000, "shard_lease_seconds": MAX_LEASE_MS / 1000}


def test_a_push_may_take_what_the_platform_leaves_before_the_last_five_seconds() -> None:
    assert Limits().stop_push_seconds == 5.0
    assert Limits(stop_seconds=6).stop_push_seconds == 1.0


def test_a_duration_is_known_by_its_name() -> None:
    assert Limits(start_gap_seconds=0.25).duration("start_gap") == timedelta(milliseconds=250)
