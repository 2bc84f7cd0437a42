"""The verbs of whoever holds a claim, row by row: docs/protocol.md, section 3."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from notifications.domain.claim import (
    ABSENT,
    FINAL,
    FOREIGN,
    MAX_LEASE_MS,
    MAX_WAIT_MS,
    Call,
    ClaimAnswer,
    ClaimState,
    Record,
    Transition,
    Verb,
    decide,
)

NOW = 1_777_665_600_000
LEASE = 600_000
MINE = Record(ClaimState.CLAIMED, "me", NOW + 1, failures=1, crashes=1, reason="truncated")
OTHERS = replace(MINE, token="other")
RESTING = Record(ClaimState.IDLE, "other", NOW, failures=2, crashes=1, reason="provider_503")
ENDED = sorted(FINAL)


def renew(stored: Record) -> Transition:
    return decide(Call(Verb.RENEW, "me", NOW, LEASE), stored)


def complete(stored: Record, outcome: ClaimState = ClaimState.SKIPPED) -> Transition:
    return decide(Call(Verb.COMPLETE, "me", NOW, outcome=outcome), stored)


def fail(stored: Record, **changes: Any) -> Transition:
    ask = Call(Verb.FAIL, "me", NOW, wait=60_000, counts=1, max_failures=3, until=NOW + 7_200_000, reason="why")
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
        OTHERS,
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
    "stored", [OTHERS, replace(RESTING, token="me"), Record(ClaimState.SENT, "other"), ABSENT, FOREIGN]
)
def test_a_stale_owner_completes_nothing(stored: Record) -> None:
    assert complete(stored) == lost(stored)


@pytest.mark.parametrize("left", [-1, 0, 1])
@pytest.mark.parametrize("counts", [0, 1])
def test_a_failed_item_rests_and_keeps_its_reason(left: int, counts: int) -> None:
    rests = Record(ClaimState.IDLE, "me", NOW + 60_000, failures=1 + counts, crashes=1, reason="why")
    assert fail(replace(MINE, until=NOW + left), counts=counts) == Transition(ClaimAnswer.OK, rests)


@pytest.mark.parametrize(
    ("failures", "counts", "max_failures", "dead"),
    [(1, 1, 3, False), (2, 1, 3, True), (3, 1, 3, True), (0, 1, 1, True), (9, 0, 3, False), (9, 1, 0, False)],
)
def test_the_last_permitted_failure_ends_in_dead(failures: int, counts: int, max_failures: int, dead: bool) -> None:
    found = replace(MINE, failures=failures)
    ended = Transition(ClaimAnswer.DONE, Record(ClaimState.DEAD, "me", 0, failures + 1, 1, "why"))
    rests = Transition(ClaimAnswer.OK, Record(ClaimState.IDLE, "me", NOW + 60_000, failures + counts, 1, "why"))
    assert fail(found, counts=counts, max_failures=max_failures) == (ended if dead else rests)


@pytest.mark.parametrize(
    ("stored", "answer"),
    [(replace(RESTING, token="me"), ClaimAnswer.OK), (Record(ClaimState.DEAD, "me", 0, 3, 1, "why"), ClaimAnswer.DONE)],
)
def test_a_failure_that_is_repeated_counts_once(stored: Record, answer: ClaimAnswer) -> None:
    assert fail(stored) == Transition(answer, stored)


@pytest.mark.parametrize(
    "stored", [OTHERS, RESTING, Record(ClaimState.DEAD, "other"), Record(ClaimState.SENT, "me"), ABSENT, FOREIGN]
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
