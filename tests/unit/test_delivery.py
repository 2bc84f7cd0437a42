"""The ledger's transitions as whole decisions, row by row: docs/protocol.md, section 4."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from notifications.domain import delivery
from notifications.domain.delivery import NO_USER, Decision, LedgerRules, NextStep, Opening, Snapshot
from notifications.domain.model import Cited, DayState, Draft, Ledger, OpenTarget, Recap, Summary, Window, collapse_id
from notifications.domain.money import Spent
from notifications.domain.push import Message, PushResult, message
from notifications.domain.recording import PushReport, record_pushes
from notifications.domain.target import TargetResult

DAY = date(2026, 5, 1)
SLOT = datetime(2026, 5, 1, 20, tzinfo=UTC)
NOW = SLOT + timedelta(minutes=5)
MADE = NOW - timedelta(minutes=3)
LATER = NOW + timedelta(minutes=1)
TICK = timedelta(microseconds=1)
STALE = timedelta(seconds=120)
RULES = LedgerRules(stale=STALE, max_pushes=3, retention=timedelta(days=30))
WINDOW = Window(SLOT - timedelta(days=1), SLOT)
ME = Opening("u", DAY, "me", SLOT, WINDOW)
CHARGED = Opening("u", DAY, "me", SLOT, None, failures=3, crashes=1, reason="refusal")
RECAP = Recap("2026-05-01", DAY, NOW, Draft("Head", (Cited("Over"),), "🌤️", push="Push"), 2, 30)
THEIRS = Summary("2026-05-01", NOW, "Their head", "Their text", "🎈")
# A ledger that says something in every field which recording may not lose.
MINE = Ledger(DAY, DayState.SENDING, "old", "me", NOW, 2, 2, "tag", "T", "B", "id", MADE, repeats=1, reason="store")
FRESH = replace(MINE, by="other", sending_at=NOW - STALE + TICK)
LAPSED = replace(FRESH, sending_at=NOW - STALE)
PENDING = replace(FRESH, state=DayState.PENDING)
NEW = Ledger(
    DAY,
    DayState.SENDING,
    by="me",
    collapse_id=collapse_id("u", DAY),
    window_start=WINDOW.start,
    window_end=WINDOW.end,
    expire_at=SLOT + timedelta(days=30),
)
READABLE = [state for state in DayState if state is not DayState.UNREADABLE]
ENDED = [state for state in DayState if state.final]
WITHOUT_RECAP = [DayState.SKIPPED, DayState.MISSED, DayState.DEAD]
ACCEPTED, GONE, BUSY = PushResult.ACCEPTED, PushResult.GONE, PushResult.BUSY
REFUSED, UNKNOWN, UNSENT = PushResult.REFUSED, PushResult.UNKNOWN, PushResult.UNSENT


def close(state: DayState, found: Ledger | None, op: Opening = ME, *, active: bool = True) -> Decision:
    return delivery.end_day(op, state, "why", Snapshot(found, NOW, active), RULES)


def begin(found: Ledger | None = None, **changes: Any) -> Decision:
    given: dict[str, Any] = {"has_targets": True, "replaces": None, "active": True, "summary": None} | changes
    seen = Snapshot(found, NOW, given.pop("active"), given.pop("summary"))
    return delivery.begin(ME, RECAP, seen, RULES, **given)


def take(found: Ledger | None) -> Decision:
    return delivery.take("me", Snapshot(found, NOW), RULES)


def swept(found: Ledger | None, *, active: bool = True, over: bool = False) -> Decision:
    return delivery.sweep("me", Snapshot(found, NOW, active), RULES, over=over)


def legacy(found: Ledger | None, summary: Summary = THEIRS, *, active: bool = True) -> Decision:
    return delivery.end_as_legacy(ME, summary, Snapshot(found, NOW, active), RULES)


def record(found: Ledger | None, results: dict[str, PushResult], **changes: Any) -> Decision:
    """`reached`: whether another target of their channel was."""
    given: dict[str, Any] = {"by": "me", "seq": 2} | changes
    reached = given.pop("reached", ACCEPTED in results.values() or "accepted" in getattr(found, "devices", {}).values())
    of = {name: TargetResult(result, "fcm_503", LATER, reached) for name, result in results.items()}
    return record_pushes(PushReport(results=of, **given), RULES, found)


def resend(found: Ledger | None, *, active: bool = True, **given: Any) -> Decision:
    return delivery.resend(Snapshot(found, NOW, active), RULES, **({"claim_live": False} | given))


def entry_of(decision: Decision) -> Ledger:
    assert decision.ledger is not None
    return decision.ledger


def gave_up(found: Ledger, outcome: str, **changes: Any) -> Decision:
    given_up = replace(found, state=DayState.GAVE_UP, outcome=outcome, **changes)
    return Decision(NextStep.FINAL, given_up, write=True)


def sent(found: Ledger, outcome: str, **changes: Any) -> Decision:
    entry = replace(found, state=DayState.SENT, outcome=outcome, reason="", **changes)
    return Decision(NextStep.FINAL, entry, write=True, stamp_sent=True)


@pytest.mark.parametrize("asked", WITHOUT_RECAP)
def test_a_day_that_ends_is_written_whole_and_leaves_one_that_has_ended(asked: DayState) -> None:
    assert close(asked, None) == Decision(NextStep.FINAL, replace(NEW, state=asked, outcome="why"), write=True)
    assert close(asked, None, active=False) == NO_USER
    for state in ENDED:
        found = replace(FRESH, state=state)
        assert close(asked, found) == Decision(NextStep.FINAL, found)
    for found in (PENDING, FRESH, LAPSED) if asked is not DayState.DEAD else ():
        assert close(asked, found) == Decision(NextStep.TAKE, found)


def test_a_dead_day_says_of_what_and_no_other_does() -> None:
    bare = replace(NEW, outcome="why", failures=3, crashes=1, window_start=None, window_end=None)
    dead = replace(bare, state=DayState.DEAD, reason="refusal")
    assert close(DayState.DEAD, None, CHARGED).ledger == dead
    assert close(DayState.MISSED, None, CHARGED).ledger == replace(bare, state=DayState.MISSED)


@pytest.mark.parametrize(("charged", "reason"), [(CHARGED, "refusal"), (replace(CHARGED, reason=""), "store")])
def test_an_open_day_of_who_is_dead_is_given_up_with_its_counts(charged: Opening, reason: str) -> None:
    ended = close(DayState.DEAD, PENDING, charged)
    assert ended == gave_up(PENDING, "why", failures=3, crashes=1, reason=reason)


def test_a_sender_is_fresh_until_the_very_instant_at_which_it_is_stale() -> None:
    for found, fresh in ((FRESH, True), (LAPSED, False)):
        assert (close(DayState.DEAD, found).step is NextStep.BUSY) is fresh
        assert (take(found).step is NextStep.BUSY) is fresh
        assert (swept(found).step is NextStep.BUSY) is fresh
        assert (resend(found).step is NextStep.REFUSED) is fresh
    unstamped = replace(FRESH, sending_at=None)  # its clock is not known: it counts from now
    assert take(unstamped) == Decision(NextStep.BUSY, unstamped, STALE)


@pytest.mark.parametrize(("ahead", "restamped"), [(STALE, False), (STALE + TICK, True)])
def test_a_sender_stamped_by_a_clock_that_was_ahead_is_stamped_again(ahead: timedelta, restamped: bool) -> None:
    decision = take(replace(FRESH, sending_at=NOW + ahead))
    assert (decision.step, decision.write) == (NextStep.BUSY, restamped)
    assert decision.wait == (STALE if restamped else STALE + ahead)


def test_another_hands_summary_makes_the_day_sent_and_the_window_end_with_it() -> None:
    early = replace(THEIRS, created_at=SLOT - timedelta(hours=1))
    shown: dict[str, Any] = {
        "title": "🎈 Their head",
        "body": "Their text",
        "summary_id": "2026-05-01",
        "window_start": None,
    }
    made = sent(NEW, "legacy", created_at=NOW, **shown)
    assert legacy(None) == made
    ends: dict[str, Any] = {"created_at": early.created_at, "window_end": early.created_at}
    assert begin(summary=early) == legacy(None, early) == replace(made, ledger=replace(entry_of(made), **ends))
    assert legacy(None, active=False) == NO_USER
    found = replace(FRESH, state=DayState.SKIPPED, seq=4)
    again = entry_of(begin(found, replaces=found, summary=THEIRS))
    assert (again.seq, again.outcome) == (5, "legacy")


@pytest.mark.parametrize("state", READABLE)
def test_another_hands_summary_changes_no_ledger_that_is_there(state: DayState) -> None:
    found = replace(FRESH, state=state)
    assert legacy(found) == Decision(NextStep.FINAL if state.final else NextStep.TAKE, found)


def test_begin_is_written_whole() -> None:
    shown: dict[str, Any] = {"title": "🌤️ Head", "body": "Push", "summary_id": "2026-05-01", "created_at": NOW}
    sending = replace(NEW, tries=1, verified=False, **shown)
    assert begin() == Decision(NextStep.PUSH, sending, write=True, stamp_sending=True, recap=RECAP)
    assert begin(has_targets=False) == replace(sent(sending, "no_devices", tries=0), recap=RECAP)
    assert begin(active=False) == NO_USER


@pytest.mark.parametrize("state", ENDED)
def test_begin_throws_its_text_away_where_the_day_ended_unless_a_resend_read_it(state: DayState) -> None:
    found = replace(FRESH, state=state, seq=4)
    assert begin(found) == Decision(NextStep.FINAL, found)
    assert begin(replace(found, seq=5), replaces=found).step is NextStep.FINAL
    if state in WITHOUT_RECAP:
        made = begin(found, replaces=found)
        assert (made.write, entry_of(made).state, entry_of(made).seq) == (True, DayState.SENDING, 5)
        assert begin(replace(found, state=DayState.SENT), replaces=found).step is NextStep.FINAL


def test_take_and_sweep_leave_what_is_not_theirs() -> None:
    for state in ENDED:
        found = replace(FRESH, state=state)
        assert take(found) == swept(found, over=True) == Decision(NextStep.FINAL, found)
    assert take(None) == swept(None) == NO_USER
    busy = Decision(NextStep.BUSY, FRESH, TICK)
    assert take(FRESH) == swept(FRESH, active=False) == swept(FRESH, over=True) == busy
    assert take(MINE) == swept(MINE) == Decision(NextStep.PUSH, MINE)  # the reply was lost: no try is taken again


@pytest.mark.parametrize("found", [PENDING, LAPSED])
def test_who_takes_is_the_sender_from_now_on_up_to_the_last_push(found: Ledger) -> None:
    taken = replace(found, state=DayState.SENDING, by="me", tries=3)
    assert take(found) == swept(found) == Decision(NextStep.PUSH, taken, write=True, stamp_sending=True)
    assert swept(found, active=False, over=True) == gave_up(found, "user_gone_or_off")
    assert swept(found, over=True) == gave_up(found, "undelivered")
    last = replace(found, tries=3)
    assert take(last) == swept(last) == gave_up(last, "pushes")


@pytest.mark.parametrize("seq", [1, 3])
@pytest.mark.parametrize("state", [DayState.SENDING, DayState.SENT, DayState.GAVE_UP])
def test_recording_under_another_seq_is_refused(state: DayState, seq: int) -> None:
    found = replace(MINE, state=state)
    assert record(found, {"a": ACCEPTED}, seq=seq) == Decision(NextStep.REFUSED, found)


@pytest.mark.parametrize("state", [state for state in ENDED if state is not DayState.GAVE_UP])
def test_a_day_that_ended_or_is_erased_stays_as_it_is(state: DayState) -> None:
    found = replace(MINE, state=state)
    assert record(found, {"a": ACCEPTED}) == Decision(NextStep.FINAL, found)
    assert record(None, {"a": ACCEPTED}) == NO_USER


def test_after_giving_up_only_a_target_that_has_the_recap_changes_how_the_day_ended() -> None:
    found = replace(MINE, state=DayState.GAVE_UP, devices={"b": "gone"})
    late = record(found, {"a": BUSY, "c": UNKNOWN})
    assert late == Decision(NextStep.FINAL, found, write=True)
    partly = record(found, {"a": ACCEPTED, "c": UNKNOWN})
    devices = {"b": "gone", "a": "accepted", "c": "gave_up"}
    sent_in_part = replace(found, state=DayState.SENT, outcome="partial", devices=devices)
    assert partly == Decision(NextStep.FINAL, sent_in_part, write=True, stamp_sent=True)


@pytest.mark.parametrize(
    ("results", "outcome", "devices"),
    [
        ({"a": ACCEPTED}, "", {"a": "accepted"}),
        ({"a": ACCEPTED, "b": GONE}, "", {"a": "accepted", "b": "gone"}),
        ({"a": ACCEPTED, "b": REFUSED}, "", {"a": "accepted", "b": "refused"}),
        ({"a": GONE}, "no_devices", {"a": "gone"}),
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


@pytest.mark.parametrize("result", [BUSY, UNKNOWN, UNSENT, REFUSED, GONE])
def test_a_device_that_another_sender_reached_or_found_gone_keeps_no_day_open(result: PushResult) -> None:
    has, gone = (replace(MINE, devices={"a": known}) for known in ("accepted", "gone"))
    unanswered = int(result is UNKNOWN)
    assert record(has, {"a": result}) == sent(has, "", unanswered=unanswered)
    assert record(gone, {"a": BUSY}) == sent(gone, "no_devices")


def test_a_push_accepted_twice_is_counted_for_the_audit_once() -> None:
    found = replace(MINE, devices={"a": "accepted", "b": "accepted", "c": "gone"})
    twice = {"a": ACCEPTED, "b": ACCEPTED, "c": GONE, "d": ACCEPTED}
    assert record(found, twice) == sent(found, "", devices=dict(found.devices) | {"d": "accepted"}, repeats=3)
    results = {"a": ACCEPTED, "b": BUSY}
    first = entry_of(record(MINE, results))
    again = entry_of(record(first, results))  # the same recording, repeated
    assert (first.repeats, again.repeats, again.state) == (1, 1, DayState.PENDING)
    assert entry_of(record(replace(first, by="another"), results)).repeats == 2


@pytest.mark.parametrize(
    ("results", "unanswered", "devices", "left"),
    [
        ({"a": BUSY}, 0, {}, {"a": 0}),
        ({"a": REFUSED}, 0, {}, {"a": 0}),
        ({"a": GONE, "b": REFUSED}, 0, {"a": "gone"}, {"b": 0}),
        ({"a": UNSENT, "b": BUSY}, 0, {}, {"a": 0, "b": 0}),
        ({"a": UNKNOWN}, 1, {}, {"a": 1}),
        ({"a": BUSY, "b": UNKNOWN}, 1, {}, {"a": 0, "b": 1}),
        ({"a": UNKNOWN, "late": UNKNOWN}, 2, {}, {"a": 1, "late": 2}),
        ({"a": ACCEPTED, "b": BUSY}, 0, {"a": "accepted"}, {"b": 0}),
        ({"a": ACCEPTED, "b": REFUSED, "c": BUSY}, 0, {"a": "accepted", "b": "refused"}, {"c": 0}),
        ({"a": ACCEPTED, "last": UNKNOWN, "c": BUSY}, 1, {"a": "accepted", "last": "gave_up"}, {"c": 0}),
    ],
)
def test_a_target_left_leaves_the_day_pending_and_a_lost_answer_is_charged_to_its_target(
    results: dict[str, PushResult], unanswered: int, devices: dict[str, str], left: dict[str, int]
) -> None:
    found = replace(MINE, targets={"late": OpenTarget(1), "last": OpenTarget(2), "no longer the user's": OpenTarget(1)})
    kept = {name: OpenTarget(tries, LATER, "fcm_503") for name, tries in left.items()}
    said: dict[str, Any] = {"tries": 1, "unanswered": unanswered, "devices": devices, "reason": "fcm_503"}
    pending = replace(found, state=DayState.PENDING, targets=kept, **said)
    assert record(found, results, reason="fcm_503") == Decision(NextStep.RETRY, pending, write=True)
    said |= {"devices": devices | dict.fromkeys(left, "gave_up"), "targets": {}}
    ended = record(found, results, reason="fcm_503", last_chance=True)
    if "accepted" not in devices.values():
        assert ended == gave_up(found, "undelivered", **said)
    else:
        partial = replace(found, state=DayState.SENT, outcome="partial", **said)
        assert ended == Decision(NextStep.FINAL, partial, write=True, stamp_sent=True)


def test_a_refused_target_waits_for_its_own_channel_alone() -> None:
    results = {"a": ACCEPTED, "b": REFUSED}
    assert entry_of(record(MINE, results, reached=False)).targets == {"b": OpenTarget(0, LATER, "fcm_503")}
    assert entry_of(record(MINE, results, reached=True)).state is DayState.SENT


def test_the_third_try_of_a_target_without_an_answer_is_its_last() -> None:
    found = replace(MINE, targets={"a": OpenTarget(2), "b": OpenTarget(2)})
    nobody = record(found, {"a": UNKNOWN})
    assert (entry_of(nobody).state, entry_of(nobody).outcome) == (DayState.GAVE_UP, "pushes")
    some = entry_of(record(found, {"a": UNKNOWN, "b": ACCEPTED}))
    assert (some.state, some.outcome, some.devices) == (DayState.SENT, "partial", {"a": "gave_up", "b": "accepted"})


@pytest.mark.parametrize(
    "ends",
    [
        lambda found: take(replace(found, tries=3)),
        lambda found: swept(found, over=True),
        lambda found: swept(found, active=False),
        lambda found: close(DayState.DEAD, found, CHARGED),
    ],
)
def test_a_day_that_ends_with_a_target_that_has_the_recap_was_sent_in_part(ends: Callable[[Ledger], Decision]) -> None:
    found = replace(PENDING, devices={"a": "accepted"}, targets={"b": OpenTarget(1)})
    ended = entry_of(ends(found))
    assert (ended.state, ended.outcome, ended.targets) == (DayState.SENT, "partial", {})
    assert ended.devices == {"a": "accepted", "b": "gave_up"}
    assert entry_of(resend(ended, again=False)).devices == {"a": "accepted"}  # the others get it
    alone = entry_of(ends(replace(found, devices={})))
    assert (alone.state, alone.devices) == (DayState.GAVE_UP, {"b": "gave_up"})


@pytest.mark.parametrize("results", [{}, {"a": UNSENT}])
def test_a_push_deadline_that_passed_before_the_first_push_costs_no_try(results: dict[str, PushResult]) -> None:
    left = {name: OpenTarget(0, LATER, "fcm_503") for name in results}
    pending = replace(MINE, state=DayState.PENDING, tries=1, reason="", targets=left)
    assert record(MINE, results, sent_nothing=True) == Decision(NextStep.RETRY, pending, write=True)


@pytest.mark.parametrize("found", [replace(MINE, by="other"), replace(MINE, state=DayState.PENDING)])
@pytest.mark.parametrize("changes", [{}, {"sent_nothing": True}, {"last_chance": True}])
def test_a_sender_that_was_replaced_or_repeats_itself_only_adds_devices(found: Ledger, changes: dict[str, Any]) -> None:
    decision = record(found, {"a": ACCEPTED, "b": BUSY}, reason="fcm_503", **changes)
    assert decision == Decision(NextStep.RETRY, replace(found, devices={"a": "accepted"}), write=True)


def test_what_a_sender_that_was_replaced_reached_is_open_no_more() -> None:
    found = replace(LAPSED, tries=3, targets={"a": OpenTarget(1), "b": OpenTarget(2)})
    late = entry_of(record(found, {"a": ACCEPTED, "b": UNKNOWN}))  # b's third: not for a late sender to end
    assert (late.devices, late.targets) == ({"a": "accepted"}, {"b": OpenTarget(2)})
    ended = entry_of(take(late))
    assert (ended.state, ended.devices) == (DayState.SENT, {"a": "accepted", "b": "gave_up"})


@pytest.mark.parametrize("found", [None, *(replace(MINE, state=state) for state in READABLE)])
def test_a_resend_to_nobody_is_none_and_one_beside_a_live_claim_is_refused(found: Ledger | None) -> None:
    assert resend(found, active=False) == resend(found, active=False, claim_live=True) == NO_USER
    assert resend(found, claim_live=True) == Decision(NextStep.REFUSED, found)


def test_a_resend_waits_for_a_sender_finishes_what_it_left_and_leaves_days_without_a_recap() -> None:
    assert resend(FRESH) == Decision(NextStep.REFUSED, FRESH)
    for found in (LAPSED, PENDING):
        assert resend(found) == Decision(NextStep.RETRY, found)
    for ended in (None, *(replace(MINE, state=state) for state in WITHOUT_RECAP)):
        assert resend(ended) == resend(ended, again=False) == Decision(NextStep.FINAL, ended)


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
    opened: dict[str, Any] = {"state": DayState.PENDING, "outcome": "resend", "tries": 0, "devices": {}}
    again = replace(found, seq=found.seq + 1, sent_at=None, repeats=found.repeats + found.may_repeat, **opened)
    assert resend(found) == Decision(NextStep.RETRY, again, write=True)
    assert entry_of(resend(found)).repeats == 2  # what may have been pushed twice stays in the accounts


@pytest.mark.parametrize("sent_at", [NOW, NOW - STALE + TICK, NOW + STALE - TICK])
@pytest.mark.parametrize("seq", [2, 3])
def test_what_was_resent_just_now_is_not_resent(sent_at: datetime, seq: int) -> None:
    found = replace(MINE, state=DayState.SENT, sent_at=sent_at, seq=seq)
    assert resend(found) == Decision(NextStep.REFUSED, found)


def test_a_wish_that_each_has_it_pushes_nothing_that_was_sent_meanwhile() -> None:
    had = Ledger(DAY, DayState.SENT, seq=2, sent_at=NOW - timedelta(hours=1))
    assert resend(had).write is True
    assert resend(had, again=False) == Decision(NextStep.REFUSED, had)
    ended = replace(had, state=DayState.GAVE_UP)
    assert resend(ended, again=False) == resend(ended)
    some = replace(ended, devices={"a": "accepted", "b": "gone", "c": "unknown"})
    assert entry_of(resend(some, again=False)).devices == {"a": "accepted"}  # it has the recap
    assert entry_of(resend(some)).devices == {}


@pytest.mark.parametrize(("seq", "created", "since"), [(1, MADE, MADE), (1, None, NOW), (2, MADE, NOW), (2, None, NOW)])
def test_a_message_says_what_the_ledger_says_and_is_worth_its_time(
    seq: int, created: datetime | None, since: datetime
) -> None:
    found = message("u", replace(MINE, seq=seq, created_at=created), NOW)
    expires = since + timedelta(hours=20)
    assert found == Message("u", DAY, "tag", "T", "B", "id", created, expires, seq=seq, age=NOW - since)


PAID = Spent(calls=3, tokens_in=100, tokens_out=20, micro_usd=None, seconds=1.5)


@pytest.mark.parametrize(
    ("before", "usd", "after"),
    [
        ({}, 50, {"tokens": 120, "usd": 50e-6, "llm_seconds": 1.5}),
        ({}, None, {"tokens": 120, "usd": None, "llm_seconds": 1.5}),
        ({"tokens": 9, "usd": 1e-5, "llm_seconds": 2.0}, 50, {"tokens": 129, "usd": 60e-6, "llm_seconds": 3.5}),
        ({"tokens": 9, "usd": None, "llm_seconds": None}, 50, {"tokens": 129, "usd": None, "llm_seconds": 1.5}),
    ],
)
def test_who_takes_over_in_begin_adds_what_the_thrown_away_draft_had_cost(
    before: dict[str, Any], usd: int | None, after: dict[str, Any]
) -> None:
    paid = replace(ME, spent=replace(PAID, micro_usd=usd))
    for found, step in ((LAPSED, NextStep.PUSH), (replace(LAPSED, tries=3), NextStep.FINAL)):
        taken = delivery.begin(
            paid, RECAP, Snapshot(replace(found, **before), NOW), RULES, has_targets=True, replaces=None
        )
        entry = entry_of(taken)
        assert (taken.step, {name: getattr(entry, name) for name in after}) == (step, after)
    for untouched in (FRESH, replace(MINE, state=DayState.SENT), MINE):
        seen = Snapshot(untouched, NOW)
        assert entry_of(delivery.begin(paid, RECAP, seen, RULES, has_targets=True, replaces=None)) == untouched
