"""The verb that claims, row by row: docs/protocol.md, section 3."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from notifications.domain.claim import (
    ABSENT,
    FINAL,
    FOREIGN,
    MAX_LEASE_MS,
    Call,
    ClaimAnswer,
    ClaimState,
    Record,
    Transition,
    Verb,
    claimable,
    decide,
)

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
