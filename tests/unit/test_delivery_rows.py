"""Whole decisions about a delivery, row by row: what is answered, what is stored, which clock stamps it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from notifications.domain import delivery
from notifications.domain.delivery import Decision, NextStep, Opening, Snapshot
from notifications.domain.model import DayState, Ledger, Summary, Window, collapse_id
from notifications.domain.push import PushResult
from tests.unit.test_delivery import (
    DAY,
    FRESH,
    ME,
    MINE,
    NOW,
    RECAP,
    SLOT,
    STALE,
    TERMS,
    THEIRS,
    WINDOW,
    begin,
    close,
    entry,
    record,
    resend,
    take,
)

LEFT = timedelta(seconds=1)  # until a fresh sender counts as gone
NEW = Ledger(
    DAY,
    DayState.SENDING,
    by="me",
    collapse_id=collapse_id("u", DAY),
    window_start=WINDOW.start,
    window_end=WINDOW.end,
    expire_at=SLOT + timedelta(days=30),
)
CHARGED = Opening("u", DAY, "me", SLOT, None, failures=3, crashes=1, reason="refusal")


def swept(found: Ledger | None, *, active: bool = True, over: bool = False) -> Decision:
    return delivery.sweep("me", Snapshot(found, NOW, active), TERMS, over=over)


def legacy(found: Ledger | None, summary: Summary = THEIRS, *, active: bool = True) -> Decision:
    return delivery.legacy(ME, summary, Snapshot(found, NOW, active), TERMS)


@pytest.mark.parametrize("state", [DayState.SKIPPED, DayState.MISSED, DayState.DEAD])
def test_a_day_that_ends_is_written_whole(state: DayState) -> None:
    assert close(state, None) == Decision(NextStep.FINAL, replace(NEW, state=state, outcome="why"), write=True)


def test_a_dead_day_says_of_what_and_no_other_does() -> None:
    told = {
        state: delivery.end_day(CHARGED, state, "failures", Snapshot(None, NOW), TERMS).entry
        for state in (DayState.DEAD, DayState.MISSED)
    }
    bare = replace(NEW, outcome="failures", failures=3, crashes=1, window_start=None, window_end=None)
    assert told == {
        DayState.DEAD: replace(bare, state=DayState.DEAD, reason="refusal"),
        DayState.MISSED: replace(bare, state=DayState.MISSED),
    }


@pytest.mark.parametrize(("charged", "reason"), [(CHARGED, "refusal"), (replace(CHARGED, reason=""), "push")])
def test_an_open_day_of_who_is_dead_is_given_up_with_its_counts(charged: Opening, reason: str) -> None:
    found = entry(DayState.PENDING, reason="push")
    ended = delivery.end_day(charged, DayState.DEAD, "crashes", Snapshot(found, NOW), TERMS)
    given_up = replace(found, state=DayState.GAVE_UP, outcome="crashes", failures=3, crashes=1, reason=reason)
    assert ended == Decision(NextStep.FINAL, given_up, write=True)


def test_a_sender_is_fresh_until_the_very_instant_at_which_it_is_stale() -> None:
    for found in (entry(DayState.SENDING), entry(DayState.SENDING, sending_at=STALE)):
        fresh = found.sending_at == FRESH
        assert (close(DayState.DEAD, found).step is NextStep.BUSY) is fresh
        assert (take(found).step is NextStep.BUSY) is fresh
        assert (swept(found).step is NextStep.BUSY) is fresh
        assert (resend(found).step is NextStep.REFUSED) is fresh
    unstamped = entry(DayState.SENDING, sending_at=None)  # its clock is not known: it counts from now
    assert take(unstamped) == Decision(NextStep.BUSY, unstamped, TERMS.stale)


@pytest.mark.parametrize(("ahead", "restamped"), [(TERMS.stale, False), (TERMS.stale + LEFT, True)])
def test_a_sender_stamped_by_a_clock_that_was_ahead_is_stamped_again(ahead: timedelta, restamped: bool) -> None:
    found = entry(DayState.SENDING, sending_at=NOW + ahead)
    decision = take(found)
    assert (decision.step, decision.write) == (NextStep.BUSY, restamped)
    assert decision.wait == (TERMS.stale if restamped else TERMS.stale + ahead)


def test_another_hands_summary_makes_the_day_sent_and_the_window_end_with_it() -> None:
    early = replace(THEIRS, created_at=SLOT - timedelta(hours=1))
    base = replace(
        NEW,
        state=DayState.SENT,
        outcome="legacy",
        title="🎈 Their head",
        body="Their text",
        summary_id="2026-05-01",
        window_start=None,
    )
    assert legacy(None) == Decision(
        NextStep.FINAL, replace(base, created_at=NOW, window_end=SLOT), write=True, stamp_sent=True
    )
    assert legacy(None, early).entry == replace(base, created_at=early.created_at, window_end=early.created_at)
    assert begin(summary=early) == legacy(None, early)
    assert legacy(None, active=False) == Decision(NextStep.NO_USER)


def test_a_resend_beside_another_hands_summary_raises_the_sequence() -> None:
    found = entry(DayState.SKIPPED, seq=4)
    made = begin(found, replaces=found, summary=THEIRS)
    assert made.entry is not None
    assert (made.entry.seq, made.entry.outcome) == (5, "legacy")


@pytest.mark.parametrize("state", [state for state in DayState if state is not DayState.UNREADABLE])
def test_another_hands_summary_changes_no_ledger_that_is_there(state: DayState) -> None:
    kind = NextStep.FINAL if state.final else NextStep.TAKE
    assert legacy(entry(state)) == Decision(kind, entry(state))


def test_begin_is_written_whole() -> None:
    sending = replace(
        NEW,
        tries=1,
        title="🌤️ Head",
        body="Push",
        summary_id="2026-05-01",
        created_at=RECAP.created_at,
        verified=False,
    )
    assert begin() == Decision(NextStep.PUSH, sending, write=True, stamp_sending=True, recap=RECAP)
    done = replace(sending, state=DayState.SENT, outcome="no_devices", tries=0)
    assert begin(has_devices=False) == Decision(NextStep.FINAL, done, write=True, stamp_sent=True, recap=RECAP)


def test_a_window_that_is_none_is_never_stored() -> None:
    bare = delivery.end_day(replace(ME, window=None), DayState.SKIPPED, "w", Snapshot(None, NOW), TERMS)
    assert bare.entry is not None
    assert (bare.entry.window_start, bare.entry.window_end) == (None, None)
    assert Window(SLOT, SLOT).is_empty


@pytest.mark.parametrize("found", [entry(DayState.PENDING), entry(DayState.SENDING, sending_at=STALE)])
def test_who_takes_is_the_sender_from_now_on(found: Ledger) -> None:
    taken = replace(found, state=DayState.SENDING, by="me", tries=2)
    assert take(found) == Decision(NextStep.PUSH, taken, write=True, stamp_sending=True)
    assert swept(found) == take(found)


def test_the_last_push_is_followed_by_giving_up() -> None:
    found = entry(DayState.PENDING, tries=3)
    given_up = Decision(NextStep.FINAL, replace(found, state=DayState.GAVE_UP, outcome="pushes"), write=True)
    assert (take(found), swept(found)) == (given_up, given_up)


SWEPT: list[tuple[str, Ledger | None, dict[str, Any], Decision]] = [
    ("erased with its account", None, {}, Decision(NextStep.NO_USER)),
    ("ended meanwhile", entry(DayState.SENT), {"over": True}, Decision(NextStep.FINAL, entry(DayState.SENT))),
    ("fresh", entry(DayState.SENDING), {"active": False}, Decision(NextStep.BUSY, entry(DayState.SENDING), LEFT)),
    ("fresh and over", entry(DayState.SENDING), {"over": True}, Decision(NextStep.BUSY, entry(DayState.SENDING), LEFT)),
    ("our own", entry(DayState.SENDING, by="me"), {}, Decision(NextStep.PUSH, entry(DayState.SENDING, by="me"))),
]


@pytest.mark.parametrize(("found", "how", "decision"), [row[1:] for row in SWEPT], ids=[row[0] for row in SWEPT])
def test_the_sweep_leaves_what_is_not_its_own(found: Ledger | None, how: dict[str, Any], decision: Decision) -> None:
    assert swept(found, **how) == decision


@pytest.mark.parametrize("found", [entry(DayState.PENDING), entry(DayState.SENDING, sending_at=STALE)])
def test_the_sweep_gives_up_who_is_gone_and_what_is_over(found: Ledger) -> None:
    for how, outcome in (({"active": False, "over": True}, "user_gone_or_off"), ({"over": True}, "undelivered")):
        given_up = replace(found, state=DayState.GAVE_UP, outcome=outcome)
        assert swept(found, **how) == Decision(NextStep.FINAL, given_up, write=True)


def test_recording_that_is_repeated_counts_no_push_twice() -> None:
    first = record(MINE, {"a": PushResult.ACCEPTED, "b": PushResult.BUSY}).entry
    again = record(first, {"a": PushResult.ACCEPTED, "b": PushResult.BUSY}).entry
    assert first is not None
    assert again is not None
    assert (first.repeats, again.repeats, again.state) == (0, 0, DayState.PENDING)
    others = record(replace(first, by="another"), {"a": PushResult.ACCEPTED, "b": PushResult.BUSY}).entry
    assert others is not None
    assert others.repeats == 1


def test_a_device_that_has_the_recap_has_it_whatever_became_of_its_token() -> None:
    late = record(replace(MINE, devices={"a": "accepted"}), {"a": PushResult.GONE, "b": PushResult.REFUSED})
    assert late.entry is not None
    assert (late.entry.state, late.entry.outcome, dict(late.entry.devices)) == (DayState.SENT, "", {"a": "accepted"})
