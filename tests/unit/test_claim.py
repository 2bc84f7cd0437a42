"""The claim record: how it is read, under which key it stands, and what a reason may hold."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.domain.claim import (
    ABSENT,
    FOREIGN,
    ClaimState,
    Record,
    lane,
    new_token,
    parse,
    reason_code,
    shard_key,
    turn_value,
    user_key,
)

OWN = {"s": "idle", "t": "token", "u": 17, "f": 2, "c": 3, "r": "provider_503"}
READ = Record(ClaimState.IDLE, "token", 17, 2, 3, "provider_503")


def own(**changes: Any) -> str:
    return json.dumps(OWN | changes)


@pytest.mark.parametrize("value", [own(), own().encode(), own(x="a field of a later version")])
def test_an_own_record_is_read_whole(value: str | bytes) -> None:
    assert parse(value) == READ


@pytest.mark.parametrize("state", ["claimed", "idle", "sent", "skipped", "dead", "missed", "complete"])
def test_a_short_record_counts_nothing(state: str) -> None:
    assert parse(f'{{"s":"{state}","t":"x"}}') == Record(ClaimState(state), "x", 0, 0, 0, "")


def test_no_value_is_no_record() -> None:
    assert parse(None) == ABSENT == Record(ClaimState.ABSENT)


ANOTHER_MAKERS: list[str | bytes] = [
    *("1", "", "null", "[]", "{}", '"text"', "not json", "[" * 10, "[" * 100_000, b"\xff\xfe", "9" * 9_999),
    *(json.dumps({key: value for key, value in OWN.items() if key != name}) for name in "st"),
    *(own(**{name: value}) for name in "st" for value in (None, 1, True, ["idle"], {"idle": 1})),
    *(own(s=state) for state in ("", "absent", "foreign", "CLAIMED", "unheard")),
    *(own(**{name: value}) for name in "ufc" for value in (None, "1", 1.5, True, False, [1], 2**53 + 2, 1e300)),
]


@pytest.mark.parametrize("value", ANOTHER_MAKERS, ids=range(len(ANOTHER_MAKERS)))
def test_what_we_never_wrote_is_another_makers(value: str | bytes) -> None:
    assert parse(value) == FOREIGN == Record(ClaimState.FOREIGN)


@pytest.mark.parametrize("reason", [None, 7, ["x"], "Upper", "two words", "line\n", "dash-ed", "é", ""])
def test_a_reason_that_is_no_code_is_left_out_and_the_record_stays(reason: object) -> None:
    assert parse(own(r=reason)) == Record(ClaimState.IDLE, "token", 17, 2, 3, "")


@pytest.mark.parametrize("reason", ["a", "z", "0", "9", "_", "provider_503"])
def test_a_reason_of_small_letters_digits_and_underscores_is_read(reason: str) -> None:
    assert parse(own(r=reason)).reason == reason


@pytest.mark.parametrize(("crashes", "runs_in"), [(0, 0), (1, 1), (2, 2), (3, 2), (99, 2)])
def test_crashes_narrow_the_lane_down_to_one_alone(crashes: int, runs_in: int) -> None:
    assert lane(crashes) == runs_in


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("provider_503", "provider_503"),
        ("Rate-Limit exceeded", "rate_limit_exceeded"),
        ("  spaced  ", "spaced"),
        ("x_ÄÖ_y", "x____y"),
        ("XxX", "xxx"),
        ("__", ""),
        ("", ""),
        ("a" * 40, "a" * 40),
        ("a" * 41, "a" * 40),
        ("a" * 39 + " b", "a" * 39),  # what the cut leaves at the end goes too
        ("_" * 40 + "b", ""),
    ],
)
def test_a_reason_becomes_a_short_code(text: str, code: str) -> None:
    assert reason_code(text) == code


@given(st.text(max_size=80))
def test_whatever_a_reason_says_its_record_stays_readable(text: str) -> None:
    assert parse(own(r=reason_code(text))) == Record(ClaimState.IDLE, "token", 17, 2, 3, reason_code(text))


def test_each_claim_has_a_token_of_128_bits() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert {len(token) for token in tokens} == {22}  # base 64


def test_a_user_and_day_have_the_key_that_older_deployments_take() -> None:
    assert user_key("ann", date(2026, 5, 1)) == "users:ann:daily_summary_lock:2026-05-01"


def test_a_shards_key_names_its_cohort_and_its_part() -> None:
    key = shard_key(datetime(2026, 5, 1, 9, 30, 7, tzinfo=UTC), 8, "2026.1", "e1", 2, 16)
    assert key == "daily_summary:cohort:v2:2026-05-01T09:30:07Z:8:2026.1:e1:2of16"


def test_a_turn_is_read_like_any_record() -> None:
    assert turn_value("token", 17) == '{"s": "complete", "t": "token", "u": 17}'
    assert parse(turn_value("token", 17)) == Record(ClaimState.COMPLETE, "token", 17)


def test_the_key_of_a_shard_is_in_utc_whatever_zone_its_slot_is_given_in() -> None:
    vienna = datetime(2026, 5, 1, 22, tzinfo=timezone(timedelta(hours=2)))
    assert shard_key(vienna, 22, "2026a", "e1", 0, 1) == "daily_summary:cohort:v2:2026-05-01T20:00:00Z:22:2026a:e1:0of1"
