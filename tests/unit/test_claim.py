"""The claim record and its table of transitions, row by row: docs/protocol.md, section 3."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.domain.claim import (
    ABSENT,
    FINAL,
    FOREIGN,
    MAX_INTEGER,
    MAX_LEASE_MS,
    MAX_WAIT_MS,
    Call,
    ClaimAnswer,
    ClaimState,
    Record,
    Transition,
    Verb,
    claimable,
    decide,
    free_at,
    lane,
    lease_left,
    new_token,
    parse,
    reason_code,
    shard_key,
    time_left,
    turn_value,
    user_key,
    user_key_pattern,
)
from tests.support.rows import rows

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


@pytest.mark.parametrize(("text", "code"), rows("texts", "reason_codes"))
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
    at = datetime(2026, 5, 1, 11, 30, 7, tzinfo=timezone(timedelta(hours=2)))  # told in UTC all the same
    key = shard_key(at, 8, "2026.1", "e1", 2, 16)
    assert key == "daily_summary:cohort:v2:2026-05-01T09:30:07Z:8:2026.1:e1:2of16"


def test_a_turn_is_read_like_any_record() -> None:
    assert turn_value("token", 17) == '{"s": "complete", "t": "token", "u": 17}'
    assert parse(turn_value("token", 17)) == Record(ClaimState.COMPLETE, "token", 17)


NOW = 1_777_665_600_000
LEASE = 600_000
MY_LEASE_ENDS = NOW + LEASE
OTHERS = Record(ClaimState.CLAIMED, "other", NOW, failures=1, crashes=1, reason="truncated")
RESTING = Record(ClaimState.IDLE, "other", NOW, failures=2, crashes=1, reason="provider_503")
ENDED = sorted(FINAL)


def claim(stored: Record, **changes: Any) -> Transition:
    return decide(replace(Call(Verb.CLAIM, "me", NOW, LEASE, lane=2, max_crashes=4), **changes), stored)


def test_whoever_comes_first_wins() -> None:
    assert claim(ABSENT) == Transition(ClaimAnswer.WON, Record(ClaimState.CLAIMED, "me", MY_LEASE_ENDS))


def test_another_makers_value_is_held_without_a_time_to_wait() -> None:
    assert claim(FOREIGN) == Transition(ClaimAnswer.FOREIGN, FOREIGN, -1)


@pytest.mark.parametrize("until", [NOW - 1, NOW, NOW + 1, NOW + MAX_LEASE_MS + 1])
def test_whose_reply_was_lost_wins_again_and_pays_no_crash(until: int) -> None:
    taken = Record(ClaimState.CLAIMED, "me", MY_LEASE_ENDS, failures=1, crashes=1)
    assert claim(replace(OTHERS, token="me", until=until), lane=0, max_crashes=1) == Transition(ClaimAnswer.WON, taken)


@pytest.mark.parametrize("left", [1, 2, MAX_LEASE_MS - 1, MAX_LEASE_MS])
def test_a_live_lease_is_held_for_the_rest_of_it(left: int) -> None:
    held = replace(OTHERS, until=NOW + left)
    assert claim(held) == Transition(ClaimAnswer.HELD, held, left)


@pytest.mark.parametrize("left", [-MAX_LEASE_MS, -1, 0, MAX_LEASE_MS + 1])  # the last: the clock stepped back
def test_a_lapsed_claim_is_taken_over_and_counts_a_crash(left: int) -> None:
    taken = Record(ClaimState.CLAIMED, "me", MY_LEASE_ENDS, failures=1, crashes=2)
    assert claim(replace(OTHERS, until=NOW + left)) == Transition(ClaimAnswer.WON, taken)


@pytest.mark.parametrize(
    ("crashes", "max_crashes", "dead"),
    [(2, 4, False), (3, 4, True), (4, 4, True), (0, 1, True), (0, 2, False), (99, 0, False)],  # 0 permits any number
)
def test_the_last_permitted_crash_ends_in_dead(crashes: int, max_crashes: int, dead: bool) -> None:
    found = replace(OTHERS, crashes=crashes)
    ended = Transition(ClaimAnswer.DONE, Record(ClaimState.DEAD, "", 0, failures=1, crashes=crashes + 1))
    again = Transition(
        ClaimAnswer.WON, Record(ClaimState.CLAIMED, "me", MY_LEASE_ENDS, failures=1, crashes=crashes + 1)
    )
    assert claim(found, max_crashes=max_crashes) == (ended if dead else again)


def test_the_last_permitted_crash_is_dead_in_every_lane() -> None:
    assert claim(replace(OTHERS, crashes=3), lane=0).answer is ClaimAnswer.DONE


@pytest.mark.parametrize(
    ("crashes", "lane", "later"),
    [(0, 0, True), (0, 1, False), (1, 0, True), (1, 1, True), (1, 2, False), (2, 1, True), (2, 2, False)],
)
def test_a_lapsed_claim_waits_for_its_lane(crashes: int, lane: int, later: bool) -> None:
    found = replace(OTHERS, crashes=crashes)
    due = Transition(ClaimAnswer.LATER, Record(ClaimState.IDLE, "", NOW, failures=1, crashes=crashes + 1))
    taken = Transition(
        ClaimAnswer.WON, Record(ClaimState.CLAIMED, "me", MY_LEASE_ENDS, failures=1, crashes=crashes + 1)
    )
    assert claim(found, lane=lane) == (due if later else taken)


@pytest.mark.parametrize("left", [1, 2, MAX_LEASE_MS + 1, 2 * MAX_LEASE_MS - 1, 2 * MAX_LEASE_MS])
def test_an_item_rests_until_it_is_due(left: int) -> None:
    resting = replace(RESTING, until=NOW + left)
    assert claim(resting) == Transition(ClaimAnswer.WAIT, resting, left)


@pytest.mark.parametrize("left", [-1, 0, 2 * MAX_LEASE_MS + 1])  # the last: the clock stepped back
def test_a_due_item_is_won_with_its_counts_and_without_its_reason(left: int) -> None:
    taken = Record(ClaimState.CLAIMED, "me", MY_LEASE_ENDS, failures=2, crashes=1)
    assert claim(replace(RESTING, until=NOW + left)) == Transition(ClaimAnswer.WON, taken)


@pytest.mark.parametrize(
    ("crashes", "lane", "later"), [(0, 0, False), (1, 0, True), (1, 1, False), (2, 1, True), (3, 2, False)]
)
def test_a_due_item_waits_for_its_lane(crashes: int, lane: int, later: bool) -> None:
    found = replace(RESTING, crashes=crashes)
    taken = Transition(ClaimAnswer.WON, Record(ClaimState.CLAIMED, "me", MY_LEASE_ENDS, failures=2, crashes=crashes))
    assert claim(found, lane=lane) == (Transition(ClaimAnswer.LATER, found) if later else taken)


@pytest.mark.parametrize("state", ENDED)
@pytest.mark.parametrize("token", ["me", "other", ""])
def test_what_ended_stays_ended(state: ClaimState, token: str) -> None:
    ended = Record(state, token, failures=1)
    assert claim(ended) == Transition(ClaimAnswer.DONE, ended)


@pytest.mark.parametrize(
    ("stored", "worth_a_try"),
    [
        (ABSENT, True),
        (FOREIGN, False),
        (replace(OTHERS, until=NOW), True),
        (replace(OTHERS, until=NOW + 1), False),
        (replace(OTHERS, until=NOW, crashes=9), True),
        (replace(RESTING, until=NOW), True),
        (replace(RESTING, until=NOW + 1), False),
        (replace(RESTING, until=NOW, crashes=9), True),
        *((Record(state), False) for state in ENDED),
    ],
)
def test_a_run_tries_only_what_it_could_win(stored: Record, worth_a_try: bool) -> None:
    assert claimable(stored, NOW) is worth_a_try


def test_a_shard_is_never_dead_and_needs_no_lane() -> None:
    """What an ask means that says no more: the last lane, and any number of crashes."""
    assert decide(Call(Verb.CLAIM, "me", NOW), replace(OTHERS, crashes=9)).answer is ClaimAnswer.WON


MINE = Record(ClaimState.CLAIMED, "me", NOW + 1, failures=1, crashes=1, reason="truncated")
LIVE_OTHERS = replace(MINE, token="other")


def renew(stored: Record) -> Transition:
    return decide(Call(Verb.RENEW, "me", NOW, LEASE), stored)


def complete(stored: Record, outcome: ClaimState = ClaimState.SKIPPED) -> Transition:
    return decide(Call(Verb.COMPLETE, "me", NOW, outcome=outcome), stored)


def fail(stored: Record, **changes: Any) -> Transition:
    ask = Call(Verb.FAIL, "me", NOW, wait=60_000, added_failures=1, max_failures=3, until=NOW + 7_200_000, reason="why")
    return decide(replace(ask, **changes), stored)


def lost(stored: Record) -> Transition:
    return Transition(ClaimAnswer.LOST, stored)


@pytest.mark.parametrize("left", [1, MAX_LEASE_MS])
def test_a_live_claim_is_renewed_by_its_owner(left: int) -> None:
    longer = Record(ClaimState.CLAIMED, "me", NOW + LEASE, failures=1, crashes=1)
    assert renew(replace(MINE, until=NOW + left)) == Transition(ClaimAnswer.OK, longer)


@pytest.mark.parametrize(
    "stored",
    [
        replace(MINE, until=NOW),
        replace(MINE, until=NOW + MAX_LEASE_MS + 1),
        LIVE_OTHERS,
        replace(RESTING, token="me", until=NOW + 1),
        Record(ClaimState.COMPLETE, "me"),
        ABSENT,
        FOREIGN,
    ],
)
def test_nothing_but_an_own_live_claim_is_renewed(stored: Record) -> None:
    assert renew(stored) == lost(stored)


@pytest.mark.parametrize("outcome", ENDED)
@pytest.mark.parametrize("left", [-1, 0, 1])  # lapsed or not: nobody took it over
def test_an_own_claim_is_completed_with_its_outcome(outcome: ClaimState, left: int) -> None:
    assert complete(replace(MINE, until=NOW + left), outcome) == Transition(ClaimAnswer.OK, Record(outcome, "me"))


@pytest.mark.parametrize("state", ENDED)
def test_a_completion_that_is_repeated_changes_nothing(state: ClaimState) -> None:
    ended = Record(state, "me")
    assert complete(ended) == Transition(ClaimAnswer.OK, ended)


@pytest.mark.parametrize(
    "stored", [LIVE_OTHERS, replace(RESTING, token="me"), Record(ClaimState.SENT, "other"), ABSENT, FOREIGN]
)
def test_a_stale_owner_completes_nothing(stored: Record) -> None:
    assert complete(stored) == lost(stored)


@pytest.mark.parametrize("left", [-1, 0, 1])
@pytest.mark.parametrize("counts", [0, 1])
def test_a_failed_item_rests_and_keeps_its_reason(left: int, counts: int) -> None:
    rests = Record(ClaimState.IDLE, "me", NOW + 60_000, failures=1 + counts, crashes=1, reason="why")
    assert fail(replace(MINE, until=NOW + left), added_failures=counts) == Transition(ClaimAnswer.OK, rests)


@pytest.mark.parametrize(
    ("failures", "counts", "max_failures", "dead"),
    [(1, 1, 3, False), (2, 1, 3, True), (3, 1, 3, True), (0, 1, 1, True), (9, 0, 3, False), (9, 1, 0, False)],
)
def test_the_last_permitted_failure_ends_in_dead(failures: int, counts: int, max_failures: int, dead: bool) -> None:
    found = replace(MINE, failures=failures)
    ended = Transition(ClaimAnswer.DONE, Record(ClaimState.DEAD, "me", 0, failures + 1, 1, "why"))
    rests = Transition(ClaimAnswer.OK, Record(ClaimState.IDLE, "me", NOW + 60_000, failures + counts, 1, "why"))
    assert fail(found, added_failures=counts, max_failures=max_failures) == (ended if dead else rests)


@pytest.mark.parametrize(
    ("stored", "answer"),
    [(replace(RESTING, token="me"), ClaimAnswer.OK), (Record(ClaimState.DEAD, "me", 0, 3, 1, "why"), ClaimAnswer.DONE)],
)
def test_a_failure_that_is_repeated_counts_once(stored: Record, answer: ClaimAnswer) -> None:
    assert fail(stored) == Transition(answer, stored)


@pytest.mark.parametrize(
    "stored", [LIVE_OTHERS, RESTING, Record(ClaimState.DEAD, "other"), Record(ClaimState.SENT, "me"), ABSENT, FOREIGN]
)
def test_a_stale_owner_fails_nothing(stored: Record) -> None:
    assert fail(stored) == lost(stored)


@pytest.mark.parametrize(
    ("wait", "until", "due"),
    [
        (0, MAX_WAIT_MS * 2, 0),
        (1, MAX_WAIT_MS * 2, 1),
        (MAX_WAIT_MS, MAX_WAIT_MS * 2, MAX_WAIT_MS),
        (MAX_WAIT_MS + 1, MAX_WAIT_MS * 2, MAX_WAIT_MS),
        (60_000, 60_000, 60_000),
        (60_001, 60_000, 60_000),
        (60_000, -1, -1),  # its time is over
    ],
)
def test_an_item_rests_half_an_hour_at_most_and_never_past_its_time(wait: int, until: int, due: int) -> None:
    assert fail(MINE, wait=wait, until=NOW + until).after.until == NOW + due


def test_who_says_no_more_counts_no_failure_and_waits_for_nothing() -> None:
    rests = Record(ClaimState.IDLE, "me", 0, failures=1, crashes=1)
    assert decide(Call(Verb.FAIL, "me", NOW), MINE) == Transition(ClaimAnswer.OK, rests)
    assert decide(Call(Verb.COMPLETE, "me", NOW), MINE).after.state is ClaimState.SENT


@pytest.mark.parametrize(
    ("uid", "day", "pattern"),
    [
        (None, None, "users:*:daily_summary_lock:*"),
        ("ann", date(2026, 5, 1), "users:ann:daily_summary_lock:2026-05-01"),
        ("a*[b]-^\\?", None, "users:a\\*\\[b\\]\\-\\^\\\\\\?:daily_summary_lock:*"),
    ],
)
def test_the_pattern_of_keys_takes_a_uid_literally(uid: str | None, day: date | None, pattern: str) -> None:
    assert user_key_pattern(uid, day) == pattern


def test_a_records_end_as_a_time() -> None:
    assert Record(ClaimState.IDLE, until=1_777_000_000_250).until_at == datetime(2026, 4, 24, 3, 6, 40, 250_000, UTC)


LONGEST_LEASE, LONGEST_WAIT = timedelta(milliseconds=MAX_LEASE_MS), timedelta(milliseconds=2 * MAX_LEASE_MS)
A_MS, ZERO, AT = timedelta(milliseconds=1), timedelta(0), datetime(2026, 5, 1, 20, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("state", "ahead", "left"),
    [
        (ClaimState.CLAIMED, A_MS, A_MS),
        (ClaimState.CLAIMED, LONGEST_LEASE, LONGEST_LEASE),
        (ClaimState.CLAIMED, LONGEST_LEASE + A_MS, ZERO),  # a clock that was ahead stamped it
        (ClaimState.CLAIMED, ZERO, ZERO),
        (ClaimState.CLAIMED, -LONGEST_LEASE, ZERO),
        (ClaimState.IDLE, A_MS, A_MS),
        (ClaimState.IDLE, LONGEST_WAIT, LONGEST_WAIT),
        (ClaimState.IDLE, LONGEST_WAIT + A_MS, ZERO),
        (ClaimState.IDLE, ZERO, ZERO),
        (ClaimState.SENT, A_MS, ZERO),
    ],
)
def test_how_long_a_record_holds_is_what_the_next_claim_finds(
    state: ClaimState, ahead: timedelta, left: timedelta
) -> None:
    until = int((AT + ahead).timestamp() * 1000)
    record = Record(state, "t", until)
    assert time_left(record, AT) == left
    assert lease_left(record, AT) == (left if state is ClaimState.CLAIMED else ZERO)
    if state is not ClaimState.SENT:
        assert free_at(record, AT) == AT + (ahead if left or ahead < ZERO else ZERO)
        assert claimable(record, int(AT.timestamp() * 1000)) == (not left)


@pytest.mark.parametrize("until", [MAX_INTEGER, -MAX_INTEGER])
@pytest.mark.parametrize("state", [ClaimState.CLAIMED, ClaimState.IDLE])
def test_an_end_that_is_no_date_is_no_error(state: ClaimState, until: int) -> None:
    assert free_at(Record(state, "t", until), AT) == (AT if until > 0 else datetime.fromtimestamp(0, UTC))
