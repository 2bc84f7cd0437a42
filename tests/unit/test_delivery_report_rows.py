"""Whole decisions of report and resend, and the message, row by row: docs/protocol.md, section 4."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from notifications.domain import delivery_report
from notifications.domain.delivery import NOBODY, Decision, Kind, LedgerRules, Snapshot
from notifications.domain.model import Ledger, State
from notifications.domain.push import Message, Result

DAY = date(2026, 5, 1)
NOW = datetime(2026, 5, 1, 20, 5, tzinfo=UTC)
MADE = NOW - timedelta(minutes=3)
TICK = timedelta(microseconds=1)
STALE = timedelta(seconds=120)
RULES = LedgerRules(stale=STALE, max_pushes=3, retention=timedelta(days=30))
# A ledger that says something in every field which a report may not lose.
MINE = Ledger(DAY, State.SENDING, "old", "me", NOW, 2, 2, "tag", "T", "B", "id", MADE, repeats=1, reason="store")
ENDED = [state for state in State if state.final]


def report(found: Ledger | None, results: dict[str, Result], **changes: Any) -> Decision:
    given: dict[str, Any] = {"by": "me", "seq": 2, "sent_nothing": False, "last_chance": False} | changes
    return delivery_report.report(given.pop("by"), given.pop("seq"), results, found=found, **given)


def resend(found: Ledger | None, **changes: Any) -> Decision:
    given: dict[str, Any] = {"active": True, "claim_live": False, "read_time": NOW, "rules": RULES} | changes
    seen = Snapshot(found, given.pop("read_time"), given.pop("active"))
    return delivery_report.resend(seen, given.pop("rules"), **given)


def sent(found: Ledger, outcome: str, **changes: Any) -> Decision:
    entry = replace(found, state=State.SENT, outcome=outcome, reason="", **changes)
    return Decision(Kind.FINAL, entry, write=True, stamp_sent=True)


def pending(found: Ledger, **changes: Any) -> Decision:
    return Decision(Kind.RETRY, replace(found, state=State.PENDING, **changes), write=True)


def test_a_report_on_an_erased_account_writes_nothing() -> None:
    assert report(None, {"a": Result.ACCEPTED}) == NOBODY


@pytest.mark.parametrize("seq", [1, 3])
@pytest.mark.parametrize("state", [State.SENDING, State.SENT, State.GAVE_UP])
def test_a_report_under_another_seq_is_refused(state: State, seq: int) -> None:
    found = replace(MINE, state=state)
    assert report(found, {"a": Result.ACCEPTED}, seq=seq) == Decision(Kind.REFUSED, found)


@pytest.mark.parametrize("state", [state for state in ENDED if state is not State.GAVE_UP])
def test_a_day_that_ended_stays_as_it_is(state: State) -> None:
    found = replace(MINE, state=state)
    assert report(found, {"a": Result.ACCEPTED}) == Decision(Kind.FINAL, found)


@pytest.mark.parametrize("result", [Result.ACCEPTED, Result.BUSY])
def test_after_giving_up_devices_are_merged_and_nothing_else_while_one_is_left(result: Result) -> None:
    found = replace(MINE, state=State.GAVE_UP, devices={"b": "gone"})
    devices = {"b": "gone", "a": "accepted"} if result is Result.ACCEPTED else {"b": "gone"}
    late = report(found, {"a": result, "c": Result.UNKNOWN})
    assert late == Decision(Kind.FINAL, replace(found, devices=devices), write=True)


@pytest.mark.parametrize(
    ("results", "outcome", "devices"),
    [
        ({"a": Result.ACCEPTED}, "", {"a": "accepted"}),
        ({"a": Result.ACCEPTED, "b": Result.GONE}, "", {"a": "accepted", "b": "gone"}),
        ({"a": Result.ACCEPTED, "b": Result.REFUSED}, "", {"a": "accepted"}),
        ({"a": Result.GONE}, "no_devices", {"a": "gone"}),
        ({}, "no_devices", {}),
    ],
)
@pytest.mark.parametrize("by", ["me", "other"])
def test_a_day_without_a_device_left_is_sent_whoever_reports_it(
    results: dict[str, Result], outcome: str, devices: dict[str, str], by: str
) -> None:
    assert report(MINE, results, by=by, reason="fcm_503") == sent(MINE, outcome, devices=devices)


@pytest.mark.parametrize("result", [Result.BUSY, Result.UNKNOWN, Result.UNSENT, Result.REFUSED])
def test_a_device_that_another_sender_reached_keeps_no_day_open(result: Result) -> None:
    found = replace(MINE, devices={"a": "accepted"})
    assert report(found, {"a": result}) == sent(found, "")


def test_a_device_that_another_sender_found_gone_keeps_no_day_open() -> None:
    found = replace(MINE, devices={"a": "gone"})
    assert report(found, {"a": Result.BUSY}) == sent(found, "no_devices")


def test_a_push_accepted_twice_is_counted_for_the_audit() -> None:
    found = replace(MINE, devices={"a": "accepted", "b": "accepted", "c": "gone"})
    twice = {"a": Result.ACCEPTED, "b": Result.ACCEPTED, "c": Result.GONE, "d": Result.ACCEPTED}
    assert report(found, twice) == sent(found, "", devices=dict(found.devices) | {"d": "accepted"}, repeats=3)


@pytest.mark.parametrize(
    ("results", "tries", "devices"),
    [
        ({"a": Result.BUSY}, 1, {}),
        ({"a": Result.REFUSED}, 1, {}),
        ({"a": Result.GONE, "b": Result.REFUSED}, 1, {"a": "gone"}),
        ({"a": Result.UNSENT, "b": Result.BUSY}, 1, {}),
        ({"a": Result.ACCEPTED, "b": Result.BUSY}, 1, {"a": "accepted"}),
        ({"a": Result.ACCEPTED, "b": Result.REFUSED, "c": Result.BUSY}, 1, {"a": "accepted"}),
        ({"a": Result.UNKNOWN}, 2, {}),
        ({"a": Result.BUSY, "b": Result.UNKNOWN}, 2, {}),
    ],
)
def test_a_device_left_leaves_the_day_pending(results: dict[str, Result], tries: int, devices: dict[str, str]) -> None:
    made = pending(MINE, tries=tries, devices=devices, reason="fcm_503")
    assert report(MINE, results, reason="fcm_503") == made
    given_up = replace(MINE, state=State.GAVE_UP, outcome="undelivered", tries=tries, devices=devices, reason="fcm_503")
    ended = report(MINE, results, reason="fcm_503", last_chance=True)
    assert ended == Decision(Kind.FINAL, given_up, write=True)


@pytest.mark.parametrize("results", [{}, {"a": Result.UNSENT}, {"a": Result.UNKNOWN}])
def test_a_push_deadline_that_passed_before_the_first_push_costs_no_try(results: dict[str, Result]) -> None:
    assert report(MINE, results, sent_nothing=True) == pending(MINE, tries=1, reason="")


@pytest.mark.parametrize("found", [replace(MINE, by="other"), replace(MINE, state=State.PENDING)])
@pytest.mark.parametrize("changes", [{}, {"sent_nothing": True}, {"last_chance": True}])
def test_a_sender_that_was_replaced_or_repeats_itself_only_adds_devices(found: Ledger, changes: dict[str, Any]) -> None:
    decision = report(found, {"a": Result.ACCEPTED, "b": Result.BUSY}, reason="fcm_503", **changes)
    assert decision == Decision(Kind.RETRY, replace(found, devices={"a": "accepted"}), write=True)


FRESH = replace(MINE, sending_at=NOW - STALE + TICK)
LAPSED = replace(MINE, sending_at=NOW - STALE)
EVERY: list[Ledger | None] = [None, *(replace(MINE, state=state) for state in State if state is not State.UNREADABLE)]


@pytest.mark.parametrize("found", EVERY)
def test_a_resend_to_nobody_is_none_and_one_beside_a_live_claim_is_refused(found: Ledger | None) -> None:
    assert resend(found, active=False) == resend(found, active=False, claim_live=True) == NOBODY
    assert resend(found, claim_live=True) == Decision(Kind.REFUSED, found)


def test_a_resend_waits_for_a_sender_and_finishes_what_it_left() -> None:
    assert resend(FRESH) == Decision(Kind.REFUSED, FRESH)
    assert resend(LAPSED) == Decision(Kind.RETRY, LAPSED)
    waiting = replace(FRESH, state=State.PENDING)
    assert resend(waiting) == Decision(Kind.RETRY, waiting)


@pytest.mark.parametrize("found", [None, *(replace(MINE, state=s) for s in (State.SKIPPED, State.MISSED, State.DEAD))])
def test_a_day_without_a_recap_is_left_for_the_resends_begin(found: Ledger | None) -> None:
    assert resend(found) == Decision(Kind.FINAL, found)


@pytest.mark.parametrize(
    "changes",
    [
        {"state": State.GAVE_UP, "sent_at": NOW},
        {"state": State.SENT, "sent_at": NOW - STALE},
        {"state": State.SENT, "sent_at": NOW + STALE},  # by a clock that was ahead: nobody knows when
        {"state": State.SENT, "sent_at": None},
        {"state": State.SENT, "sent_at": NOW, "seq": 1},  # its first delivery, and no resend's
    ],
)
def test_a_resend_opens_a_delivery_that_ended(changes: dict[str, Any]) -> None:
    found = replace(MINE, devices={"a": "accepted"}, **changes)
    again = replace(found, state=State.PENDING, outcome="resend", seq=found.seq + 1, tries=0, devices={}, sent_at=None)
    assert resend(found) == Decision(Kind.RETRY, again, write=True)


@pytest.mark.parametrize("sent_at", [NOW, NOW - STALE + TICK, NOW + STALE - TICK])
@pytest.mark.parametrize("seq", [2, 3])
def test_what_was_resent_just_now_is_not_resent(sent_at: datetime, seq: int) -> None:
    found = replace(MINE, state=State.SENT, sent_at=sent_at, seq=seq)
    assert resend(found) == Decision(Kind.REFUSED, found)


@pytest.mark.parametrize(("seq", "created", "since"), [(1, MADE, MADE), (1, None, NOW), (2, MADE, NOW), (2, None, NOW)])
def test_a_message_says_what_the_ledger_says_and_is_worth_its_time(
    seq: int, created: datetime | None, since: datetime
) -> None:
    found = delivery_report.message("u", replace(MINE, seq=seq, created_at=created), NOW)
    assert found == Message("u", "tag", "T", "B", "id", created, since + timedelta(hours=20))


def test_a_wish_that_each_has_it_pushes_nothing_that_was_sent_meanwhile() -> None:
    had = Ledger(DAY, State.SENT, seq=2, sent_at=NOW - timedelta(hours=1))
    assert resend(had).write is True
    assert resend(had, again=False) == Decision(Kind.REFUSED, had)
    gave_up = replace(had, state=State.GAVE_UP)
    assert resend(gave_up, again=False) == resend(gave_up)
    some = replace(gave_up, devices={"a": "accepted", "b": "gone", "c": "unknown"})
    asked = resend(some, again=False).entry
    assert asked is not None
    assert dict(asked.devices) == {"a": "accepted"}  # it has the recap
    assert dict(resend(some).entry.devices) == {}  # type: ignore[union-attr]
    assert resend(None, again=False) == Decision(Kind.FINAL, None)
