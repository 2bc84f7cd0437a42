"""The ledger's transitions, row by row: docs/protocol.md, section 4."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from notifications.domain import delivery
from notifications.domain.delivery import Decision, LedgerRules, NextStep, Opening, Snapshot
from notifications.domain.model import Cited, DayState, Draft, Ledger, Recap, Summary, Window, collapse_id
from notifications.domain.push import PushResult

NOW = datetime(2026, 5, 1, 20, 5, tzinfo=UTC)
SLOT = datetime(2026, 5, 1, 20, tzinfo=UTC)
DAY = date(2026, 5, 1)
TERMS = LedgerRules(stale=timedelta(seconds=120), max_pushes=3, retention=timedelta(days=30))
WINDOW = Window(SLOT - timedelta(days=1), SLOT)
ME = Opening("u", DAY, "me", SLOT, WINDOW)
RECAP = Recap("2026-05-01", DAY, NOW, Draft("Head", (Cited("Over"),), "🌤️", push="Push"), 2, 30)
THEIRS = Summary("2026-05-01", NOW, "Their head", "Their text", "🎈")
FRESH, STALE = NOW - timedelta(seconds=119), NOW - timedelta(seconds=120)
ENDED = [state for state in DayState if state.final]


def entry(state: DayState, **changes: Any) -> Ledger:
    base = Ledger(DAY, state, by="other", sending_at=FRESH, tries=1, title="T", body="B", summary_id="2026-05-01")
    return replace(base, **changes)


def close(state: DayState, found: Ledger | None, active: bool = True) -> Decision:
    return delivery.end_day(ME, state, "why", Snapshot(found, NOW, active), TERMS)


def begin(found: Ledger | None = None, **changes: Any) -> Decision:
    given: dict[str, Any] = {"has_devices": True, "replaces": None, "active": True, "summary": None} | changes
    seen = Snapshot(found, NOW, given.pop("active"), given.pop("summary"))
    return delivery.begin(ME, RECAP, seen, TERMS, **given)


def take(found: Ledger | None, by: str = "me") -> Decision:
    return delivery.take(by, Snapshot(found, NOW), TERMS)


def record(found: Ledger | None, results: dict[str, PushResult], **changes: Any) -> Decision:
    given: dict[str, Any] = {"sent_nothing": False, "last_chance": False, "by": "me", "seq": 1} | changes
    return delivery.record_pushes(given.pop("by"), given.pop("seq"), results, ledger=found, **given)


def resend(found: Ledger | None, **changes: Any) -> Decision:
    given: dict[str, Any] = {"active": True, "claim_live": False, "read_time": NOW} | changes
    seen = Snapshot(found, given.pop("read_time"), given.pop("active"))
    return delivery.resend(seen, TERMS, **given)


def written(decision: Decision) -> Ledger:
    assert decision.write
    assert decision.entry is not None
    return decision.entry


@pytest.mark.parametrize("state", [DayState.SKIPPED, DayState.MISSED, DayState.DEAD])
def test_close_writes_nothing_about_who_is_gone(state: DayState) -> None:
    assert close(state, None, active=False) == Decision(NextStep.NO_USER)


@pytest.mark.parametrize("state", [DayState.SKIPPED, DayState.MISSED, DayState.DEAD])
def test_close_creates_the_day(state: DayState) -> None:
    made = written(close(state, None))
    assert (made.state, made.outcome, made.seq, made.tries) == (state, "why", 1, 0)
    assert made.expire_at == SLOT + timedelta(days=30)
    assert made.collapse_id == collapse_id("u", DAY)


@pytest.mark.parametrize("found", ENDED)
@pytest.mark.parametrize("asked", [DayState.SKIPPED, DayState.MISSED, DayState.DEAD])
def test_close_leaves_an_ended_day(asked: DayState, found: DayState) -> None:
    assert close(asked, entry(found)) == Decision(NextStep.FINAL, entry(found))


@pytest.mark.parametrize("found", [DayState.PENDING, DayState.SENDING])
@pytest.mark.parametrize("asked", [DayState.SKIPPED, DayState.MISSED])
def test_close_takes_what_another_run_began(asked: DayState, found: DayState) -> None:
    assert close(asked, entry(found)) == Decision(NextStep.TAKE, entry(found))


def test_dead_gives_up_an_open_day_but_waits_for_a_fresh_sender() -> None:
    assert written(close(DayState.DEAD, entry(DayState.PENDING))).state is DayState.GAVE_UP
    assert written(close(DayState.DEAD, entry(DayState.SENDING, sending_at=STALE))).state is DayState.GAVE_UP
    assert close(DayState.DEAD, entry(DayState.SENDING)) == Decision(
        NextStep.BUSY, entry(DayState.SENDING), timedelta(seconds=1)
    )


def test_begin_creates_ledger_and_summary_together() -> None:
    decision = begin()
    made = written(decision)
    assert (decision.step, decision.recap, decision.stamp_sending) == (NextStep.PUSH, RECAP, True)
    assert (made.state, made.by, made.tries, made.seq) == (DayState.SENDING, "me", 1, 1)
    assert (made.title, made.body, made.summary_id) == ("🌤️ Head", "Push", "2026-05-01")
    assert (made.window_start, made.window_end) == (WINDOW.start, WINDOW.end)


def test_begin_without_devices_is_sent_at_once() -> None:
    decision = begin(has_devices=False)
    made = written(decision)
    assert (decision.step, made.state, made.outcome, made.tries) == (NextStep.FINAL, DayState.SENT, "no_devices", 0)
    assert decision.recap == RECAP
    assert decision.stamp_sent


def test_begin_writes_nothing_about_who_is_gone() -> None:
    assert begin(active=False) == Decision(NextStep.NO_USER)


def test_begin_respects_a_summary_by_another_hand() -> None:
    decision = begin(summary=THEIRS)
    made = written(decision)
    assert (decision.step, decision.recap) == (NextStep.FINAL, None)
    assert (made.state, made.outcome, made.title, made.body) == (DayState.SENT, "legacy", "🎈 Their head", "Their text")
    assert made.window_end == SLOT  # min(created_at, slot)
    assert made.window_start is None


@pytest.mark.parametrize("state", ENDED)
def test_begin_throws_its_text_away_where_the_day_ended(state: DayState) -> None:
    assert begin(entry(state)) == Decision(NextStep.FINAL, entry(state))


@pytest.mark.parametrize("state", [DayState.SKIPPED, DayState.MISSED, DayState.DEAD])
def test_a_resends_begin_replaces_only_what_it_read(state: DayState) -> None:
    found = entry(state, seq=4)
    made = written(begin(found, replaces=found))
    assert (made.state, made.seq) == (DayState.SENDING, 5)
    assert begin(replace(found, seq=5), replaces=found).step is NextStep.FINAL
    assert begin(entry(DayState.SENT, seq=4), replaces=found).step is NextStep.FINAL


def test_take_of_each_state() -> None:
    for state in ENDED:
        assert take(entry(state)) == Decision(NextStep.FINAL, entry(state))
    assert take(None) == Decision(NextStep.NO_USER)
    mine = entry(DayState.SENDING, by="me", tries=2)
    assert take(mine) == Decision(NextStep.PUSH, mine)  # the reply was lost: no try is taken again
    assert take(entry(DayState.SENDING)) == Decision(NextStep.BUSY, entry(DayState.SENDING), timedelta(seconds=1))
    for found in (entry(DayState.PENDING, tries=2), entry(DayState.SENDING, sending_at=STALE, tries=2)):
        taken = written(take(found))
        assert (taken.state, taken.by, taken.tries) == (DayState.SENDING, "me", 3)
    for found in (entry(DayState.PENDING, tries=3), entry(DayState.SENDING, sending_at=STALE, tries=3)):
        assert written(take(found)).state is DayState.GAVE_UP


MINE = entry(DayState.SENDING, by="me", tries=2)


def test_report_for_an_erased_account_or_after_a_resend() -> None:
    assert record(None, {}) == Decision(NextStep.NO_USER)
    assert record(replace(MINE, seq=2), {"a": PushResult.ACCEPTED}) == Decision(NextStep.REFUSED, replace(MINE, seq=2))


def test_sent_is_never_taken_back() -> None:
    sent = entry(DayState.SENT)
    assert record(sent, {"a": PushResult.UNKNOWN}) == Decision(NextStep.FINAL, sent)


@pytest.mark.parametrize("by", ["me", "other"])
@pytest.mark.parametrize("state", [DayState.SENDING, DayState.PENDING])
def test_what_fcm_accepted_counts_whoever_reports_it(state: DayState, by: str) -> None:
    made = written(record(entry(state, by=by), {"a": PushResult.ACCEPTED, "b": PushResult.GONE}))
    assert (made.state, dict(made.devices)) == (DayState.SENT, {"a": "accepted", "b": "gone"})


def test_a_day_whose_devices_are_all_gone_says_so() -> None:
    assert written(record(MINE, {"a": PushResult.GONE})).outcome == "no_devices"


def test_after_giving_up_only_devices_are_merged() -> None:
    found = entry(DayState.GAVE_UP, outcome="undelivered")
    late = record(found, {"a": PushResult.ACCEPTED, "b": PushResult.BUSY})
    assert late == Decision(NextStep.FINAL, replace(found, devices={"a": "accepted"}), write=True)


def test_a_push_that_was_given_up_and_then_accepted_everywhere_was_sent() -> None:
    """Knowing that it was accepted is monotone, whoever reports it, however late."""
    made = written(record(entry(DayState.GAVE_UP, outcome="undelivered"), {"a": PushResult.ACCEPTED}))
    assert (made.state, made.outcome, dict(made.devices)) == (DayState.SENT, "", {"a": "accepted"})


@pytest.mark.parametrize(
    ("result", "tries"),
    [(PushResult.BUSY, 1), (PushResult.UNSENT, 1), (PushResult.REFUSED, 1), (PushResult.UNKNOWN, 2)],
)
def test_a_definite_failure_gives_its_try_back(result: PushResult, tries: int) -> None:
    decision = record(MINE, {"a": result})
    made = written(decision)
    assert (decision.step, made.state, made.tries) == (NextStep.RETRY, DayState.PENDING, tries)


def test_a_passed_deadline_gives_its_try_back() -> None:
    assert written(record(MINE, {"a": PushResult.UNSENT}, sent_nothing=True)).tries == 1


def test_a_refused_device_waits_only_while_no_other_got_it() -> None:
    both = record(MINE, {"a": PushResult.ACCEPTED, "b": PushResult.REFUSED})
    assert written(both).state is DayState.SENT
    assert written(record(MINE, {"b": PushResult.REFUSED})).state is DayState.PENDING


def test_a_device_that_another_sender_reached_is_not_open() -> None:
    assert written(record(replace(MINE, devices={"a": "accepted"}), {"a": PushResult.UNKNOWN})).state is DayState.SENT


@pytest.mark.parametrize("found", [entry(DayState.SENDING), entry(DayState.PENDING, by="me")])
def test_a_stale_or_repeated_report_only_merges(found: Ledger) -> None:
    decision = record(found, {"a": PushResult.ACCEPTED, "b": PushResult.BUSY})
    made = written(decision)
    assert decision.step is NextStep.RETRY
    assert made == replace(found, devices={"a": "accepted"})


def test_the_last_chance_gives_up() -> None:
    decision = record(MINE, {"a": PushResult.BUSY}, last_chance=True)
    made = written(decision)
    assert (decision.step, made.state, made.outcome) == (NextStep.FINAL, DayState.GAVE_UP, "undelivered")


def test_resend_is_refused_while_a_send_is_fresh() -> None:
    assert resend(entry(DayState.SENDING)).step is NextStep.REFUSED
    assert resend(entry(DayState.SENT), claim_live=True).step is NextStep.REFUSED
    assert resend(entry(DayState.SENT), active=False).step is NextStep.NO_USER


def test_an_operator_who_repeats_the_command_at_once_wished_once() -> None:
    assert resend(entry(DayState.SENT, seq=1, sent_at=FRESH)).step is NextStep.RETRY
    assert resend(entry(DayState.SENT, seq=2, sent_at=FRESH)).step is NextStep.REFUSED
    assert resend(entry(DayState.SENT, seq=2, sent_at=STALE)).step is NextStep.RETRY


def test_resend_bumps_an_ended_delivery_and_finishes_an_open_one() -> None:
    for state in (DayState.SENT, DayState.GAVE_UP):
        made = written(resend(entry(state, seq=3, tries=2, devices={"a": "accepted"})))
        assert (made.state, made.seq, made.tries, dict(made.devices)) == (DayState.PENDING, 4, 0, {})
    for found in (entry(DayState.PENDING), entry(DayState.SENDING, sending_at=STALE)):
        assert resend(found) == Decision(NextStep.RETRY, found)
    for state in (DayState.SKIPPED, DayState.MISSED, DayState.DEAD):
        assert resend(entry(state)) == Decision(NextStep.FINAL, entry(state))
    assert resend(None) == Decision(NextStep.FINAL, None)
