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

NUMBERS = fields(Limits)
AGREE = [
    ({"user_lease": "630.5"}, {"user_lease": "630"}, "RECAP_USER_LEASE_SECONDS is 630;"),
    ({"user_deadline": "509.5"}, {"user_deadline": "510"}, "RECAP_USER_LEASE_SECONDS is 660;"),
    ({"push_deadline": "59.5"}, {"push_deadline": "60"}, "RECAP_USER_LEASE_SECONDS is 660;"),
    ({"store_timeout": "74.5"}, {"store_timeout": "75"}, "RECAP_USER_LEASE_SECONDS is 660;"),
    ({"sending_stale": "90.5"}, {"sending_stale": "90"}, "RECAP_SENDING_STALE_SECONDS is 90;"),
    (
        {"push_deadline": "59.5", "user_lease": "900"},
        {"push_deadline": "60", "user_lease": "900"},
        "RECAP_SENDING_STALE_SECONDS is 120;",
    ),
    (
        {"store_timeout": "89.5", "user_lease": "900"},
        {"store_timeout": "90", "user_lease": "900"},
        "RECAP_SENDING_STALE_SECONDS is 120;",
    ),
    ({"shard_renew": "59.5"}, {"shard_renew": "60"}, "RECAP_SHARD_RENEW_SECONDS is 60;"),
    ({"shard_lease": "90.5"}, {"shard_lease": "90"}, "RECAP_SHARD_RENEW_SECONDS is 30;"),
    ({"shard_retry_min": "300"}, {"shard_retry_min": "300.5"}, "RECAP_SHARD_RETRY_MIN_SECONDS is over"),
    ({"shard_retry_max": "60"}, {"shard_retry_max": "59.5"}, "RECAP_SHARD_RETRY_MIN_SECONDS is over"),
    ({"catch_up": "9300"}, {"catch_up": "9301"}, "RECAP_CATCH_UP_SECONDS + RECAP_GRACE_SECONDS is 10501;"),
    ({"grace": "3300"}, {"grace": "3301"}, "RECAP_CATCH_UP_SECONDS + RECAP_GRACE_SECONDS is 10501;"),
    (
        {"shard_retry_max": "1800", "catch_up": "7800"},
        {"shard_retry_max": "1800", "catch_up": "7801"},
        "RECAP_CATCH_UP_SECONDS + RECAP_GRACE_SECONDS is 9001;",
    ),
]


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


@pytest.mark.parametrize(
    ("variable", "text", "sentence"),
    [
        ("PAGE_SIZE", "1001", "RECAP_PAGE_SIZE is 1001; set it to a whole number from 1 to 1000."),
        ("PAGE_SIZE", "1.0", "RECAP_PAGE_SIZE is '1.0'; set it to a whole number from 1 to 1000."),
        ("PAGE_SIZE", "1000000000", "RECAP_PAGE_SIZE is '1000000000'; set it to a whole number from 1 to 1000."),
        ("PAGE_SIZE", "", "RECAP_PAGE_SIZE is ''; set it to a whole number from 1 to 1000."),
        ("PAGE_SIZE", "٣", "RECAP_PAGE_SIZE is '٣'; set it to a whole number from 1 to 1000."),
        ("WATCHDOG_SECONDS", "4.5", "RECAP_WATCHDOG_SECONDS is 4.5; set it to a number from 5 to 3600."),
        ("WATCHDOG_SECONDS", "5s", "RECAP_WATCHDOG_SECONDS is '5s'; set it to a number from 5 to 3600."),
        ("WATCHDOG_SECONDS", "9.", "RECAP_WATCHDOG_SECONDS is '9.'; set it to a number from 5 to 3600."),
        ("WATCHDOG_SECONDS", "9 ", "RECAP_WATCHDOG_SECONDS is '9 '; set it to a number from 5 to 3600."),
        (
            "WATCHDOG_SECONDS",
            "x" * 41,  # as long as it may be shown
            f"RECAP_WATCHDOG_SECONDS is '{'x' * 39}…'; set it to a number from 5 to 3600.",
        ),
    ],
)
def test_a_bad_number_is_shown_with_what_it_may_be(variable: str, text: str, sentence: str) -> None:
    assert refusal({f"RECAP_{variable}": text}) == sentence


@pytest.mark.parametrize(("fits", "contradicts", "named"), AGREE, ids=str)
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
