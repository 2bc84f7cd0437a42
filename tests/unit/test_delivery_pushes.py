"""Whole decisions of record_pushes and resend, and the message, row by row: docs/protocol.md, section 4."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from notifications.domain import delivery
from notifications.domain.delivery import NO_USER, Decision, LedgerRules, NextStep, Snapshot
from notifications.domain.model import DayState, Ledger
from notifications.domain.push import Message, PushResult, message

DAY = date(2026, 5, 1)
NOW = datetime(2026, 5, 1, 20, 5, tzinfo=UTC)
MADE = NOW - timedelta(minutes=3)
TICK = timedelta(microseconds=1)
STALE = timedelta(seconds=120)
RULES = LedgerRules(stale=STALE, max_pushes=3, retention=timedelta(days=30))
# A ledger that says something in every field which recording may not lose.
MINE = Ledger(DAY, DayState.SENDING, "old", "me", NOW, 2, 2, "tag", "T", "B", "id", MADE, repeats=1, reason="store")
ENDED = [state for state in DayState if state.final]


def record(found: Ledger | None, results: dict[str, PushResult], **changes: Any) -> Decision:
    given: dict[str, Any] = {"by": "me", "seq": 2, "sent_nothing": False, "last_chance": False} | changes
    return delivery.record_pushes(given.pop("by"), given.pop("seq"), results, ledger=found, **given)


def resend(found: Ledger | None, **changes: Any) -> Decision:
    given: dict[str, Any] = {"active": True, "claim_live": False, "read_time": NOW, "rules": RULES} | changes
    seen = Snapshot(found, given.pop("read_time"), given.pop("active"))
    return delivery.resend(seen, given.pop("rules"), **given)


def sent(found: Ledger, outcome: str, **changes: Any) -> Decision:
    entry = replace(found, state=DayState.SENT, outcome=outcome, reason="", **changes)
    return Decision(NextStep.FINAL, entry, write=True, stamp_sent=True)


def pending(found: Ledger, **changes: Any) -> Decision:
    return Decision(NextStep.RETRY, replace(found, state=DayState.PENDING, **changes), write=True)


def test_recording_for_an_erased_account_writes_nothing() -> None:
    assert record(None, {"a": PushResult.ACCEPTED}) == NO_USER


@pytest.mark.parametrize("seq", [1, 3])
@pytest.mark.parametrize("state", [DayState.SENDING, DayState.SENT, DayState.GAVE_UP])
def test_recording_under_another_seq_is_refused(state: DayState, seq: int) -> None:
    found = replace(MINE, state=state)
    assert record(found, {"a": PushResult.ACCEPTED}, seq=seq) == Decision(NextStep.REFUSED, found)


@pytest.mark.parametrize("state", [state for state in ENDED if state is not DayState.GAVE_UP])
def test_a_day_that_ended_stays_as_it_is(state: DayState) -> None:
    found = replace(MINE, state=state)
    assert record(found, {"a": PushResult.ACCEPTED}) == Decision(NextStep.FINAL, found)


@pytest.mark.parametrize("result", [PushResult.ACCEPTED, PushResult.BUSY])
def test_after_giving_up_devices_are_merged_and_nothing_else_while_one_is_left(result: PushResult) -> None:
    found = replace(MINE, state=DayState.GAVE_UP, devices={"b": "gone"})
    devices = {"b": "gone", "a": "accepted"} if result is PushResult.ACCEPTED else {"b": "gone"}
    late = record(found, {"a": result, "c": PushResult.UNKNOWN})
    assert late == Decision(NextStep.FINAL, replace(found, devices=devices), write=True)


@pytest.mark.parametrize(
    ("results", "outcome", "devices"),
    [
        ({"a": PushResult.ACCEPTED}, "", {"a": "accepted"}),
        ({"a": PushResult.ACCEPTED, "b": PushResult.GONE}, "", {"a": "accepted", "b": "gone"}),
        ({"a": PushResult.ACCEPTED, "b": PushResult.REFUSED}, "", {"a": "accepted"}),
        ({"a": PushResult.GONE}, "no_devices", {"a": "gone"}),
        ({}, "no_devices", {}),
    ],
)
@pytest.mark.parametrize("by", ["me", "other"])
@pytest.mark.parametrize("state", [DayState.SENDING, DayState.PENDING, DayState.GAVE_UP])
def test_a_day_without_a_device_left_is_sent_whoever_records_it_and_however_late(
    results: dict[str, PushResult], outcome: str, devices: dict[str, str], by: str, state: DayState
) -> None:
    found = replace(MINE, state=state)
    assert record(found, results, by=by, reason="fcm_503") == sent(found, outcome, devices=devices)


@pytest.mark.parametrize("result", [PushResult.BUSY, PushResult.UNKNOWN, PushResult.UNSENT, PushResult.REFUSED])
def test_a_device_that_another_sender_reached_keeps_no_day_open(result: PushResult) -> None:
    found = replace(MINE, devices={"a": "accepted"})
    assert record(found, {"a": result}) == sent(found, "")


def test_a_device_that_another_sender_found_gone_keeps_no_day_open() -> None:
    found = replace(MINE, devices={"a": "gone"})
    assert record(found, {"a": PushResult.BUSY}) == sent(found, "no_devices")


def test_a_push_accepted_twice_is_counted_for_the_audit() -> None:
    found = replace(MINE, devices={"a": "accepted", "b": "accepted", "c": "gone"})
    twice = {"a": PushResult.ACCEPTED, "b": PushResult.ACCEPTED, "c": PushResult.GONE, "d": PushResult.ACCEPTED}
    assert record(found, twice) == sent(found, "", devices=dict(found.devices) | {"d": "accepted"}, repeats=3)


@pytest.mark.parametrize(
    ("results", "tries", "devices"),
    [
        ({"a": PushResult.BUSY}, 1, {}),
        ({"a": PushResult.REFUSED}, 1, {}),
        ({"a": PushResult.GONE, "b": PushResult.REFUSED}, 1, {"a": "gone"}),
        ({"a": PushResult.UNSENT, "b": PushResult.BUSY}, 1, {}),
        ({"a": PushResult.ACCEPTED, "b": PushResult.BUSY}, 1, {"a": "accepted"}),
        ({"a": PushResult.ACCEPTED, "b": PushResult.REFUSED, "c": PushResult.BUSY}, 1, {"a": "accepted"}),
        ({"a": PushResult.UNKNOWN}, 2, {}),
        ({"a": PushResult.BUSY, "b": PushResult.UNKNOWN}, 2, {}),
    ],
)
def test_a_device_left_leaves_the_day_pending(
    results: dict[str, PushResult], tries: int, devices: dict[str, str]
) -> None:
    made = pending(MINE, tries=tries, devices=devices, reason="fcm_503")
    assert record(MINE, results, reason="fcm_503") == made
    given_up = replace(
        MINE, state=DayState.GAVE_UP, outcome="undelivered", tries=tries, devices=devices, reason="fcm_503"
    )
    ended = record(MINE, results, reason="fcm_503", last_chance=True)
    assert ended == Decision(NextStep.FINAL, given_up, write=True)


@pytest.mark.parametrize("results", [{}, {"a": PushResult.UNSENT}, {"a": PushResult.UNKNOWN}])
def test_a_push_deadline_that_passed_before_the_first_push_costs_no_try(results: dict[str, PushResult]) -> None:
    assert record(MINE, results, sent_nothing=True) == pending(MINE, tries=1, reason="")


@pytest.mark.parametrize("found", [replace(MINE, by="other"), replace(MINE, state=DayState.PENDING)])
@pytest.mark.parametrize("changes", [{}, {"sent_nothing": True}, {"last_chance": True}])
def test_a_sender_that_was_replaced_or_repeats_itself_only_adds_devices(found: Ledger, changes: dict[str, Any]) -> None:
    decision = record(found, {"a": PushResult.ACCEPTED, "b": PushResult.BUSY}, reason="fcm_503", **changes)
    assert decision == Decision(NextStep.RETRY, replace(found, devices={"a": "accepted"}), write=True)


FRESH = replace(MINE, sending_at=NOW - STALE + TICK)
LAPSED = replace(MINE, sending_at=NOW - STALE)
EVERY: list[Ledger | None] = [
    None,
    *(replace(MINE, state=state) for state in DayState if state is not DayState.UNREADABLE),
]


@pytest.mark.parametrize("found", EVERY)
def test_a_resend_to_nobody_is_none_and_one_beside_a_live_claim_is_refused(found: Ledger | None) -> None:
    assert resend(found, active=False) == resend(found, active=False, claim_live=True) == NO_USER
    assert resend(found, claim_live=True) == Decision(NextStep.REFUSED, found)


def test_a_resend_waits_for_a_sender_and_finishes_what_it_left() -> None:
    assert resend(FRESH) == Decision(NextStep.REFUSED, FRESH)
    assert resend(LAPSED) == Decision(NextStep.RETRY, LAPSED)
    waiting = replace(FRESH, state=DayState.PENDING)
    assert resend(waiting) == Decision(NextStep.RETRY, waiting)


@pytest.mark.parametrize(
    "found", [None, *(replace(MINE, state=s) for s in (DayState.SKIPPED, DayState.MISSED, DayState.DEAD))]
)
def test_a_day_without_a_recap_is_left_for_the_resends_begin(found: Ledger | None) -> None:
    assert resend(found) == Decision(NextStep.FINAL, found)


@pytest.mark.parametrize(
    "changes",
    [
        {"state": DayState.GAVE_UP, "sent_at": NOW},
        {"state": DayState.SENT, "sent_at": NOW - STALE},
        {"state": DayState.SENT, "sent_at": NOW + STALE},  # by a clock that was ahead: nobody knows when
        {"state": DayState.SENT, "sent_at": None},
        {"state": DayState.SENT, "sent_at": NOW, "seq": 1},  # its first delivery, and no resend's
    ],
)
def test_a_resend_opens_a_delivery_that_ended(changes: dict[str, Any]) -> None:
    found = replace(MINE, devices={"a": "accepted"}, **changes)
    again = replace(
        found, state=DayState.PENDING, outcome="resend", seq=found.seq + 1, tries=0, devices={}, sent_at=None
    )
    assert resend(found) == Decision(NextStep.RETRY, again, write=True)


@pytest.mark.parametrize("sent_at", [NOW, NOW - STALE + TICK, NOW + STALE - TICK])
@pytest.mark.parametrize("seq", [2, 3])
def test_what_was_resent_just_now_is_not_resent(sent_at: datetime, seq: int) -> None:
    found = replace(MINE, state=DayState.SENT, sent_at=sent_at, seq=seq)
    assert resend(found) == Decision(NextStep.REFUSED, found)


@pytest.mark.parametrize(("seq", "created", "since"), [(1, MADE, MADE), (1, None, NOW), (2, MADE, NOW), (2, None, NOW)])
def test_a_message_says_what_the_ledger_says_and_is_worth_its_time(
    seq: int, created: datetime | None, since: datetime
) -> None:
    found = message("u", replace(MINE, seq=seq, created_at=created), NOW)
    assert found == Message("u", "tag", "T", "B", "id", created, since + timedelta(hours=20))


def test_a_wish_that_each_has_it_pushes_nothing_that_was_sent_meanwhile() -> None:
    had = Ledger(DAY, DayState.SENT, seq=2, sent_at=NOW - timedelta(hours=1))
    assert resend(had).write is True
    assert resend(had, again=False) == Decision(NextStep.REFUSED, had)
    gave_up = replace(had, state=DayState.GAVE_UP)
    assert resend(gave_up, again=False) == resend(gave_up)
    some = replace(gave_up, devices={"a": "accepted", "b": "gone", "c": "unknown"})
    asked = resend(some, again=False).ledger
    assert asked is not None
    assert dict(asked.devices) == {"a": "accepted"}  # it has the recap
    assert dict(resend(some).ledger.devices) == {}  # type: ignore[union-attr]
    assert resend(None, again=False) == Decision(NextStep.FINAL, None)
