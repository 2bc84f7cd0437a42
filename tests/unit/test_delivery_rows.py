"""Whole decisions about a delivery, row by row: what is answered, what is stored, which clock stamps it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from notifications.domain import delivery, delivery_report
from notifications.domain.delivery import Decision, Kind, Opening, Snapshot
from notifications.domain.delivery_report import message
from notifications.domain.model import Ledger, State, Summary, Window, collapse_id
from notifications.domain.push import TTL, Message, Result
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
    report,
    resend,
    take,
)

LEFT = timedelta(seconds=1)  # until a fresh sender counts as gone
NEW = Ledger(
    DAY,
    State.SENDING,
    by="me",
    collapse_id=collapse_id("u", DAY),
    window_start=WINDOW.start,
    window_end=WINDOW.end,
    expire_at=SLOT + timedelta(days=30),
)
CHARGED = Opening("u", DAY, "me", SLOT, None, failures=3, crashes=1, reason="refusal")


def swept(found: Ledger | None, *, active: bool = True, over: bool = False) -> Decision:
    return delivery_report.sweep("me", Snapshot(found, NOW, active), TERMS, over=over)


def legacy(found: Ledger | None, summary: Summary = THEIRS, *, active: bool = True) -> Decision:
    return delivery.legacy(ME, summary, Snapshot(found, NOW, active), TERMS)


@pytest.mark.parametrize("state", [State.SKIPPED, State.MISSED, State.DEAD])
def test_a_day_that_ends_is_written_whole(state: State) -> None:
    assert close(state, None) == Decision(Kind.FINAL, replace(NEW, state=state, outcome="why"), write=True)


def test_a_dead_day_says_of_what_and_no_other_does() -> None:
    told = {
        state: delivery.end_day(CHARGED, state, "failures", Snapshot(None, NOW), TERMS).entry
        for state in (State.DEAD, State.MISSED)
    }
    bare = replace(NEW, outcome="failures", failures=3, crashes=1, window_start=None, window_end=None)
    assert told == {
        State.DEAD: replace(bare, state=State.DEAD, reason="refusal"),
        State.MISSED: replace(bare, state=State.MISSED),
    }


@pytest.mark.parametrize(("charged", "reason"), [(CHARGED, "refusal"), (replace(CHARGED, reason=""), "push")])
def test_an_open_day_of_who_is_dead_is_given_up_with_its_counts(charged: Opening, reason: str) -> None:
    found = entry(State.PENDING, reason="push")
    ended = delivery.end_day(charged, State.DEAD, "crashes", Snapshot(found, NOW), TERMS)
    given_up = replace(found, state=State.GAVE_UP, outcome="crashes", failures=3, crashes=1, reason=reason)
    assert ended == Decision(Kind.FINAL, given_up, write=True)


def test_a_sender_is_fresh_until_the_very_instant_at_which_it_is_stale() -> None:
    for found in (entry(State.SENDING), entry(State.SENDING, sending_at=STALE)):
        fresh = found.sending_at == FRESH
        assert (close(State.DEAD, found).kind is Kind.BUSY) is fresh
        assert (take(found).kind is Kind.BUSY) is fresh
        assert (swept(found).kind is Kind.BUSY) is fresh
        assert (resend(found).kind is Kind.REFUSED) is fresh
    unstamped = entry(State.SENDING, sending_at=None)  # its clock is not known: it counts from now
    assert take(unstamped) == Decision(Kind.BUSY, unstamped, TERMS.stale)


def test_another_hands_summary_makes_the_day_sent_and_the_window_end_with_it() -> None:
    early = replace(THEIRS, created_at=SLOT - timedelta(hours=1))
    base = replace(
        NEW,
        state=State.SENT,
        outcome="legacy",
        title="🎈 Their head",
        body="Their text",
        summary_id="2026-05-01",
        window_start=None,
    )
    assert legacy(None) == Decision(
        Kind.FINAL, replace(base, created_at=NOW, window_end=SLOT), write=True, stamp_sent=True
    )
    assert legacy(None, early).entry == replace(base, created_at=early.created_at, window_end=early.created_at)
    assert begin(summary=early) == legacy(None, early)
    assert legacy(None, active=False) == Decision(Kind.NOBODY)


def test_a_resend_beside_another_hands_summary_raises_the_sequence() -> None:
    found = entry(State.SKIPPED, seq=4)
    made = begin(found, replaces=found, summary=THEIRS)
    assert made.entry is not None
    assert (made.entry.seq, made.entry.outcome) == (5, "legacy")


@pytest.mark.parametrize("state", [state for state in State if state is not State.UNREADABLE])
def test_another_hands_summary_changes_no_ledger_that_is_there(state: State) -> None:
    kind = Kind.FINAL if state.final else Kind.TAKE
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
    assert begin() == Decision(Kind.PUSH, sending, write=True, stamp_sending=True, recap=RECAP)
    done = replace(sending, state=State.SENT, outcome="no_devices", tries=0)
    assert begin(has_devices=False) == Decision(Kind.FINAL, done, write=True, stamp_sent=True, recap=RECAP)


def test_a_window_that_is_none_is_never_stored() -> None:
    bare = delivery.end_day(replace(ME, window=None), State.SKIPPED, "w", Snapshot(None, NOW), TERMS)
    assert bare.entry is not None
    assert (bare.entry.window_start, bare.entry.window_end) == (None, None)
    assert Window(SLOT, SLOT).empty


@pytest.mark.parametrize("found", [entry(State.PENDING), entry(State.SENDING, sending_at=STALE)])
def test_who_takes_is_the_sender_from_now_on(found: Ledger) -> None:
    taken = replace(found, state=State.SENDING, by="me", tries=2)
    assert take(found) == Decision(Kind.PUSH, taken, write=True, stamp_sending=True)
    assert swept(found) == take(found)


def test_the_last_push_is_followed_by_giving_up() -> None:
    found = entry(State.PENDING, tries=3)
    given_up = Decision(Kind.FINAL, replace(found, state=State.GAVE_UP, outcome="pushes"), write=True)
    assert (take(found), swept(found)) == (given_up, given_up)


SWEPT: list[tuple[str, Ledger | None, dict[str, Any], Decision]] = [
    ("erased with its account", None, {}, Decision(Kind.NOBODY)),
    ("ended meanwhile", entry(State.SENT), {"over": True}, Decision(Kind.FINAL, entry(State.SENT))),
    ("fresh", entry(State.SENDING), {"active": False}, Decision(Kind.BUSY, entry(State.SENDING), LEFT)),
    ("fresh and over", entry(State.SENDING), {"over": True}, Decision(Kind.BUSY, entry(State.SENDING), LEFT)),
    ("our own", entry(State.SENDING, by="me"), {}, Decision(Kind.PUSH, entry(State.SENDING, by="me"))),
]


@pytest.mark.parametrize(("found", "how", "decision"), [row[1:] for row in SWEPT], ids=[row[0] for row in SWEPT])
def test_the_sweep_leaves_what_is_not_its_own(found: Ledger | None, how: dict[str, Any], decision: Decision) -> None:
    assert swept(found, **how) == decision


@pytest.mark.parametrize("found", [entry(State.PENDING), entry(State.SENDING, sending_at=STALE)])
def test_the_sweep_gives_up_who_is_gone_and_what_is_over(found: Ledger) -> None:
    for how, outcome in (({"active": False, "over": True}, "user_gone_or_off"), ({"over": True}, "undelivered")):
        given_up = replace(found, state=State.GAVE_UP, outcome=outcome)
        assert swept(found, **how) == Decision(Kind.FINAL, given_up, write=True)


def test_a_report_is_written_whole() -> None:
    busy = report(MINE, {"a": Result.ACCEPTED, "b": Result.BUSY}, reason="unavailable")
    pending = replace(MINE, state=State.PENDING, tries=1, devices={"a": "accepted"}, reason="unavailable")
    assert busy == Decision(Kind.RETRY, pending, write=True)
    sent = replace(MINE, state=State.SENT, devices={"a": "accepted"}, outcome="", reason="")
    before = replace(MINE, reason="push", outcome="resend")
    assert report(before, {"a": Result.ACCEPTED}, reason="x") == Decision(Kind.FINAL, sent, write=True, stamp_sent=True)
    over = report(MINE, {"a": Result.UNKNOWN}, last_chance=True, reason="no_answer")
    given_up = replace(MINE, state=State.GAVE_UP, outcome="undelivered", reason="no_answer")
    assert over == Decision(Kind.FINAL, given_up, write=True)


def test_devices_are_added_to_those_that_are_known_and_repeats_are_counted() -> None:
    known = replace(MINE, devices={"a": "accepted", "c": "gone"}, repeats=1)
    made = report(known, {"a": Result.ACCEPTED, "b": Result.GONE, "c": Result.GONE}).entry
    assert made is not None
    assert (dict(made.devices), made.repeats) == ({"a": "accepted", "b": "gone", "c": "gone"}, 2)


def test_a_report_that_is_repeated_counts_no_push_twice() -> None:
    first = report(MINE, {"a": Result.ACCEPTED, "b": Result.BUSY}).entry
    again = report(first, {"a": Result.ACCEPTED, "b": Result.BUSY}).entry
    assert first is not None
    assert again is not None
    assert (first.repeats, again.repeats, again.state) == (0, 0, State.PENDING)
    others = report(replace(first, by="another"), {"a": Result.ACCEPTED, "b": Result.BUSY}).entry
    assert others is not None
    assert others.repeats == 1


def test_a_device_that_has_the_recap_has_it_whatever_became_of_its_token() -> None:
    late = report(replace(MINE, devices={"a": "accepted"}), {"a": Result.GONE, "b": Result.REFUSED})
    assert late.entry is not None
    assert (late.entry.state, late.entry.outcome, dict(late.entry.devices)) == (State.SENT, "", {"a": "accepted"})


def test_a_try_that_sent_nothing_leaves_the_day_open_and_uncharged() -> None:
    nothing = report(MINE, {}, sent_nothing=True)
    assert nothing == Decision(Kind.RETRY, replace(MINE, state=State.PENDING, tries=1), write=True)
    mixed = report(MINE, {"a": Result.BUSY, "b": Result.UNKNOWN})
    assert mixed.entry is not None
    assert mixed.entry.tries == 2  # one of them may have been accepted


def test_a_resend_opens_the_day_whole() -> None:
    found = entry(State.SENT, seq=3, tries=2, devices={"a": "accepted"}, sent_at=STALE, reason="x")
    again = replace(found, state=State.PENDING, outcome="resend", seq=4, tries=0, devices={}, sent_at=None)
    assert resend(found) == Decision(Kind.RETRY, again, write=True)
    assert resend(entry(State.SENT, seq=2, sent_at=None)).kind is Kind.RETRY
    assert resend(entry(State.GAVE_UP, seq=2, sent_at=FRESH)).kind is Kind.RETRY
    just = entry(State.SENT, seq=2, sent_at=FRESH)
    assert resend(just) == Decision(Kind.REFUSED, just)
    assert resend(None, active=False) == Decision(Kind.NOBODY)
    assert resend(None, claim_live=True) == Decision(Kind.REFUSED, None)


def test_what_is_pushed_is_what_the_ledger_says() -> None:
    found = entry(State.SENDING, collapse_id="tag", created_at=SLOT)
    said = Message("ann", "tag", "T", "B", "2026-05-01", SLOT, SLOT + TTL)
    assert message("ann", found, NOW) == said
    assert message("ann", replace(found, seq=2), NOW) == replace(said, expires_at=NOW + TTL)
    assert message("ann", replace(found, created_at=None), NOW) == replace(said, created_at=None, expires_at=NOW + TTL)
